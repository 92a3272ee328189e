"""`optoprobe deploy`: the plan, what of it is shown, and the plan carried out by the real mpremote.

The board is MicroPython's unix port on a pseudo-terminal: raw REPL in front, a littlefs in RAM as its file system, and
stand-ins for what only an ESP32 has. No ESP32 has confirmed a deployment yet.
"""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.pty_board import PtyBoard

from optoprobe import source_tree
from optoprobe.building import device_tree
from optoprobe.building.device_tree import BuildError
from optoprobe.commands import deploy
from optoprobe.environment import runtime

SECRETS = ("correct horse", "battery staple")
SETTINGS = {
    "wifi_ssid": "Häuschen", "wifi_password": SECRETS[0], "mqtt_host": "broker", "mqtt_password": SECRETS[1],
}  # fmt: skip


@pytest.fixture
def settings(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(SETTINGS))
    return file


def command(*arguments, extra=None):
    done = subprocess.run(
        [sys.executable, "-m", "optoprobe", "deploy", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, env=os.environ | (extra or {}),
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert not any(secret in said for secret in SECRETS)
    return done.returncode, done.stdout, done.stderr


def sources():
    """Paths of the modules of the device's packages."""
    names = [
        path.relative_to(runtime.REPO)
        for package in ("firmware", "lib/metering")
        for path in (runtime.REPO / package).rglob("*.py")
    ]
    return sorted(filter(source_tree.is_deployed, names))


def compiled():
    """The files on a board that are made of them, and those that are none."""
    families = ("dlms", "iec62056_21", "detection", "kmp", "mbus", "modbus", "c1218")
    found = ["probe/page.gz", "probe/setup.gz", "probe/probe_entities.txt"]
    for path in sources():
        name = path.parent.name if path.stem == "__init__" else path.stem
        family = f"{path.parent.name}/" if path.parent.name in families else ""
        found.append(f"probe/{family}{name}.mpy")
    return found


def stand_in(folder, source):
    """Puts a Python package mpremote that runs `source` in front of the real one; returns the environment for it."""
    (folder / "mpremote").mkdir()
    with_the_rest = "from pkgutil import extend_path\n__path__ = extend_path(__path__, __name__)\n"
    (folder / "mpremote" / "__init__.py").write_text(with_the_rest)
    (folder / "mpremote" / "__main__.py").write_text(source)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


# --- the device's files ----------------------------------------------------------------------------------------------


def test_the_tree_holds_bytecode_starters_and_data(tmp_path, settings):
    board = runtime.REPO / "board_configs" / "virtual.json"
    files = device_tree.build(tmp_path / "tree", board, settings)
    names = [file.as_posix() for file in files]
    assert names == sorted(compiled() + ["board.json", "boot.py", "main.py", "settings.json"], key=Path)
    for name in names:
        content = (tmp_path / "tree" / name).read_bytes()
        if name.endswith(".mpy"):
            assert content[:2] == b"M\x06" and content[2] >> 2 == 0  # .mpy version 6, for no single architecture
            assert Path(name).stem.encode() in content  # for tracebacks
        elif name.endswith(".py"):
            source = (runtime.REPO / name).read_text()
            source = source.replace("from firmware.hardware import health", "import health")
            assert content.decode() == re.sub(r"from firmware\.(?:\w+\.)?(\w+) import", r"from \1 import", source)
    assert json.loads((tmp_path / "tree" / "settings.json").read_text(encoding="utf-8")) == SETTINGS
    there = json.loads((tmp_path / "tree" / "board.json").read_text())
    assert there["uart"] == json.loads(board.read_text())["uart"] and "source" not in there


def test_sources_instead_of_bytecode_and_nothing_left_of_the_other(tmp_path):
    device_tree.build(tmp_path, {"uart": {}}, None)
    files = device_tree.build(tmp_path, {"uart": {}}, None, compiled=False)
    there = [file.as_posix() for file in files if len(file.parts) > 1]
    beside = ["firmware/mqtt/probe_entities.txt", "probe/page.gz", "probe/setup.gz"]
    assert sorted(there) == sorted([*(path.as_posix() for path in sources()), *beside])
    assert not list(tmp_path.rglob("*.mpy")) and not (tmp_path / "settings.json").exists()


def test_settings_that_lie_there_stay_when_none_are_given(tmp_path):
    device_tree.build(tmp_path, {"uart": {}}, {"mqtt_host": "a"}, compiled=False)
    device_tree.build(tmp_path, {"uart": {}}, None, compiled=False)
    assert json.loads((tmp_path / "settings.json").read_text()) == {"mqtt_host": "a"}


@pytest.mark.parametrize("content", ["{", "[1]", None, "\udc80"])
def test_a_board_file_that_is_none_is_one_sentence(tmp_path, content):
    file = tmp_path / "board.json"
    if content is not None:
        file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(BuildError, match="board file .*board.json .*: (correct it|check its name)"):
        device_tree.build(tmp_path / "tree", file, None)
    assert not (tmp_path / "tree").exists()


def test_the_sources_are_never_overwritten():
    with pytest.raises(BuildError, match="choose another directory"):
        device_tree.build(runtime.REPO, {"uart": {}}, None)


def test_a_file_that_mpy_cross_refuses_is_named(tmp_path, monkeypatch):
    (tmp_path / "firmware").mkdir()
    for name in ("boot.py", "main.py"):
        (tmp_path / name).write_text("pass\n")
    (tmp_path / "firmware" / "bad.py").write_text("def f(:\n")
    monkeypatch.setattr(source_tree, "ROOT", tmp_path)
    with pytest.raises(BuildError, match=r"mpy-cross refuses bad\.py: SyntaxError"):
        device_tree.build(tmp_path / "tree", {"uart": {}}, None)


# --- the plan --------------------------------------------------------------------------------------------------------


def test_the_plan_is_shown_without_a_port_and_touches_nothing(settings, tmp_path):
    extra = stand_in(tmp_path, "raise SystemExit('touched')")
    code, out, errors = command("--board", "hichi_c3", "--settings", settings, "--dry-run", extra=extra)
    assert (code, errors) == (0, "")
    for name in [*compiled(), "board.json", "settings.json", "boot.py", "main.py"]:
        assert f" bytes  {name}\n" in out
    assert "mpremote connect PORT resume fs cp -r TREE/probe :\n" in out
    assert "mpremote connect PORT resume reset\n" in out
    assert out.endswith("Nothing was touched.\n")


def test_what_is_printed_is_what_is_carried_out(settings, tmp_path):
    """A stand-in for mpremote writes down how it was called; it must be the printed list."""
    calls = tmp_path / "calls"
    extra = stand_in(
        tmp_path,
        "import json, sys\n"
        f"open({str(calls)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
        "print('esp32 micropython 1 25')\n",
    )
    options = ("--board", "esp32_devkit", "--settings", settings, "--port", "/dev/ttyX")
    _, plan, _ = command(*options, "--dry-run", extra=extra)
    assert not calls.exists()
    code, out, errors = command(*options, extra=extra)
    assert (code, errors) == (0, "")
    called = [json.loads(line) for line in calls.read_text().splitlines()]
    tree = next(Path(argument).parent for argument in called[2] if argument.endswith("/probe"))
    assert not tree.exists(), "the built files, passwords among them, must not stay behind"
    said = re.search(r"^Where the board has ([\d,]+) bytes for ROMFS ", plan, re.MULTILINE)
    assert said is not None
    image = tmp_path / "image"
    image.write_bytes(bytes(int(said[1].replace(",", ""))))
    steps = deploy.plan("/dev/ttyX", tree, device_files(), image)
    assert called == [list(step.arguments) for step in steps]
    for number, step in enumerate(steps, 1):
        assert f"{number}. {step.purpose}\n" in plan
        assert f"{number}/{len(steps)} {step.purpose} ...\n" in out
        for argument in step.arguments:
            shown = shlex.quote(argument.replace(str(tree), "TREE"))
            assert all(line in plan for line in shown.splitlines())


def device_files():
    names = ["board.json", "boot.py", "main.py", "settings.json", *compiled()]
    return sorted(map(Path, names))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("print('esp32 micropython 1 24')", "the board runs MicroPython 1.24: put 1.25 or newer onto it"),
        ("print('esp32 circuitpython 9 1')", "what answers is no MicroPython"),
        ("print('rp2 micropython 1 25')", "the board is an rp2: choose the port of an ESP32"),
        ("print('no such thing')", "what answers is no MicroPython"),
        ("sys.exit('mpremote: failed to access X')", "mpremote: failed to access X; check the cable and the port"),
    ],
)
def test_a_board_that_will_not_do_is_left_alone(tmp_path, answer, said):
    calls = tmp_path / "calls"
    extra = stand_in(tmp_path, f"import sys\nopen({str(calls)!r}, 'a').write('.')\n{answer}\n")
    code, _, errors = command("--board", "virtual", "--port", "X", extra=extra)
    assert code == 1
    assert errors.startswith("optoprobe deploy: ") and said in errors and len(errors.splitlines()) == 1
    assert calls.read_text() == "."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"mqtt_port": SECRETS[0]}, "mqtt_port is not accepted"),
        ({"wifi_password": [SECRETS[0]], "probe_id": "a b"}, "probe_id is not accepted"),
        (f'{{"wifi_password": "{SECRETS[0]}"', "is not JSON"),
        ("[]", "holds no object"),
        (None, "there is no settings file"),
    ],
)
def test_settings_that_the_firmware_would_not_take_stop_it(tmp_path, content, said):
    file = tmp_path / "mine.json"
    if content is not None:
        file.write_text(content if isinstance(content, str) else json.dumps(content))
    code, out, errors = command("--board", "virtual", "--settings", file, "--port", "X")
    assert (code, out) == (2, "")
    assert said in errors and "mine.json" in errors and len(errors.splitlines()) == 1


def test_a_key_nobody_knows_is_named(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(SETTINGS | {"of_a_later_version": SECRETS[0]}))
    code, out, _ = command("--board", "virtual", "--settings", file, "--dry-run")
    said = "Settings this version does not know are copied all the same: of_a_later_version.\n"
    assert code == 0 and out.startswith(said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"wifi_sid": SECRETS[0]}, "wifi_sid is nothing that is read: did you mean wifi_ssid?"),
        ({"mqtt_hots": SECRETS[0]}, "did you mean mqtt_host?"),
        ({"wifi_ssid": ""}, "wifi_ssid is missing: give the name of your Wi-Fi"),
        ({"wifi_ssid": None}, "wifi_ssid is not accepted"),
        ({"mqtt_host": ""}, "mqtt_host is missing: give the name or address of your MQTT broker"),
    ],
)
def test_settings_that_no_probe_could_live_with_stop_it(tmp_path, change, said):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(SETTINGS | change))
    code, out, errors = command("--board", "virtual", "--settings", file, "--dry-run")
    assert (code, out) == (2, "") and said in errors


def test_a_board_file_of_ones_own_is_taken(tmp_path):
    file = tmp_path / "mine.json"
    data = json.loads((runtime.REPO / "board_configs" / "virtual.json").read_text())
    data["uart"]["rx"] = 19
    file.write_text(json.dumps(data | {"led": {"pin": 2, "active_low": True}}))
    code, out, errors = command("--board", file, "--dry-run")
    assert (code, errors) == (0, "") and "board.json" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--board", "nosuch", "--dry-run"], "choose one of bitshake_c3, esp32_devkit"),
        (["--board", "../secrets", "--dry-run"], "there is no board ../secrets"),
        (["--board", "virtual"], "--port"),
        (["--port", "X"], "--board"),
    ],
)
def test_wrong_usage(arguments, said):
    code, out, errors = command(*arguments)
    assert (code, out) == (2, "") and said in errors


# --- carried out -----------------------------------------------------------------------------------------------------


@pytest.fixture
def board():
    board = PtyBoard()
    try:
        yield board
    finally:
        if board.is_running:
            board.stop()


LIST = """
import os, hashlib, binascii
def walk(folder):
    for entry in os.ilistdir(folder or "/"):
        path = folder + "/" + entry[0]
        if entry[1] & 0x4000:
            walk(path)
        else:
            with open(path, "rb") as file:
                print(path, binascii.hexlify(hashlib.sha256(file.read()).digest()).decode())
walk("")
"""

EARLIER = """
import os
import re
for folder in ("firmware", "firmware/gone", "lib", "lib/metering", "lib/other"):
    os.mkdir(folder)
files = ("firmware/gone/x.py", "firmware/app.py", "lib/metering/sml.py", "lib/other/mine.py", "settings.json", "log")
for path in files:
    with open(path, "w") as file:
        file.write(path)
"""


def listing(board):
    return dict(line.split() for line in board.ask(LIST).splitlines())


def as_built(tree, *arguments):
    return {
        "/" + file.as_posix(): hashlib.sha256((tree / file).read_bytes()).hexdigest()
        for file in device_tree.build(tree, *arguments)
    }


def test_mpremote_carries_it_out_on_an_empty_board(board, settings, tmp_path):
    code, out, errors = command("--board", "virtual", "--settings", settings, "--port", board.port)
    assert (code, errors) == (0, ""), out
    found = listing(board)
    assert found == as_built(tmp_path / "tree", runtime.REPO / "board_configs" / "virtual.json", settings)
    loaded = "import sys; sys.path.insert(0, 'probe'); import sml, dlms.gcm; print(sml.__name__)"
    assert board.ask(loaded).strip() == "sml"
    assert board.soft_resets == 1
    assert board.stop() == ["reset"]


def test_mpremote_brings_a_running_probe_up_to_date(board, tmp_path):
    board.ask(EARLIER)
    before = listing(board)
    code, out, errors = command("--board", "virtual", "--port", board.port)
    assert (code, errors) == (0, ""), out
    kept = {path: before[path] for path in ("/lib/other/mine.py", "/settings.json", "/log")}
    assert listing(board) == kept | as_built(tmp_path / "tree", runtime.REPO / "board_configs" / "virtual.json", None)
    assert board.ask("import os; print('firmware' in os.listdir(), os.listdir('lib'))").strip() == "False ['other']"
    # The second time behind boot.py, which a soft reset runs and which arms the watchdog for half a minute.
    assert board.stop() == ["memory b'\\x00\\x00\\x00\\x00\\x00\\x00'", "watchdog 600000"] * 2 + ["reset"]
