#!/usr/bin/env bash
# libmbus, as node-mbus 2.2.6 brings it, exchanges 100 kJ and MJ of the fixed structure: heat is told ten times wrong.
#
# A meter that answers with CI 73 sends two counters and a unit code of each (EN 1434-3:1997, table 4: 0D is 100 kJ, 0E
# is MJ; the comment above libmbus' own function says so, too). Its switch has them the other way round. So it is with
# the status byte: bit 0 says that counters are binary, bit 1 that they are of a due date; libmbus looks at bits 7 and 6,
# and tells a binary counter of 100 by its hexadecimal digits. Whoever reads an older heat meter or water meter with it,
# or with what is built on it, should compare the first values with the display.
#
# Seen on 2026-11-29 with node-mbus 2.2.6, for counters of 100, in BCD with status 00 and in binary with status 01:
#
#     0C 00 100 10 kJ
#     0D 00 100 MJ
#     0E 00 100 100 kJ
#     0F 00 100 10 MJ
#     0F 01 64 10 MJ
set -eu
command -v npm >/dev/null && command -v gcc >/dev/null || { echo "needs npm and gcc"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
tar xzf "$(npm pack --silent node-mbus@2.2.6)"
cat >ask.c <<'C'
#include <stdio.h>
#include <string.h>
#include "mbus.h"

static void ask(unsigned char unit, unsigned char status, unsigned char low, unsigned char high)
{
    unsigned char frame[] = {0x68, 19, 19, 0x68, 8, 1, 0x73, 0x78, 0x56, 0x34, 0x12, 10, status, unit, 0x3F,
                             low, high, 0, 0, 0, 0, 0, 0, 0, 0x16};
    mbus_frame reply;
    mbus_frame_data data;
    char *xml, *value, *name;
    for (int i = 4; i < 23; i++)
        frame[23] += frame[i];
    memset(&reply, 0, sizeof(reply));
    memset(&data, 0, sizeof(data));
    if (mbus_parse(&reply, frame, sizeof(frame)) || mbus_frame_data_parse(&reply, &data))
        return;
    xml = mbus_frame_data_xml(&data);
    value = strstr(xml, "<Value>") + 7;
    name = strstr(xml, "<Unit>") + 6;
    printf("%02X %02X %.*s %.*s\n", unit, status, (int)strcspn(value, "<"), value, (int)strcspn(name, "<"), name);
}

int main(void)
{
    for (unsigned char unit = 0x0C; unit < 0x10; unit++)
        ask(unit, 0, 0, 1);
    ask(0x0F, 1, 100, 0);
    return 0;
}
C
gcc -w -I package -I package/libmbus -I package/libmbus/mbus -o ask ask.c package/libmbus/mbus/*.c -lm
said=$(./ask)
echo "$said"
[ "$said" = "0C 00 100 10 kJ
0D 00 100 MJ
0E 00 100 100 kJ
0F 00 100 10 MJ
0F 01 64 10 MJ" ] || { echo "it behaves otherwise now"; exit 1; }
