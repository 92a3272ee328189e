"""`optoprobe image`: what is in the file, judged by others than its maker; what is refused; the probe started from it.

The stock MicroPython is a stand-in (support.stock_image): header, partition table and hashes are valid, its code means
nothing. Where real ones lie on this machine, they are used too. esptool judges the parts, and MicroPython's own VfsLfs2
on the unix port mounts the file system, from which the unmodified application starts.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import littlefs
import pytest
from support import stock_image
from support.broker import Listener

from optoprobe import cli, source_tree
from optoprobe.building import device_tree
from optoprobe.environment import runtime
from optoprobe.flashing import download
from optoprobe.flashing.image import build_image
from optoprobe.flashing.stock_format import Partition, parse_table
from optoprobe.virtual.board import VirtualBoard
from optoprobe.virtual.broker import Broker
from optoprobe.virtual.optical_server import OpticalServer
from optoprobe.virtual.sml_meter import SmlMeter
from optoprobe.virtual.source import MeterSource

BOARD_OF = {"esp32": "esp32_devkit", "esp32c3": "hichi_c3", "esp32s2": "lolin_s2_mini", "esp32s3": "esp32s3_devkit"}
VFS_AT, BLOCK = stock_image.VFS_AT, 4096
SECRET = "correct horse"
SETTINGS = {"wifi_ssid": "home", "wifi_password": SECRET, "mqtt_host": "127.0.0.1", "protocol": "sml"}


def stock(folder, chip="esp32c3", **options):
    file = folder / f"{chip}.bin"
    file.write_bytes(stock_image.make(chip, **options))
    return file


def run(capsys, *arguments):
    """(exit code, what was said, the errors) of optoprobe image."""
    code = cli.main(["image", *map(str, arguments)])
    out, errors = capsys.readouterr()
    assert SECRET not in out + errors
    return code, out, errors


def build(capsys, folder, chip="esp32c3", settings=None):
    """The image of a board with `chip`, and what was said."""
    options = ["--board", BOARD_OF[chip], "--micropython", stock(folder, chip), "--out", folder / "x.bin"]
    if settings is not None:
        (folder / "settings.json").write_text(json.dumps(settings))
        options += ["--settings", folder / "settings.json"]
    code, out, errors = run(capsys, *options)
    assert (code, errors) == (0, "")
    return (folder / "x.bin").read_bytes(), out


def files_in(data, folder="/"):
    """What littlefs-python reads in an image's file system."""
    fs = littlefs.LittleFS(block_size=BLOCK, block_count=stock_image.VFS_BLOCKS, mount=False)
    fs.context.buffer = bytearray(data[VFS_AT:])
    fs.mount()
    return {
        f"{root}/{name}".lstrip("/"): fs.open(f"{root}/{name}", "rb").read()
        for root, _, names in fs.walk(folder)
        for name in names
    }


# --- what is in it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chip", BOARD_OF)
def test_the_stock_image_and_the_applications_files_stand_at_their_places(chip, tmp_path, capsys):
    data, out = build(capsys, tmp_path, chip, SETTINGS)
    at = stock_image.LOADER_AT.get(chip, 0)
    original = stock_image.make(chip)
    assert data[at : at + len(original)] == original and set(data[:at]) <= {0xFF}
    assert set(data[at + len(original) : VFS_AT]) == {0xFF} and len(data) == VFS_AT + stock_image.VFS_BLOCKS * BLOCK
    tree = tmp_path / "tree"
    names = device_tree.build(tree, source_tree.board_files()[BOARD_OF[chip]], SETTINGS)
    assert files_in(data) == {name.as_posix(): (tree / name).read_bytes() for name in names}
    assert hashlib.sha256(data).hexdigest() in out and f"{len(data):,} bytes" in out
    assert hashlib.sha256(original).hexdigest() in out and "MicroPython 1.26" in out


def test_modules_go_into_the_romfs_that_a_build_has_room_in(tmp_path):
    """And into files where it has not; its table names no place for files, as none does from MicroPython 1.26 on."""
    vfs_at = 0x280000
    for rom_bytes in (0x60000, 0x1000):
        file = stock(tmp_path, vfs_blocks=None, vfs_at=vfs_at, rom_bytes=rom_bytes)
        built = build_image(source_tree.board_files()["hichi_c3"], None, file)
        assert built.stock.vfs == Partition("vfs", 1, vfs_at, 0x400000 - vfs_at) and len(built.data) == 4 << 20
        assert parse_table(built.data[0x8000:0x9000])[-1] == built.stock.vfs
        has_modules = "probe/app.mpy" in built.files
        in_rom = built.data[vfs_at - rom_bytes :][: len(built.modules)]
        assert in_rom == built.modules and bool(built.modules) != has_modules
        assert built.modules.startswith(b"\xd2\xcd\x31") == (rom_bytes == 0x60000)
        assert (b"/rom/probe" in built.files["boot.py"]) != has_modules


def test_the_same_input_gives_the_same_bytes(tmp_path, capsys):
    first, _ = build(capsys, tmp_path, settings=SETTINGS)
    for kept in ("_bytecode", "_texts_on_board", "_name_map", "_layout", "_lean_sources", "_lean_text"):
        getattr(device_tree, kept).cache_clear()
    second, _ = build(capsys, tmp_path, settings=SETTINGS)
    assert first == second


def test_esptool_finds_loader_and_application_valid(tmp_path, capsys):
    data, _ = build(capsys, tmp_path)
    for name, part in (("loader", data), ("application", data[0x10000:VFS_AT])):
        file = tmp_path / name
        file.write_bytes(part)
        done = subprocess.run(
            [sys.executable, "-m", "esptool", "--chip", "esp32c3", "image-info", str(file)],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0 and "ESP32-C3" in done.stdout
        assert done.stdout.count("(valid)") == 2 and "invalid" not in done.stdout, done.stdout


def test_settings_are_for_their_owner_only(tmp_path, capsys):
    _, out = build(capsys, tmp_path, settings=SETTINGS)
    assert (tmp_path / "x.bin").stat().st_mode & 0o077 == 0 and "give it to nobody" in out


def test_the_table_beside_it_leads_a_traceback_back(tmp_path, capsys):
    data, _ = build(capsys, tmp_path)
    table = json.loads((tmp_path / "x.names.json").read_text())
    assert table["image_sha256"] == hashlib.sha256(data).hexdigest()
    stem, names = next((stem, names) for stem, names in table["names"].items() if names)
    short, ours = next(iter(names.items()))
    shown = tmp_path / "console.txt"
    shown.write_text(f'Traceback (most recent call last):\n  File "{stem}.py", line 3, in {short}\nValueError: 1\n')
    assert cli.main(["traceback", "--names", str(tmp_path / "x.names.json"), str(shown)]) == 0
    assert f"line 3, in {ours}\n" in capsys.readouterr().out
    assert cli.main(["traceback", "--names", str(shown), str(shown)]) == 2
    assert "is no table of names" in capsys.readouterr().err


# --- what is refused -------------------------------------------------------------------------------------------------


def damaged(change):
    data = bytearray(stock_image.make())
    change(data)
    return bytes(data)


BAD = [
    ("an empty file", b"", "this is no MicroPython for an ESP32"),
    ("a web page", b"<html>" * 9000, "this is no MicroPython for an ESP32"),
    ("a torn download, in the application", stock_image.make()[:-5000], "its application is damaged or cut short"),
    ("without its hash's last byte", stock_image.make()[:-1], "its application is damaged or cut short"),
    ("one bit of the application", damaged(lambda d: d.__setitem__(0x12000, d[0x12000] ^ 1)), "its application is dam"),
    ("one bit of the loader", damaged(lambda d: d.__setitem__(200, d[200] ^ 1)), "its boot loader is damaged"),
    ("one bit of the table", damaged(lambda d: d.__setitem__(0x8004, d[0x8004] ^ 1)), "its partition table is damaged"),
    ("of an earlier version", stock_image.make(version="1.24.0"), "it is MicroPython 1.24: take 1.25 or newer"),
    ("of another chip", stock_image.make("esp32s3"), "is MicroPython for an ESP32-S3, and the board has an ESP32-C3"),
    ("more flash than its loader is for", stock_image.make(vfs_blocks=1024), "its files end at 6 MB, and its loader"),
    ("files amid the application", stock_image.make(vfs_at=0x20000), "its application and its files lie in one an"),
    ("files on the loader", stock_image.make(vfs_at=0), "its partition table gives vfs no place that can be"),
    ("files amid a block", stock_image.make(vfs_at=0x200100), "its partition table gives vfs no place that can be"),
    ("half a block of files", stock_image.make(vfs_blocks=20.5), "its partition table gives vfs no place that can be"),
    ("no place for files", stock_image.make(vfs_blocks=0), "its partition table gives vfs no place that can be"),
    ("more than any flash", stock_image.make(vfs_blocks=9000), "its partition table gives vfs no place that can be"),
    ("too little room", stock_image.make(vfs_blocks=20), "bytes of files do not fit into the 81,920"),
]


@pytest.mark.parametrize(("content", "said"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_micropython_that_will_not_do_is_told_in_one_sentence(content, said, tmp_path, capsys):
    file = tmp_path / "stock.bin"
    file.write_bytes(content)
    code, out, errors = run(capsys, "--board", "hichi_c3", "--micropython", file, "--out", tmp_path / "x.bin")
    assert (code, out) == (2, "") and len(errors.splitlines()) == 1
    assert said in errors.replace("its loader is damaged", "its boot loader is damaged") and str(file) in errors
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--board", "hichi_c3", "--micropython", "nowhere.bin"], "nowhere.bin cannot be read (No such file"),
        (["--board", "virtual"], "the board virtual names no chip: give MicroPython with --micropython FILE"),
        (["--board", "nosuch"], "there is no board nosuch"),
        (["--board", "hichi_c3", "--settings", "nowhere.json"], "there is no settings file nowhere.json"),
        (["--board", "hichi_c3", "--micropython", "STOCK", "--out", "nowhere/x.bin"], "nowhere/x.bin cannot be writ"),
        (["--board", "hichi_c3", "--micropython", "STOCK", "--out", "STOCK"], "esp32c3.bin is read for the image"),
        (["--board", "hichi_c3", "--micropython", "/dev/zero"], "/dev/zero is larger than any flash"),
        (["--board", "hichi_c3", "--micropython", "."], ". cannot be read (Is a directory)"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stock(tmp_path)
    code, out, errors = run(capsys, *[argument.replace("STOCK", "esp32c3.bin") for argument in arguments])
    assert (code, out) == (2, "") and said in errors and len(errors.splitlines()) == 1


@pytest.mark.parametrize("name", ["esptool", "littlefs", "mpflash"])
def test_without_the_extra_it_is_told_how_to_get_it(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = [] if name == "mpflash" else ["--micropython", stock(tmp_path)]
    code, _, errors = run(capsys, "--board", "hichi_c3", *options)
    assert code == 2 and errors.startswith(f"optoprobe image: {name} is missing: pip install 'optoprobe[flash]'")
    assert len(errors.splitlines()) == 1


# --- fetching --------------------------------------------------------------------------------------------------------

# In front of the real mpflash: writes down how it was called, and brings what lies in STOCK, if anything.
MPFLASH = """
import os, pathlib, sys
def mpflash():
    with open(os.environ["CALLS"], "a") as calls:
        print(*sys.argv[1:], file=calls)
    if os.path.exists(os.environ["STOCK"]):
        folder = pathlib.Path(os.environ["MPFLASH_FIRMWARE"], "esp32")
        folder.mkdir()
        build, version = (sys.argv[sys.argv.index(option) + 1] for option in ("--board", "--version"))
        (folder / f"{build}-v{version}.bin").write_bytes(pathlib.Path(os.environ["STOCK"]).read_bytes())
"""


class Fetching:
    """A cache and an mpflash that brings `stock`'s content; `calls` are its command lines."""

    def __init__(self, folder, monkeypatch):
        self.stock, self._calls = folder / "bring.bin", folder / "calls"
        self.cache = folder / "cache" / "optoprobe" / "micropython"
        (folder / "mpflash").mkdir()
        (folder / "mpflash" / "__init__.py").touch()
        (folder / "mpflash" / "cli_main.py").write_text(MPFLASH)
        for name, value in {"STOCK": self.stock, "CALLS": self._calls, "XDG_CACHE_HOME": folder / "cache"}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.chdir(folder)

    @property
    def calls(self):
        return self._calls.read_text().splitlines() if self._calls.exists() else []


@pytest.fixture
def fetching(tmp_path, monkeypatch):
    return Fetching(tmp_path, monkeypatch)


def test_what_is_fetched_is_kept_with_its_hash_and_fetched_once(fetching, capsys):
    fetching.stock.write_bytes(stock_image.make(version=download.version()))
    for _ in range(2):
        code, out, errors = run(capsys, "--board", "hichi_c3")
        assert (code, errors) == (0, "")
    assert len(fetching.calls) == 1 and "Fetching" not in out
    assert f"download --version {download.version()} --board ESP32_GENERIC_C3" in fetching.calls[0]
    kept = fetching.cache / f"ESP32_GENERIC_C3-{download.version()}.bin"
    digest = hashlib.sha256(fetching.stock.read_bytes()).hexdigest()
    assert kept.with_suffix(".sha256").read_text() == f"{digest}  {kept.name}\n" and digest in out
    assert sorted(file.name for file in fetching.cache.iterdir()) == [kept.name, kept.with_suffix(".sha256").name]


def test_a_kept_file_that_has_changed_is_fetched_anew(fetching, capsys):
    fetching.stock.write_bytes(stock_image.make())
    assert run(capsys, "--board", "hichi_c3")[0] == 0
    kept = next(fetching.cache.glob("*.bin"))
    kept.write_bytes(kept.read_bytes()[:-100])
    assert run(capsys, "--board", "hichi_c3")[0] == 0
    assert len(fetching.calls) == 2 and kept.read_bytes() == fetching.stock.read_bytes()


@pytest.mark.parametrize(
    ("brought", "said"),
    [
        (None, "MicroPython cannot be fetched: check the network, or take the .bin of MicroPython"),
        (stock_image.make()[:-100], "its application is damaged or cut short: run this again"),
        (stock_image.make("esp32s3"), "what was fetched cannot be used, it is for another chip: run this again"),
    ],
    ids=["nothing", "a torn one", "another chip's"],
)
def test_what_cannot_be_fetched_leaves_nothing_behind(brought, said, fetching, capsys):
    if brought is not None:
        fetching.stock.write_bytes(brought)
    code, _, errors = run(capsys, "--board", "hichi_c3")
    assert code == 1 and said in errors and len(errors.splitlines()) == 1
    assert list(fetching.cache.iterdir()) == [] and not list(Path().glob("optoprobe-*"))


# Of the real mpflash only the network is played: a page of boards, a board's page, and the files it links to.
WEB = """
import os, pathlib, requests
class Answer:
    def __init__(self, content):
        self.content = content
def get(address, **_):
    name = address.rpartition("/")[2]
    if "port=" in name:
        return Answer(b'<a class="board-card" href="OTHER">x</a><a class="board-card" href="ESP32_GENERIC">x</a>')
    if name == "ESP32_GENERIC":
        links = [f"ESP32_GENERIC{v}.bin" for v in os.environ["LINKS"].split()]
        return Answer("".join(f'<a href="/resources/firmware/{link}">x</a>' for link in links).encode())
    wanted = name == f"ESP32_GENERIC-20260601-v{os.environ['VERSION']}.bin"
    return Answer(pathlib.Path(os.environ["STOCK"]).read_bytes() if wanted else b"another file")
requests.get = get
"""


def test_the_real_mpflash_brings_the_version_without_a_variant(tmp_path, monkeypatch, capsys):
    version = download.version()
    (tmp_path / "sitecustomize.py").write_text(WEB)
    links = [f"-20260601-v{version}", f"-D2WD-20260601-v{version}", f"-SPIRAM-20260601-v{version}", "-20240101-v1.24.0"]
    given = {"PYTHONPATH": tmp_path, "XDG_CACHE_HOME": tmp_path / "cache", "HOME": tmp_path / "home"}
    given |= {"VERSION": version, "LINKS": " ".join(links), "STOCK": stock(tmp_path, "esp32", version=version)}
    for name, value in given.items():
        monkeypatch.setenv(name, str(value))
    code, out, errors = run(capsys, "--board", "esp32_devkit", "--out", tmp_path / "x.bin")
    assert (code, errors) == (0, "") and "optoprobe 0" in out
    assert [file.name for file in (tmp_path / "cache").rglob("*.bin")] == [f"ESP32_GENERIC-{version}.bin"]
    assert not (tmp_path / "home").exists()  # mpflash would put a folder into the user's downloads


# --- the probe that starts from it -----------------------------------------------------------------------------------

# Mounts the image's file system as an ESP32's boot does and starts what lies there; the hardware's fakes lie outside.
START = """
import os, sys, vfs
class Flash:
    def __init__(self, at, blocks):
        self.file = open("x.bin", "r+b")
        self.at = at
        self.blocks = blocks
    def readblocks(self, n, buf, off=0):
        self.file.seek(self.at + n * 4096 + off)
        self.file.readinto(buf)
    def writeblocks(self, n, buf, off=None):
        if off is None:
            off = 0
        self.file.seek(self.at + n * 4096 + off)
        self.file.write(buf)
        self.file.flush()
    def ioctl(self, op, arg):
        return self.blocks if op == 4 else 4096 if op == 5 else 0
flash = Flash(%d, %d)
vfs.mount(vfs.VfsPosix(os.getcwd()), "/host")
vfs.umount("/")
vfs.mount(vfs.VfsLfs2(flash), "/")
sys.path[:] = ["", "/lib", "/host/hardware", ".frozen"]
print("mounted", sorted(os.listdir("/")))
import boot, main
"""


def test_the_unmodified_application_starts_from_it_and_reads(tmp_path, capsys):
    with Broker(tmp_path / "broker") as broker, OpticalServer(MeterSource(SmlMeter())) as server:
        settings = SETTINGS | {"mqtt_port": broker.port, "probe_id": "of_image"}
        data, _ = build(capsys, tmp_path, settings=settings)
        folder = tmp_path / "device"
        start = START % (VFS_AT, stock_image.VFS_BLOCKS)
        board = VirtualBoard(folder, None, server.port, heap_bytes=120 * 1024, start=start)
        for path in folder.iterdir():  # only the fakes of the hardware stay
            if path.name != "hardware":
                path.rename(tmp_path / path.name)
        (folder / "x.bin").write_bytes(data)
        with Listener(broker.port) as listener:
            listener.subscribed()
            with board:
                reading = listener.wait_for("/state", 30)
        assert "mounted ['board.json', 'boot.py'" in board.log[0], board.log
        assert reading.object()


@pytest.mark.parametrize("blocks", [stock_image.VFS_BLOCKS - 1, stock_image.VFS_BLOCKS + 1])
def test_micropython_mounts_it_with_exactly_the_partitions_blocks(blocks, tmp_path, capsys):
    """So that the test above shows what it should: one block fewer or more is refused."""
    data, _ = build(capsys, tmp_path)
    (tmp_path / "x.bin").write_bytes(data + bytes(BLOCK))
    code = (START % (VFS_AT, blocks)).partition("sys.path[:] =")[0]
    done = subprocess.run([runtime.micropython(), "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "OSError: [Errno 22] EINVAL" in done.stdout + done.stderr


@pytest.mark.parametrize("file", stock_image.real_images(), ids=lambda file: file.stem)
def test_a_real_micropython_is_taken(file, tmp_path, capsys):
    chip = {0: "esp32", 2: "esp32s2", 5: "esp32c3", 9: "esp32s3"}[file.read_bytes()[12]]
    code, out, errors = run(capsys, "--board", BOARD_OF[chip], "--micropython", file, "--out", tmp_path / "x.bin")
    assert code == 0 or "take 1.25 or newer" in errors, out + errors
