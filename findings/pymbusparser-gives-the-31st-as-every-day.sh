#!/usr/bin/env bash
# pymbusparser 0.5.3 gives an M-Bus date and time (type F) of a 31st as an object whose day is "every", not as a text.
#
# A day of 31 is the last of seven months; what means "every day" is 0 (EN 13757-3, annex A). Of a date alone (type G)
# the same bytes are read rightly. Whoever stores the text that comes on other days gets an object on seven days a year.
#
# Seen on 2026-11-29 with pymbusparser 0.5.3, for 30 and 31 October 2026, 12:30:
#
#     F 30: 2026-10-30T12:30:00
#     F 31: {'day': 'every', 'hour': 12, 'minute': 30, 'month': 'October', 'year': 2026}
#     G 31: 2026-10-31
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pymbusparser==0.5.3
said=$("$folder/venv/bin/python" - <<'PY'
import pymbusparser

for name, record in (("F 30", "046d1e0c5e3a"), ("F 31", "046d1e0c5f3a"), ("G 31", "026c5f3a")):
    print(f"{name}: {pymbusparser.parse_records(bytes.fromhex(record))[0]['value']['value']}")
PY
)
echo "$said"
[ "$said" = "F 30: 2026-10-30T12:30:00
F 31: {'day': 'every', 'hour': 12, 'minute': 30, 'month': 'October', 'year': 2026}
G 31: 2026-10-31" ] || { echo "it behaves otherwise now"; exit 1; }
