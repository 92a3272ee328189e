"""Our own package index for `mip`, and manifest.py: what they hold, and that it runs once the real mpremote has put it
onto a board (MicroPython's unix port on a pty, its file system a folder here)."""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import pty_board
from support.broker import Listener

from optoprobe import source_tree
from optoprobe.building import device_tree, mip_index
from optoprobe.environment import runtime
from optoprobe.virtual.board import VirtualBoard
from optoprobe.virtual.broker import Broker
from optoprobe.virtual.optical_server import OpticalServer
from optoprobe.virtual.sml_meter import SmlMeter
from optoprobe.virtual.source import MeterSource

IN_RAM = "flash = Flash(1000)\nvfs.VfsLfs2.mkfs(flash)\nvfs.umount(\"/\")\nvfs.mount(vfs.VfsLfs2(flash), \"/\")\n"
IN_FOLDER = 'vfs.umount("/")\nvfs.mount(vfs.VfsPosix({!r}), "/")\n'
CORE_NAMES = [name for name in source_tree.device_modules() if name.is_relative_to(source_tree.CORE)]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """The folder that the module has written as its user would call it."""
    folder = tmp_path_factory.mktemp("index")
    assert mip_index.main([str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def installed(index, tmp_path_factory):
    """The root of a board with the application, and that of another with the core, by the real mpremote from a server.

    Side by side, as mpremote mostly waits.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(index)))
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    address = f"http://127.0.0.1:{server.server_port}"
    asked = {
        "application": ["--index", address, "--target", "/", "optoprobe"],
        "core": [f"{address}/core/package.json"],
    }
    roots = {name: tmp_path_factory.mktemp(name) for name in asked}
    assert IN_RAM in pty_board.BOARD
    boards = {}
    try:
        for name, root in roots.items():
            (root / "lib").mkdir()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pty_board, "BOARD", pty_board.BOARD.replace(IN_RAM, IN_FOLDER.format(str(root))))
                boards[name] = pty_board.PtyBoard()
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda name: install(boards[name], *asked[name]), asked))
    finally:
        for board in boards.values():
            board.stop()
        server.shutdown()
        serving.join()
        server.server_close()
    return roots


def install(board, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "mpremote", "connect", board.port, "resume", "mip", "install", *arguments],
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def in_folder(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_application_is_installed_by_its_name_and_reads(index, installed, tmp_path):
    files = in_folder(installed["application"])
    hashes = dict(json.loads((index / "package" / "6" / "optoprobe" / "latest.json").read_text())["hashes"])
    assert {place: hashlib.sha256(content).hexdigest()[:8] for place, content in files.items()} == hashes
    assert {"boot.py", "main.py"} < set(files) and "board.json" not in files
    with Broker(tmp_path / "broker") as broker, OpticalServer(MeterSource(SmlMeter())) as server:
        folder = tmp_path / "device"
        settings = {"wifi_ssid": "home", "mqtt_host": "127.0.0.1", "mqtt_port": broker.port, "protocol": "sml"}
        device = VirtualBoard(folder, settings, server.port)
        shutil.rmtree(folder / device_tree.FOLDERS[0])
        for name, content in files.items():  # beside its board.json, its settings.json, and the hardware's fakes
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        with Listener(broker.port) as listener:
            listener.subscribed()
            with device:
                assert listener.wait_for("/state", 30).object(), device.log


def test_the_core_is_installed_by_its_package_json_and_decodes(installed, tmp_path):
    root = installed["core"]
    assert set(in_folder(root)) == {name.with_suffix(".mpy").as_posix() for name in CORE_NAMES}
    (tmp_path / "recording.bin").write_bytes(SmlMeter().telegram(0))
    example = runtime.REPO / "docs" / "examples" / "read_telegrams.py"
    done = subprocess.run(
        [runtime.micropython(), str(example), str(tmp_path / "recording.bin")],
        env=os.environ | {"MICROPYPATH": f"{root / 'lib'}:.frozen"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0 and "Energy import 14798.1120 kWh" in done.stdout, done.stdout + done.stderr


def test_both_forms_name_the_same_files(index):
    for name, direct in ((mip_index.APPLICATION, index), (mip_index.CORE, index / "core")):
        by_name = json.loads((index / "package" / "6" / name / "latest.json").read_text())
        urls = json.loads((direct / "package.json").read_text())["urls"]
        assert [place for place, _ in by_name["hashes"]] == [place for place, _ in urls]
        for (_, digest), (_, url) in zip(by_name["hashes"], urls, strict=True):
            assert (direct / url).resolve() == (index / "file" / digest[:2] / digest).resolve()
            assert (direct / url).is_file()


def test_a_boards_file_comes_along_where_it_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mip_index, "_core", dict)
    assert mip_index.main([str(tmp_path / "index"), "--board", "hichi_c3"]) == 0
    urls = dict(json.loads((tmp_path / "index" / "package.json").read_text())["urls"])
    assert json.loads((tmp_path / "index" / urls["board.json"]).read_text())["uart"]["rx"] == 3
    assert mip_index.main([str(tmp_path / "index"), "--board", "nosuch"]) == 2
    (tmp_path / "file").touch()
    assert mip_index.main([str(tmp_path / "file")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert "there is no board nosuch" in errors[0] and "cannot be written (Not a directory)" in errors[1]


@pytest.mark.parametrize("core_only", [False, True])
def test_the_manifest_freezes_what_a_board_gets(core_only, monkeypatch):
    """The manifest tool's own functions are played: it is part of MicroPython's sources, which no registry has."""
    monkeypatch.chdir(runtime.REPO)  # as the tool does
    frozen, required = [], []

    def package(name, files, base_path=".", opt=None):
        frozen.extend(Path(base_path, name, file) for file in files)

    def defaults(core_only):
        options.core_only = options.core_only or core_only

    options = SimpleNamespace(core_only=core_only, defaults=defaults)
    given = {"options": options, "package": package, "require": required.append}
    given["module"] = lambda name, opt: frozen.append(Path(name))
    exec((runtime.REPO / "manifest.py").read_text(), given)
    wanted = CORE_NAMES if core_only else [*source_tree.device_modules(), *map(Path, source_tree.STARTERS)]
    assert sorted(frozen) == sorted(wanted) and all(file.is_file() for file in frozen)
    assert required == ([] if core_only else ["umqtt.simple"])
