"""What a board can check by itself, asked over its USB port: one row a check, in the order they are made.

Each check's code runs on the board, below MicroPython's raw REPL, and answers [is it well?, what was found]. Secrets
stay on the board: the Wi-Fi is joined there, with what settings.json has.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from metering.pulse_parts import RATES

from ..settings.on_board import ANSWER, Board, ConfigError

_PATTERN = b"optoprobe 0x55AA"
_LEAST_HEAP = 40_000  # bytes; beside what Wi-Fi takes, a reading of SML needs 56 KiB of the first area
_CLOCK_S = 2.0
_CLOCK_PERCENT = 1
_WATCHDOG_MS = 2000
_JOIN_S = 20
_CONNECT_S = 10
_RTC_USED = 700  # bytes: behind the count of restarts and an LED's total
# Every line that a meter is looked for or read on: baud, bits, parity (MicroPython's: 0 is even), stop bits.
LINES = (
    (300, 7, 0, 1), (1200, 7, 0, 1), (2400, 7, 0, 1), (2400, 8, 0, 1), (9600, 7, 0, 1), (9600, 8, None, 1),
    (9600, 8, 0, 1), (19200, 8, None, 1), (38400, 8, None, 1), (115200, 8, None, 1), (115200, 7, None, 1),
    (345600, 8, None, 1),  # edges are sampled so
)  # fmt: skip
_FLASHES = b"\xff" * 8  # a start bit each: to a meter's LED as the flash recorder hears it, one byte


class Finding(NamedTuple):
    """`well` is None for what was not checked."""

    name: str
    well: bool | None
    said: str


_ABOUT = """
import os, sys
answer([True, "MicroPython %d.%d.%d on %s" % (sys.implementation.version[:3] + (sys.platform,))])
"""
_HEAP = f"""
import gc
gc.collect()
free = gc.mem_free()
size, held = 1024, None
try:
    while size < 65536:
        held = None
        held = bytearray(2 * size)
        size *= 2
except MemoryError:
    pass
held = None
gc.collect()
answer([free >= {_LEAST_HEAP}, "%d bytes free, a piece of %d" % (free, size)])
"""
_FILES = """
import os
text = bytes(range(256)) * 16
with open("selftest.new", "wb") as file:
    file.write(text)
os.rename("selftest.new", "selftest.bin")
with open("selftest.bin", "rb") as file:
    well = file.read() == text
os.remove("selftest.bin")
free = os.statvfs("/")
answer([well, "4096 bytes written, renamed, read, removed; %d bytes free" % (free[0] * free[3])])
"""
_TICKS = """
import time
answer([True, time.ticks_ms()])
"""
_RTC_PUT = f"""
import machine
rtc = machine.RTC()
rtc.memory((rtc.memory() + bytes({_RTC_USED}))[:{_RTC_USED}] + b"optoprobe selftest")
answer([True, ""])
"""
_RTC_LOOK = f"""
import machine
rtc = machine.RTC()
well = rtc.memory()[{_RTC_USED}:] == b"optoprobe selftest"
rtc.memory(rtc.memory()[:{_RTC_USED}])
answer([well, "kept over a reset" if well else "lost in a reset"])
"""
_WATCHDOG_ARM = f"import machine, time\nmachine.WDT(timeout={_WATCHDOG_MS})\nwhile True:\n    time.sleep_ms(100)\n"
_WATCHDOG_LOOK = """
import machine
cause = machine.reset_cause()
answer([cause == machine.WDT_RESET, "cause of the restart: %d" % cause])
"""
_WIFI = f"""
import json, network, time
with open("settings.json") as file:
    values = json.load(file)
wlan = network.WLAN(network.STA_IF)
wlan.active(True)
if not wlan.isconnected():
    wlan.connect(values.get("wifi_ssid", ""), values.get("wifi_password", ""))
for _ in range({_JOIN_S * 10}):
    if wlan.isconnected():
        break
    time.sleep_ms(100)
well = wlan.isconnected()
answer([well, "joined, %d dBm" % wlan.status("rssi") if well else "not joined: check its name and password"])
"""
_BROKER = f"""
import json, socket
with open("settings.json") as file:
    values = json.load(file)
tls = values.get("mqtt_tls_ca") or values.get("mqtt_tls_cert") or values.get("mqtt_tls_key")
port = values.get("mqtt_port", 8883 if tls else 1883)  # as firmware.settings has it
line = socket.socket()
line.settimeout({_CONNECT_S})
try:
    line.connect(socket.getaddrinfo(values.get("mqtt_host", ""), port)[0][-1])
    answer([True, "its port %d answers" % port])
except OSError as error:
    answer([False, "its port %d does not answer (%s): check its address" % (port, error)])
line.close()
"""
# From MicroPython 1.27 on UART() leaves RX what it is behind a reset, JTAG's on a C3's pins 4 to 7.
_OPEN_BOARD = """
import json, machine, time
with open("board.json") as file:
    uart = json.load(file)["uart"]
machine.Pin(uart["rx"], machine.Pin.IN)
"""
_UART = f"""{_OPEN_BOARD}baud, bits, parity, stop = %r
line = machine.UART(
    uart["id"], baudrate=baud, bits=bits, parity=parity, stop=stop, tx=uart["tx"], rx=uart["rx"], rxbuf=1024,
)
time.sleep_ms(20)
line.read()
pattern = %r
line.write(pattern)
end = time.ticks_add(time.ticks_ms(), 100 + 12000 * len(pattern) // baud)
got = b""
while time.ticks_diff(end, time.ticks_ms()) > 0 and len(got) < len(pattern):
    got += line.read() or b""
line.deinit()
n = sum(1 for a, b in zip(got, pattern) if a == b)
answer([n == len(pattern), "%%d of %%d bytes came back" %% (n, len(pattern))])
"""
_BREAK = f"""{_OPEN_BOARD}line = machine.UART(uart["id"], baudrate=9600, tx=uart["tx"], rx=uart["rx"], rxbuf=1024)
time.sleep_ms(20)
line.read()
line.sendbreak()
time.sleep_ms(50)
got = line.read() or b""
line.deinit()
n = got.count(b"\\0")
answer([n == len(got) and 0 < n < 3, "%d bytes came back, %d of them zeros" % (len(got), n)])
"""
_SWITCH = f"""{_OPEN_BOARD}pins = dict(tx=uart["tx"], rx=uart["rx"], rxbuf=1024)
line = machine.UART(uart["id"], baudrate=300, **pins)
time.sleep_ms(20)
line.write(b"\\x060")
while not line.txdone():
    pass
line.init(baudrate=9600, **pins)
line.write({_PATTERN!r})
time.sleep_ms(100)
got = line.read() or b""
line.deinit()
answer([got == {_PATTERN!r}, "%d bytes came back, %d expected" % (len(got), {len(_PATTERN)})])
"""


def line_words(line: tuple[int, int, int | None, int]) -> str:
    """Such as 300 7E1."""
    return f"{line[0]} {line[1]}{'N' if line[2] is None else 'E'}{line[3]}"


def checks(board: Board, with_mirror: bool) -> Iterator[Finding]:
    """Make every check on `board`. A check that fails stops none."""
    rows: list[tuple[str, Callable[[], tuple[bool, str]]]] = [
        ("MicroPython", lambda: _ask(board, _ABOUT)),
        ("heap", lambda: _ask(board, _HEAP)),
        ("file system", lambda: _ask(board, _FILES)),
        ("clock", lambda: _clock(board)),
        ("RTC memory", lambda: _rtc_memory(board)),
        ("watchdog", lambda: _watchdog(board)),
        ("Wi-Fi", lambda: _ask(board, _WIFI, _JOIN_S + _CONNECT_S)),
        ("broker", lambda: _ask(board, _BROKER, 3 * _CONNECT_S)),
    ]
    if with_mirror:
        for line in LINES:
            rows.append((f"UART {line_words(line)}", lambda line=line: _ask(board, _UART % (line, _PATTERN))))
        for baud in RATES:
            line = (baud, 8, None, 1)
            rows.append((f"flashes {baud}", lambda line=line: _ask(board, _UART % (line, _FLASHES))))
        rows += [("break", lambda: _ask(board, _BREAK)), ("change of baud", lambda: _ask(board, _SWITCH))]
    for name, check in rows:
        try:
            yield Finding(name, *check())
        except ConfigError as error:
            yield Finding(name, False, str(error))
    if not with_mirror:
        yield Finding("UART", None, "not checked: hold a mirror before the head and say --mirror")


def _ask(board: Board, code: str, quiet_s: int = 10) -> tuple[bool, str]:
    well, said = board.ask(ANSWER + code, quiet_s)
    return bool(well), str(said)


def _rtc_memory(board: Board) -> tuple[bool, str]:
    _ask(board, _RTC_PUT)
    board.restart()
    return _ask(board, _RTC_LOOK)


def _watchdog(board: Board) -> tuple[bool, str]:
    board.restart(_WATCHDOG_ARM, _WATCHDOG_MS / 1000 + 1)  # who comes earlier ends the program before it is bitten
    return _ask(board, _WATCHDOG_LOOK)


def _clock(board: Board) -> tuple[bool, str]:
    """Against this computer's, over _CLOCK_S; what the line's own delay leaves open is on the board's side."""

    def look() -> tuple[float, float, int]:
        began_s = time.monotonic()
        ticks_ms = int(board.ask(ANSWER + _TICKS)[1])
        return began_s, time.monotonic(), ticks_ms

    first = look()
    time.sleep(_CLOCK_S)
    last = look()
    ticked_ms = (last[2] - first[2]) % (1 << 30)
    least_ms, most_ms = (last[0] - first[1]) * 1000, (last[1] - first[0]) * 1000
    slack_ms = _CLOCK_PERCENT * most_ms / 100
    well = least_ms - slack_ms <= ticked_ms <= most_ms + slack_ms
    return well, f"{ticked_ms} ms in {least_ms:.0f} to {most_ms:.0f} of this computer's"
