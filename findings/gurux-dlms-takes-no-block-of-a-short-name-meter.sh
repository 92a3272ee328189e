#!/usr/bin/env bash
# gurux-dlms 1.0.203 takes no block of a short name meter's answer, and asks for the next one without a service's tag.
#
# Where an answer exceeds the agreed length a meter that is asked by short names sends data-block-result (IEC 62056-5-3,
# ReadResponse, choice 2): the list of its objects always. GXDLMSClient.getData() raises AttributeError at each such
# block, the only one included, as GXReplyData has no setTotalCount. The read that receiverReady() builds for the next
# block begins with 00 where ReadRequest's tag is 05, though what follows (one variable, choice 5, the block's number)
# is right. By logical names both work. Whoever tests a short name client against this library, or takes it for such
# meters, gets as far as answers that fit in one PDU (or one chain of HDLC segments).
#
# Seen on 2026-11-29 with gurux-dlms 1.0.203:
#
#     whole -> 4660
#     only block -> AttributeError
#     first block -> AttributeError
#     next block is asked for by 0001050001
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet gurux-dlms==1.0.203
said=$("$folder/venv/bin/python" - <<'PY'
from gurux_dlms import GXByteBuffer, GXDLMSClient, GXReplyData
from gurux_dlms.enums import Authentication, InterfaceType

WRAPPER_BYTES = 8
answers = {"whole": "0c0100121234", "only block": "0c01020100010400121234", "first block": "0c01020000010400090601"}
for name, answer in answers.items():
    client = GXDLMSClient(False, 16, 1, Authentication.NONE, None, InterfaceType.WRAPPER)
    data = bytes.fromhex(answer)
    reply = GXReplyData()
    try:
        client.getData(GXByteBuffer(bytes((0, 1, 0, 1, 0, 16, 0, len(data))) + data), reply)
        print(name, "->", reply.value)
    except AttributeError:
        print(name, "-> AttributeError")
print("next block is asked for by", bytes(client.receiverReady(reply))[WRAPPER_BYTES:].hex())
PY
)
echo "$said"
[ "$said" = "whole -> 4660
only block -> AttributeError
first block -> AttributeError
next block is asked for by 0001050001" ] || { echo "it behaves otherwise now"; exit 1; }
