#!/usr/bin/env bash
# PyKMP 0.0.2 misreads valid Kamstrup KMP frames: it undoes escapes one value after the other over the whole frame.
#
# KMP sends 1B, 06, 40, 80 and 0D as 1B and the byte turned over. PyKMP replaces 1B E4 by 1B first, and looks at the
# result again: a 1B that was sent, followed by a plain F9, BF, 7F or F2, is taken for another escape. 1B F9 comes back
# as 06, one byte short. Its own encoder writes such frames, its decoder then finds the checksum wrong. A meter's counter
# holds such a pair once in some 16,000 pairs of bytes: the same reading fails each time until the counter moves on.
#
# Seen on 2026-11-28 with PyKMP 0.0.2:
#
#     1bf9 -> 06    1bbf -> 40    1b7f -> 80    1bf2 -> 0d    1be4 -> 1be4    1b00 -> 1b00
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pykmp==0.0.2
said=$("$folder/venv/bin/python" - <<'PY'
from pykmp.codec import PhysicalCodec, PhysicalDirection

codec = PhysicalCodec(direction=PhysicalDirection.FROM_METER)
for second in (0xF9, 0xBF, 0x7F, 0xF2, 0xE4, 0x00):
    sent = bytes((0x1B, second))
    print(sent.hex(), "->", codec.decode(codec.encode(sent)).hex())
PY
)
echo "$said"
[ "$said" = "1bf9 -> 06
1bbf -> 40
1b7f -> 80
1bf2 -> 0d
1be4 -> 1be4
1b00 -> 1b00" ] || { echo "it behaves otherwise now"; exit 1; }
