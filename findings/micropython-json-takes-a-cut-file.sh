#!/usr/bin/env bash
# MicroPython 1.25: json takes a text that ends too early as complete, where one bracket is open; 1.26 refuses it.
#
# A file cut short by a loss of power loads in part, without a word: "{"a": 1" is {'a': 1}, "{"a":" is {}. Two open
# brackets or an open string are refused, so a test with those sees nothing. CPython refuses all of them. Who reads JSON
# that a power cut may have torn, on 1.25 or older, must prove by other means that it is whole.
#
# Seen on 2026-11-28 with @micropython/micropython-webassembly-pyscript 1.25.0 and 1.26.0, and with Debian's 1.25.0:
#
#     1.25.0  {"a": 1 -> {'a': 1}    [1, 2 -> [1, 2]    {"a": -> {}    {"a" -> {}    {"a": {"b": 2 -> ValueError
#     1.26.0  all five -> ValueError
set -eu
command -v node >/dev/null && command -v npm >/dev/null || { echo "needs node and npm"; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

said_by() {
    npm install --silent --no-audit --no-fund "@micropython/micropython-webassembly-pyscript@$1" >/dev/null
    cat >ask.mjs <<'JS'
import { loadMicroPython } from "@micropython/micropython-webassembly-pyscript/micropython.mjs";
const micropython = await loadMicroPython();
micropython.runPython(`
import json
for text in ('{"a": 1', '[1, 2', '{"a":', '{"a"', '{"a": {"b": 2'):
    try:
        print(text, "->", json.loads(text))
    except ValueError:
        print(text, "-> ValueError")
`);
JS
    node ask.mjs
}

wanted_old="{\"a\": 1 -> {'a': 1}
[1, 2 -> [1, 2]
{\"a\": -> {}
{\"a\" -> {}
{\"a\": {\"b\": 2 -> ValueError"
old=$(said_by 1.25.0)
new=$(said_by 1.26.0)
printf '1.25.0\n%s\n1.26.0\n%s\n' "$old" "$new"
[ "$old" = "$wanted_old" ] || { echo "1.25.0 behaves otherwise now"; exit 1; }
[ "$(grep -c -- '-> ValueError$' <<<"$new")" = 5 ] || { echo "1.26.0 behaves otherwise now"; exit 1; }
