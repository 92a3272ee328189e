#!/usr/bin/env bash
# pyMeterBus 0.8.5 reads a record with a correction factor as if there were none: values are wrong by 10 to 1000.
#
# In M-Bus a VIFE of 70 to 77 multiplies a record by a power of ten from -6 to 1, one of 7D by 1000 (EN 13757-3, table
# of combinable VIFEs). The library accepts the frame, names the quantity and gives the number without the factor;
# nothing in its result tells that there was one.
#
# Seen on 2026-11-29 with pyMeterBus 0.8.5, for records of 1.234 m3, 1234 m3, 0.1234 m3 and 0.001234 m3:
#
#     04 13 d2040000: 1.234 MeasureUnit.M3
#     04 93 7d d2040000: 1.234 MeasureUnit.M3
#     04 93 75 d2040000: 1.234 MeasureUnit.M3
#     04 93 73 d2040000: 1.234 MeasureUnit.M3
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pymeterbus==0.8.5
said=$("$folder/venv/bin/python" - <<'PY'
import json

import meterbus

HEAD = bytes.fromhex("0801727856341200000107 2a000000")
for head in ("04 13", "04 93 7d", "04 93 75", "04 93 73"):
    data = HEAD + bytes.fromhex(head) + (1234).to_bytes(4, "little")
    frame = bytes((0x68, len(data), len(data), 0x68)) + data + bytes((sum(data) & 0xFF, 0x16))
    record = json.loads(meterbus.load(frame).to_JSON())["body"]["records"][0]
    print(f"{head} d2040000: {record['value']} {record['unit']}")
PY
)
echo "$said"
[ "$said" = "04 13 d2040000: 1.234 MeasureUnit.M3
04 93 7d d2040000: 1.234 MeasureUnit.M3
04 93 75 d2040000: 1.234 MeasureUnit.M3
04 93 73 d2040000: 1.234 MeasureUnit.M3" ] || { echo "it behaves otherwise now"; exit 1; }
