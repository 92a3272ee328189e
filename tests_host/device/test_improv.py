"""The Wi-Fi given over the console: the unmodified firmware on virtual boards, whose console is a pty that takes a
Ctrl-C as a chip does, and whose `network` knows some Wi-Fi networks with their passwords.

The first client is npm's improv-wifi-serial-sdk, as it is published. The others are bytes, whole and otherwise.
No chip's console and no chip's Wi-Fi have confirmed any of it.
"""

import asyncio
import importlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from support import raw_repl
from support.broker import Listener
from support.runs import times

from optoprobe.building import device_tree
from optoprobe.environment import runtime
from optoprobe.virtual.board import VirtualBoard
from optoprobe.virtual.broker import Broker
from optoprobe.virtual.optical_server import OpticalServer
from optoprobe.virtual.sml_meter import SmlMeter
from optoprobe.virtual.source import MeterSource

SECRET = "correct Pferd 7"
AIR = [("Häuschen", -60, SECRET), ("open", -80, ""), ("Häuschen", -71, SECRET), ("", -40, "hidden")]
READY, TRYING, JOINED = b"\x02", b"\x03", b"\x04"
STATE, ERROR, COMMAND, RESULT = 1, 2, 3, 4
HEAP_BYTES = 200 * 1024  # how much it takes is measured below
WAIT_S = 120  # for what comes at once on an idle machine
CLIENT = Path(__file__).parents[1] / "support" / "improv_client.mjs"


def packet(kind: int, data: bytes) -> bytes:
    body = b"IMPROV\x01" + bytes((kind, len(data))) + data
    return body + bytes((sum(body) & 0xFF,)) + b"\n"


def command(number: int, *texts: bytes) -> bytes:
    data = b"".join(bytes((len(text),)) + text for text in texts)
    return packet(COMMAND, bytes((number, len(data))) + data)


JOIN, ASK_STATE, ASK_INFO, ASK_NETWORKS = 1, 2, 3, 4
WRONG = command(JOIN, "Häuschen".encode(), b"wrong")
RIGHT = command(JOIN, "Häuschen".encode(), SECRET.encode())


class Port:
    """Somebody at a board's console. `text` is all that came."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self.text = b""
        self._seen = 0

    def __enter__(self) -> "Port":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:
                time.sleep(0.01)
            self._read()

    def _read(self) -> None:
        try:
            self.text += os.read(self._fd, 65536)
        except BlockingIOError:
            time.sleep(0.02)

    def wait(self, kind: int, data: bytes) -> None:
        """Read until that packet has come, behind what was waited for last."""
        self.wait_for(packet(kind, data))

    def wait_for(self, text: bytes) -> None:
        until_s = time.monotonic() + WAIT_S
        while (at := self.text.find(text, self._seen)) < 0:
            assert time.monotonic() < until_s, (text, self.text[self._seen :])
            self._read()
        self._seen = at + len(text)

    def ask_until(self, question: bytes, kind: int, data: bytes) -> None:
        """Ask again and again until that is the answer."""
        until_s = time.monotonic() + WAIT_S
        answer = packet(kind, data)
        while (at := self.text.find(answer, self._seen)) < 0:
            assert time.monotonic() < until_s, self.text[self._seen :]
            self.write(question)
            for _ in range(10):
                self._read()
        self._seen = at + len(answer)


def wait_until(is_so: Callable[[], object], board: VirtualBoard) -> None:
    until_s = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < until_s, board.log[-20:]
        time.sleep(0.05)


def has_started(board: VirtualBoard) -> None:
    """Is boot.py's first line behind us? A chip is there in microseconds, a busy computer's MicroPython is not: what is
    typed before it is taken for Ctrl-C.
    """
    wait_until(lambda: board.log, board)


# --- scenes, side by side --------------------------------------------------------------------------------------------


def board_in(folder: Path, port: int, settings: dict[str, object] | None = None, **more: Any) -> VirtualBoard:
    return VirtualBoard(folder, settings, port, has_console=True, air=AIR, heap_bytes=HEAP_BYTES, **more)


def with_the_sdk(folder: Path, line_port: int) -> dict[str, Any]:
    board = board_in(folder, line_port)
    steps = ("initialize", "scan", "provision:Häuschen:wrong", "state", f"provision:Häuschen:{SECRET}")
    with board:
        has_started(board)
        sdk = runtime.webtools() / "improv-wifi-serial-sdk"
        done = subprocess.run(
            [runtime.node(), CLIENT, sdk, board.console.port, *steps], capture_output=True, text=True, timeout=240
        )
        wait_until(lambda: board.resets and any("mqtt_host is empty" in line for line in board.log), board)
        wait_until(lambda: any("first reading: " in line for line in board.log), board)  # not before it has a Wi-Fi
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(steps), (done.stderr, board.log)
    return {"told": told, "log": board.log, "settings": json.loads((folder / "settings.json").read_text())}


def with_anything(folder: Path, line_port: int) -> dict[str, Any]:
    """Noise, damaged packets and parts of them; then a packet as it should be, then mpremote."""
    chance = random.Random(16)
    board = board_in(folder, line_port, start=raw_repl.START)
    with board, Port(board.console.port) as port:
        has_started(board)
        port.ask_until(command(ASK_STATE), STATE, READY)
        pieces = []
        for _ in range(150):
            whole = bytearray(command(chance.randrange(256), chance.randbytes(chance.randrange(20))))
            whole[chance.randrange(7, len(whole))] ^= 1 << chance.randrange(8)
            noise = chance.randbytes(chance.randrange(40)).replace(b"\x03", b"\x04") + b"IMPR"
            pieces.append(noise + bytes(whole) + b"\0" * 260)  # whatever its length says has come then
        damaged = b"".join(pieces)
        # A packet's end may be noise, where its length was damaged: what is no packet's must not be a Ctrl-C.
        port.write(without_ctrl_c(damaged))
        port.write(command(JOIN, b"x" * 33, b""))
        port.wait(ERROR, b"\x01")
        port.write(command(9))
        port.wait(ERROR, b"\x02")
        port.ask_until(command(ASK_STATE), STATE, READY)
        alive = board.running
        before = list(board.log)
        asked = [
            subprocess.run(
                [sys.executable, "-m", "mpremote", "connect", board.console.port, "resume", "exec", "print(6 * 7)"],
                capture_output=True, text=True, timeout=60,
            ).stdout
            for _ in range(2)
        ]  # fmt: skip
    return {"alive": alive, "log": before, "asked": asked}


def without_ctrl_c(data: bytes) -> bytes:
    """`data` without each 03 that stands neither behind a header nor in what that packet's length says is its own."""
    left = bytearray()
    at = 0
    while at < len(data):
        if data.startswith(b"IMPROV\x01", at):
            size = 7 + 2 + data[at + 8] + 1
            left += data[at : at + size]
            at += size
        else:
            left += data[at : at + 1].replace(b"\x03", b"")
            at += 1
    return bytes(left)


def with_settings(folder: Path, line_port: int) -> dict[str, Any]:
    """A probe that is at work: a wrong password, then another board with a Wi-Fi that it cannot join."""
    with Broker(folder / "broker") as broker, Listener(broker.port) as listener:
        listener.subscribed()
        settings = {"wifi_ssid": "Häuschen", "wifi_password": SECRET, "mqtt_host": "127.0.0.1"}
        settings |= {"mqtt_port": broker.port, "protocol": "sml", "probe_id": "cellar", "of_another_version": [1]}
        board = board_in(folder / "well", line_port, settings)
        with board, Port(board.console.port) as port:
            wait_until(lambda: any("connected: " in line for line in board.log), board)
            port.ask_until(command(ASK_STATE), STATE, JOINED)
            port.wait(RESULT, bytes((ASK_STATE, 0)))
            port.write(command(ASK_NETWORKS))
            port.wait(RESULT, bytes((ASK_NETWORKS, 0)))
            sessions = sum("connected: " in line for line in board.log)
            port.write(WRONG)
            port.wait(STATE, TRYING)
            port.wait(ERROR, b"\x03")
            back_s = time.monotonic()
            wait_until(lambda: sum("connected: " in line for line in board.log) == 2, board)
            listener.wait_for("/live", WAIT_S, back_s)
            kept = json.loads((folder / "well" / "settings.json").read_text())
            resets = list(board.resets)
    lost = settings | {"wifi_password": "old"}
    other = board_in(folder / "lost", line_port, lost)
    with other, Port(other.console.port) as port:
        has_started(other)
        port.ask_until(command(ASK_STATE), STATE, READY)
        port.write(command(ASK_NETWORKS))
        port.wait(RESULT, bytes((ASK_NETWORKS, 0)))
        networks = port.text
        port.write(RIGHT)
        port.wait(RESULT, bytes((JOIN, 0)))
        wait_until(lambda: other.resets, other)
    return {
        "given": settings, "kept": kept, "sessions": sessions, "resets": resets, "log": board.log + other.log,
        "networks": networks, "new": json.loads((folder / "lost" / "settings.json").read_text()),
    }  # fmt: skip


SCENES = {"sdk": with_the_sdk, "anything": with_anything, "settings": with_settings}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[dict[str, Any]]]]:
    folder = tmp_path_factory.mktemp("improv")
    with OpticalServer(MeterSource(SmlMeter(1))) as light, ThreadPoolExecutor(len(SCENES)) as pool:
        yield {name: pool.submit(scene, folder / name, light.port) for name, scene in SCENES.items()}


def test_the_independent_client_sets_the_wifi_of_a_board_without_settings(scenes: dict[str, Future[Any]]) -> None:
    try:
        runtime.webtools(), runtime.node()
    except runtime.SetupError as error:
        pytest.skip(str(error))
    seen = scenes["sdk"].result()
    first, scanned, wrong, state, right = seen["told"]
    assert not any(told["errors"] for told in seen["told"])
    assert first["info"]["firmware"] == "optoprobe" and first["info"]["name"] == "Optoprobe" and first["state"] == 2
    assert scanned["networks"] == [
        {"name": "Häuschen", "rssi": -60, "secured": True},
        {"name": "open", "rssi": -80, "secured": False},
    ]
    assert (wrong["error"], state["state"]) == ("UNABLE_TO_CONNECT", 2)  # it tells the error first
    assert (right.get("error"), right["state"], right["nextUrl"]) == (None, 4, None)
    assert seen["settings"].pop("setup_password") and seen["settings"] == {
        "wifi_ssid": "Häuschen",
        "wifi_password": SECRET,
    }
    (sentence,) = [line for line in seen["log"] if "no Wi-Fi is set" in line]
    assert "Improv" in sentence and "optoprobe config" in sentence
    assert any("first reading: " in line for line in seen["log"])
    assert not any("Traceback" in line or SECRET in line for line in seen["log"])


def test_any_bytes_are_answered_or_nobodys(scenes: dict[str, Future[Any]]) -> None:
    seen = scenes["anything"].result()
    assert seen["alive"] and not any("Traceback" in line for line in seen["log"]), seen["log"]


def test_a_ctrl_c_is_still_one_and_leaves_the_repl_what_follows(scenes: dict[str, Future[Any]]) -> None:
    assert scenes["anything"].result()["asked"] == ["42\n", "42\n"]


def test_what_cannot_be_joined_leaves_the_old_settings_and_the_session_comes_back(
    scenes: dict[str, Future[Any]],
) -> None:
    seen = scenes["settings"].result()
    assert seen["sessions"] == 1, "a scan of a board that has joined ends no session"
    assert seen["kept"] == {"publish_interval_s": 0} | seen["given"] and seen["resets"] == []
    assert not any("Traceback" in line or SECRET in line or "wrong" in line for line in seen["log"])


def test_a_probe_whose_wifi_is_not_there_gets_another_and_keeps_its_other_settings(
    scenes: dict[str, Future[Any]],
) -> None:
    seen = scenes["settings"].result()
    assert seen["new"] == {"publish_interval_s": 0} | seen["given"]
    name = "Häuschen".encode()
    row = b"".join(bytes((len(text),)) + text for text in (name, b"-60", b"YES"))
    assert packet(RESULT, bytes((ASK_NETWORKS, len(row))) + row) in seen["networks"]


# --- what it costs ---------------------------------------------------------------------------------------------------

LISTENING = """
import asyncio, gc, json, micropython, select, sys, time
sys.path[:] = ["", "probe", "hardware", ".frozen"]
from firmware.hardware import health
from firmware.mqtt import wifi
from metering.unload import unload

class Services:
    pass

services = Services()
services.network = services.health = Services()
services.network.settings = {"wifi_ssid": "home"}
services.health.uptime_s = 0

def begin():
    from firmware.owner.console_watch import watch
    asyncio.create_task(watch(services))

async def nap(ms):
    for _ in range(5):
        await asyncio.sleep_ms(ms)

async def listen():
    # MicroPython's collection takes what lies about in the stack for an address: others must have come and gone there.
    figures = []
    for uptime_s in (-2, -1, 0, 180, 181):
        if uptime_s == 0:
            begin()
        services.health.uptime_s = uptime_s
        for n in range(1, 9):
            asyncio.create_task(nap(n))
        for _ in range(10):
            await asyncio.sleep_ms(20)
        gc.collect()
        figures.append(gc.mem_alloc())
    _, before, during, _, after = figures
    names = ("firmware.owner.console_watch", "firmware.owner.improv")
    left = [name for name in names if name in sys.modules]
    gc.collect()
    alone = gc.mem_alloc()
    from firmware.owner.improv import Improv
    improv = Improv(services)
    gc.collect()
    answering = gc.mem_alloc() - alone
    print(json.dumps([during - before, after - before, answering, left]))

asyncio.run(listen())
"""


def test_listening_costs_little_and_afterwards_nothing(tmp_path: Path) -> None:
    VirtualBoard(tmp_path, {}, 1)
    script = device_tree.on_board(device_tree.name_map(False).apply("firmware/owner/console_watch.py", LISTENING))
    end, other_end = os.openpty()
    with os.fdopen(end, "wb"), os.fdopen(other_end, "rb") as stdin:  # a console on which nobody types
        done = subprocess.run(
            [runtime.micropython(), "-X", "heapsize=300000", "-c", script],
            cwd=tmp_path, stdin=stdin, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    listening, afterwards, answering, left = json.loads(done.stdout)
    print(f"listening: {listening} bytes, with Improv's code {answering} more, afterwards {afterwards}")
    assert listening <= 2048 and answering <= 9216  # 1,300 of it are the string pool's, which grows now and then
    assert afterwards <= 800 and not left  # 480 to 736, of what lies in the stack; the code alone is 1,000 and more


# --- the packets' code alone -----------------------------------------------------------------------------------------


@pytest.fixture
def improv(device: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """An Improv whose packets go to `sent`; a trial is begun and does nothing."""
    monkeypatch.setitem(sys.modules, "network", ModuleType("network"))
    module = importlib.import_module("firmware.owner.improv")
    monkeypatch.chdir(tmp_path)
    wifi = SimpleNamespace(is_joined=lambda: False)
    network = SimpleNamespace(settings={"probe_name": "Optoprobe"}, wifi=wifi)
    made = module.Improv(SimpleNamespace(network=network, health=SimpleNamespace(uptime_s=0)))
    sent: list[tuple[int, bytes]] = []
    monkeypatch.setattr(module.Improv, "_send", staticmethod(lambda kind, data: sent.append((kind, bytes(data)))))
    monkeypatch.setattr(module.WifiTrial, "start", lambda self: None)
    return SimpleNamespace(it=made, sent=sent, module=module)


def answer(improv: Any, data: bytes) -> list[tuple[int, bytes]]:
    """What is sent upon the packet `data`, header and newline included."""
    improv.sent.clear()
    improv.it._trial = None
    body = bytearray(data[7:-1]).ljust(258, b"\0")
    improv.it.answer(body, body[1] + 3)
    return list(improv.sent)


def test_a_packet_that_is_not_whole_is_counted_and_answered(improv: Any) -> None:
    """No input ends in an exception, and none but a command with a right sum begins a trial."""
    chance = random.Random(1)
    whole = [
        command(n, *texts) for n in range(6) for texts in ((), (b"a",), (b"a", b"b"), (b"", b""), (b"a", b"b", b"c"))
    ]
    n_trials = 0
    for _ in range(20_000):
        data = bytearray(chance.choice(whole))
        for _ in range(chance.randrange(3)):
            data[chance.randrange(7, len(data) - 1)] = chance.randrange(256)
        refused = improv.it.refused
        told = answer(improv, bytes(data))
        is_whole = data[8] == len(data) - 11 and sum(data[:-2]) & 0xFF == data[-2]
        if improv.it._trial is not None:
            n_trials += 1
            assert is_whole and data[9] in (JOIN, ASK_NETWORKS)
        assert told or improv.it._trial is not None or data[7] != COMMAND
        assert improv.it.refused - refused == (told == [(ERROR, b"\x01")] or data[7] != COMMAND)
    assert n_trials > 1000


class Stream:
    """A console on which `pieces` (ms of silence before, bytes) come; the clock goes on where somebody waits."""

    def __init__(self, pieces: list[tuple[int, bytes]]) -> None:
        self.now_ms = 0
        self.all = b"".join(data for _, data in pieces)
        self._ends: list[tuple[int, int]] = []  # (ms, bytes that have come by then)
        at_ms = n = 0
        for silence_ms, data in pieces:
            at_ms, n = at_ms + silence_ms, n + len(data)
            self._ends.append((at_ms, n))
        self._come = self._read = 0
        self.is_over: Callable[[], object] = lambda: None

    async def sleep_ms(self, ms: int) -> None:
        self.now_ms += ms
        while self._ends and self._ends[0][0] <= self.now_ms:
            self._come = self._ends.pop(0)[1]
        if not self._ends and self._read == len(self.all):
            self.is_over()

    def register(self, *_: object) -> None: ...

    def ipoll(self, _: int) -> tuple[int, ...]:
        return (1,) if self._read < self._come else ()

    def readinto(self, one: bytearray) -> int:
        one[0] = self.all[self._read]
        self._read += 1
        return 1


def pieces_of(chance: random.Random) -> list[tuple[int, bytes]]:
    """A packet, whole, damaged, cut, twice, too long or dripping, and noise before it."""
    texts = [chance.choice((b"", b"net", b"n" * 33, chance.randbytes(5))), chance.choice((b"", b"hidden 1", b"p" * 65))]
    data = bytearray(command(chance.choice((1, 1, 1, 2, 3, 4, 9)), *texts[: chance.choice((2, 2, 0, 1))]))
    kind = chance.randrange(7)
    if kind == 1:
        data[chance.randrange(7, len(data))] ^= 1 << chance.randrange(8)
    elif kind == 2:
        del data[chance.randrange(len(data)) :]
    elif kind == 3:
        data *= 2
    elif kind == 4:
        data[8] = 255
    elif kind == 5:
        at = chance.randrange(len(data))
        return [(0, bytes(data[:at])), (chance.choice((5, 990, 1500)), bytes(data[at:]))]
    noise = chance.randbytes(chance.choice((0, 0, 3, 400))) + b"IMPROV\x01"[: chance.choice((0, 0, 3, 6))]
    return [(chance.choice((0, 30, 1200)), noise.replace(b"\x03", b"")), (0, bytes(data))]


def test_thousands_of_damaged_packets_end_nothing_and_change_nothing(
    improv: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is tried is what a whole packet says, nothing grows, and no password comes back."""
    chance = random.Random(5)
    stream = Stream([piece for _ in range(times(5000)) for piece in pieces_of(chance)] + [(1200, b"")])
    console = importlib.import_module("firmware.owner.console_watch")
    tried: list[tuple[str, str] | None] = []
    made: list[Any] = []

    def start(trial: Any) -> None:
        tried.append(trial._given)
        trial.is_done = True

    class Noted(improv.module.Improv):  # type: ignore[misc]
        def __init__(self, services: Any) -> None:
            super().__init__(services)
            made.append(self)

    class Health:
        @property
        def uptime_s(self) -> int:
            return stream.now_ms // 1000

    monkeypatch.setattr(improv.module.WifiTrial, "start", start)
    monkeypatch.setattr(improv.module, "Improv", Noted)
    monkeypatch.setattr(console, "_unload_improv", lambda: None)
    monkeypatch.setattr(console, "unload", lambda name: None)
    monkeypatch.setattr(console, "select", SimpleNamespace(poll=lambda: stream, POLLIN=1))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=stream))
    monkeypatch.setattr(asyncio, "sleep_ms", stream.sleep_ms, raising=False)
    Path("settings.json").write_text('{"mqtt_host": "broker"}')
    network = improv.it._services.network
    network.settings["wifi_ssid"] = ""  # it listens for as long as that is so
    n_interrupted = 0

    async def listen() -> None:
        nonlocal n_interrupted
        while not network.settings["wifi_ssid"]:
            try:
                await console.watch(SimpleNamespace(network=network, health=Health()))
            except KeyboardInterrupt:  # what a cut packet leaves may hold a Ctrl-C
                n_interrupted += 1

    stream.is_over = lambda: network.settings.update(wifi_ssid="home")
    asyncio.run(listen())
    assert len(tried) > times(500) and len(improv.sent) > times(2500) and n_interrupted < times(1500)
    for given in tried:
        assert given is None or command(JOIN, *(text.encode() for text in given))[:-1] in stream.all
    assert all(len(each._packet) == 258 for each in made)
    assert not any(b"hidden" in data for _, data in improv.sent) and "hidden" not in capsys.readouterr().out
    assert Path("settings.json").read_text() == '{"mqtt_host": "broker"}' and os.listdir() == ["settings.json"]


@pytest.mark.parametrize(
    ("texts", "is_tried"),
    [
        ((b"a", b""), True),
        ((b"n" * 32, b"p" * 64), True),
        (("Ü".encode(), b"x"), True),
        ((b"", b"x"), False),
        ((b"n" * 33, b"x"), False),
        ((b"n", b"p" * 65), False),
        ((b"n\0", b"x"), False),
        ((b"\xff", b"x"), False),
        ((b"a",), False),
        ((b"a", b"b", b"c"), False),
    ],
)
def test_a_name_and_a_password_that_no_wifi_has_are_refused(
    improv: Any, texts: tuple[bytes, ...], is_tried: bool
) -> None:
    told = answer(improv, command(JOIN, *texts))
    assert told == ([(ERROR, b"\0"), (STATE, TRYING)] if is_tried else [(ERROR, b"\x01")])


def test_another_command_meanwhile_is_refused_and_the_state_is_told(improv: Any) -> None:
    answer(improv, RIGHT)
    trial = improv.it._trial
    improv.sent.clear()
    for data in (RIGHT, command(ASK_NETWORKS), command(ASK_STATE)):
        body = bytearray(data[7:-1])
        improv.it.answer(body, body[1] + 3)
    assert improv.sent == [(ERROR, b"\xff"), (ERROR, b"\xff"), (STATE, TRYING)] and improv.it._trial is trial


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, {}),
        (b'{"a": 1, "wifi_password": "old"}', {"a": 1}),
        (b'{"a": 1', {}),  # the probe has used nothing of it
        (b"[1]", {}),
    ],
)
def test_what_is_kept_goes_over_the_settings_there_are(improv: Any, before: bytes | None, after: dict) -> None:
    if before is not None:
        Path("settings.json").write_bytes(before)
    assert improv.module._keep(("Häuschen", SECRET))
    new = after | {"wifi_ssid": "Häuschen", "wifi_password": SECRET}
    assert json.loads(Path("settings.json").read_text()) == new


@pytest.mark.parametrize(
    ("machine", "chip"),
    [
        ("ESP32C3 module with ESP32C3", b"ESP32-C3"),  # MicroPython up to 1.28
        ("ESP32C3 module with ESP32-C3", b"ESP32-C3"),
        ("Generic ESP32 module with ESP32", b"ESP32"),
        ("", b""),
    ],
)
def test_the_chip_has_its_makers_name(improv: Any, monkeypatch: pytest.MonkeyPatch, machine: str, chip: bytes) -> None:
    implementation = SimpleNamespace(_machine=machine, version=(1, 29, 0))
    monkeypatch.setattr(improv.module, "sys", SimpleNamespace(implementation=implementation))
    assert improv.it._info()[2] == chip


def test_settings_that_there_is_no_memory_for_stay(improv: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a broker, a key and a password would go for a name of a Wi-Fi."""
    Path("settings.json").write_text('{"mqtt_host": "broker"}')

    def load(_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(importlib.import_module("firmware.store").json, "load", load)
    assert not improv.module._keep(("Häuschen", SECRET))
    assert Path("settings.json").read_text() == '{"mqtt_host": "broker"}'


def test_settings_that_cannot_be_written_leave_the_old_ones(improv: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("settings.json").write_text('{"a": 1}')
    Path("settings.json.new").mkdir()
    answer(improv, RIGHT)
    improv.it._trial.is_done = improv.it._trial.is_joined = True
    improv.sent.clear()
    assert not improv.it.is_over()
    assert improv.sent[0] == (ERROR, b"\xff") and Path("settings.json").read_text() == '{"a": 1}'
    assert "cannot be written" in capsys.readouterr().out and improv.it._restart_at is None
