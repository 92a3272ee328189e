"""`optoprobe flash`: the whole way with esptool against a chip's boot ROM played on a pty, and each failure's sentence.

The MicroPython that is written is a stand-in (tests_host/support/stock_image.py); where real ones lie they are taken
apart too. No chip has confirmed a flash yet.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
import tty
from types import SimpleNamespace

import pytest
from support import stock_image
from support.mock_chip import MockChip

from optoprobe import board_port, cli, source_tree
from optoprobe.building import device_tree
from optoprobe.commands import flash
from optoprobe.demo.picture import Picture
from optoprobe.environment import runtime
from optoprobe.flashing import board_console, download, esp_chip, file_system, stock_format
from optoprobe.flashing.error import FlashError
from optoprobe.monitoring import probe_alignment, probe_log
from optoprobe.virtual.board import VirtualBoard
from optoprobe.virtual.broker import Broker
from optoprobe.virtual.optical_server import OpticalServer
from optoprobe.virtual.sml_meter import SmlMeter

SECRETS = ("correct horse", "battery staple")
SETTINGS = {
    "wifi_ssid": "Häuschen", "wifi_password": SECRETS[0], "mqtt_host": "broker", "mqtt_password": SECRETS[1],
    "setup_password": "staple battery",
}  # fmt: skip
REAL_MICROPYTHON_BYTES = 1_672_800 + 0x10000  # ESP32, 1.23, with loader and table; the stand-in is far smaller
BLOCKS = 224  # of the small file systems most tests write
BOARDS = {"esp32": "esp32_devkit", "esp32c3": "hichi_c3"}


@pytest.fixture(scope="module")
def application(tmp_path_factory):
    tree = tmp_path_factory.mktemp("application")
    files = device_tree.build(tree, source_tree.board_files()["hichi_c3"], None)
    return {name.as_posix(): (tree / name).read_bytes() for name in files}


@pytest.fixture
def there(tmp_path, monkeypatch, application):
    """A directory with settings; the application is built once for all tests, and nothing is asked."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def built(board, settings, rom):
        own = {} if settings is None else {"settings.json": settings.read_bytes()}
        return application | own, b"RM1" if rom else b""

    monkeypatch.setattr(flash, "build_files", built)
    monkeypatch.setattr(flash, "_asks", lambda: False)
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS))
    return tmp_path


def stock(folder, chip="esp32c3", **options):
    file = folder / f"{chip}.bin"
    file.write_bytes(stock_image.make(chip, **{"vfs_blocks": BLOCKS} | options))
    return file


def run(capsys, *arguments):
    """(exit code, standard output, standard error) of `optoprobe flash`, which must not show a secret."""
    code = cli.main(["flash", *map(str, arguments)])
    said = capsys.readouterr()
    assert not any(secret in said.out + said.err for secret in SECRETS)
    assert code == 0 or len(said.err.splitlines()) == 1 and said.err.startswith("optoprobe flash: "), said
    return code, said.out, said.err


def files_of(chip, n_blocks=BLOCKS, vfs_at=stock_image.VFS_AT):
    """Every file in the chip's file system."""
    data = bytes(chip.flash.data)
    found = {}
    ours = file_system._OURS
    file_system._OURS = ()
    try:
        found = file_system.owners_files(lambda at, n: data[vfs_at + at :][:n], n_blocks)
    finally:
        file_system._OURS = ours
    return found


# --- the whole way ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chip", ["esp32", "esp32c3", "esp32s3"])
def test_a_new_board_gets_micropython_and_the_files(capsys, there, application, chip):
    board = BOARDS.get(chip) or source_tree.board_files()["virtual"]
    image = stock(there, chip)
    with MockChip(chip) as mock:
        options = ("--port", mock.port, "--board", board, "--micropython", image, "--no-watch")
        code, out, error = run(capsys, *options, "--settings", there / "settings.json")
        assert code == 0 and "All is written and verified" in out and mock.openings == 1, error
        at = stock_image.LOADER_AT.get(chip, 0)
        content = image.read_bytes()
        assert mock.flash.data[at : at + len(content)] == content
        assert files_of(mock) == application | {"settings.json": (there / "settings.json").read_bytes()}


def test_micropython_mounts_what_was_packed(there, application):
    image = there / "vfs.img"
    image.write_bytes(file_system.pack(application | {"settings.json": b"{}"}, stock_image.VFS_BLOCKS))
    script = f"""
import vfs
class Flash:
    def __init__(self):
        self.file = open({str(image)!r}, "r+b")
    def readblocks(self, n, buf, off=0):
        self.file.seek(n * 4096 + off)
        self.file.readinto(buf)
    def writeblocks(self, n, buf, off=0):
        self.file.seek(n * 4096 + off)
        self.file.write(buf)
    def ioctl(self, op, arg):
        return {stock_image.VFS_BLOCKS} if op == 4 else 4096 if op == 5 else 0
vfs.mount(Flash(), "/board")  # as _boot.py: found by what lies in its first blocks
import sys, os
sys.path[:] = ["/board/probe", "/board"]
import sml
with open("/board/totals.json", "w") as file:
    file.write("[1]")
print(open("/board/settings.json").read(), sml.__name__, len(os.listdir("/board/probe")))
"""
    done = subprocess.run([runtime.micropython(), "-c", script], capture_output=True, text=True, timeout=30)
    n = len({name.split("/")[1] for name in application if name.startswith("probe/")})
    assert done.stdout == f"{{}} sml {n}\n", done.stderr


def test_the_same_files_give_the_same_bytes(application):
    assert file_system.pack(application, BLOCKS) == file_system.pack(dict(reversed(application.items())), BLOCKS)


def test_what_the_owner_has_on_the_board_stays(capsys, there, application):
    own = {"settings.json": b'{"wifi_ssid": "old"}', "counters.json": b"[]", "lib/other/mine.py": b"x = 1\n"}
    gone = ("firmware/gone.mpy", "lib/metering/gone.mpy", "probe/gone.mpy")
    before = own | dict.fromkeys(gone, b"old") | {"board.json": b"{}"}
    with MockChip("esp32c3") as mock:
        content = stock_image.make("esp32c3", vfs_blocks=BLOCKS) + b"\xff" * (4 << 20)
        mock.flash.data[: 4 << 20] = content[: 4 << 20]
        image = file_system.pack(before, BLOCKS)
        mock.flash.data[stock_image.VFS_AT : stock_image.VFS_AT + len(image)] = image
        mock.flash.data[0x9000:0x9004] = b"nvs!"
        options = ("--port", mock.port, "--board", "hichi_c3", "--micropython", stock(there), "--no-watch")
        code, out, _ = run(capsys, *options)
        assert code == 0 and "Kept of the board: counters.json, lib/other/mine.py, settings.json" in out
        assert files_of(mock) == application | own
        assert mock.flash.data[0x9000:0x9004] == b"nvs!", "what is not replaced must not be erased"
        code, _, _ = run(capsys, *options, "--settings", there / "settings.json")
        assert code == 0 and files_of(mock) == application | own | {
            "settings.json": (there / "settings.json").read_bytes()
        }
        own_wifi = SETTINGS["setup_password"]
        bare = {key: value for key, value in SETTINGS.items() if key != "setup_password"}
        (there / "bare.json").write_text(json.dumps(bare))
        code, out, _ = run(capsys, *options, "--settings", there / "bare.json")
        assert code == 0 and json.loads(files_of(mock)["settings.json"]) == SETTINGS and own_wifi not in out
        code, out, _ = run(capsys, *options, "--settings", there / "bare.json", "--erase")
        assert code == 0 and set(files_of(mock)) == {*application, "settings.json"}
        made = json.loads(files_of(mock)["settings.json"])["setup_password"]
        assert len(made) == 12 and out.count(f"password {made}\n") == 1
        assert mock.flash.data[0x9000:0x9004] == b"\xff" * 4


def test_a_micropython_of_today_whose_table_names_no_place_for_files(capsys, there, monkeypatch):
    """From 1.26 on: MicroPython makes one behind the last partition, and ours is named in the table."""
    blocks, application = 32, {"boot.py": b"import main\n"}
    monkeypatch.setattr(flash, "build_files", lambda board, settings, rom: (application, b"RM1" if rom else b""))
    rom_bytes, vfs_at = 0x20000, (4 << 20) - blocks * 4096
    options = {"vfs_blocks": None, "vfs_at": vfs_at, "rom_bytes": rom_bytes}
    content = stock_image.make("esp32c3", **options)
    own = {"settings.json": b'{"wifi_ssid": "old"}'}
    with MockChip("esp32c3") as mock:
        mock.flash.data[: len(content)] = content
        mock.flash.data[vfs_at:] = file_system.pack(own, blocks)
        file = stock(there, **options)
        code, out, error = run(capsys, "--port", mock.port, "--board", "hichi_c3", "--micropython", file, "--no-watch")
        assert code == 0 and "Kept of the board: settings.json" in out, error
        assert files_of(mock, blocks, vfs_at) == application | own
        rows = {row.name: row for row in stock_format.parse_table(mock.flash.data[0x8000:0x9000])}
        assert (rows["vfs"].offset, rows["vfs"].size) == (vfs_at, blocks * 4096)
        assert mock.flash.data[vfs_at - rom_bytes :][:3] == b"RM1", "modules, where a build has ROMFS for them"
        written = bytes(mock.flash.data[: len(content)])
        assert written[:0x8000] == content[:0x8000] and written[0x9000:] == content[0x9000:]
        anothers = b"\xd2\xcd\x31\x08\x04\x06\x04mine\0"
        mock.flash.data[vfs_at - rom_bytes : vfs_at - rom_bytes + len(anothers)] = anothers
        code, out, error = run(capsys, "--port", mock.port, "--board", "hichi_c3", "--micropython", file, "--no-watch")
        assert code == 0 and "holds what is not ours" in out, error
        assert mock.flash.data[vfs_at - rom_bytes :][: len(anothers)] == anothers


def test_where_micropython_has_its_files_in_a_larger_flash():
    """ports/esp32/main.c of MicroPython 1.26 to 1.29: to the end that the flash tells."""
    rows = stock_format.parse_table(stock_image.table(None))
    found = stock_format.place_for_files(rows, 16 << 20)
    assert found == stock_format.Partition("vfs", 1, 2 << 20, 14 << 20)
    assert stock_format.place_for_files(rows, 2 << 20) is None
    tiny_uf2 = [*rows, stock_format.Partition("ffat", 1, 2 << 20, 1 << 20)]
    assert stock_format.place_for_files(tiny_uf2, 16 << 20) is None


def test_a_board_that_is_refused_goes_on_with_what_it_ran(capsys, there, monkeypatch):
    """To be asked it was put into its boot ROM, which waits for ever."""
    from esptool import cmds

    resets = []
    monkeypatch.setattr(cmds, "reset_chip", lambda esp, mode: resets.append((esp.IS_STUB, mode)))
    with MockChip("esp32c3") as mock:
        code, _, error = run(capsys, "--port", mock.port, "--micropython", stock(there, "esp32"))
        assert code == 1 and "wrong chip" in error and resets == [(False, "hard-reset")]


def test_a_micropython_for_later_chips_is_refused_before_anything_is_erased(capsys, there):
    """esptool refuses its loader only when it is to be written; of a C3 ESP-IDF's have v0.3 to v1.99."""
    file = stock(there)
    data = bytearray(file.read_bytes())
    size = stock_format.image_bytes(bytes(data[: stock_format.TABLE_AT]), "boot loader")
    data[15:19] = struct.pack("<HH", 3, 199)
    data[size - 32 : size] = hashlib.sha256(data[: size - 32]).digest()
    file.write_bytes(data)
    with MockChip("esp32c3") as mock:
        mock.flash.data[: len(data)] = data
        options = ("--board", "hichi_c3", "--micropython", file, "--settings", there / "settings.json", "--erase")
        code, _, error = run(capsys, "--port", mock.port, *options)
        assert code == 1 and "the chip is of v0.0, and this MicroPython for v0.3 to v1.99" in error
        assert mock.flash.data[: len(data)] == data


def test_of_a_boards_file_system_little_is_read():
    """The boot ROM sends 64 bytes at a time. The sizes are those of MicroPython's own (extmod/vfs_lfs.c)."""
    from littlefs import LittleFS

    sizes = {"read_size": 32, "prog_size": 32, "cache_size": 128, "lookahead_size": 32}
    fs = LittleFS(block_size=4096, block_count=BLOCKS, **sizes)
    fs.mkdir("probe")
    own = {"settings.json": b"{}" * 300, "energy.json": b"[]"}
    for path, content in ({f"probe/m{n}.mpy": b"mpy" * 900 for n in range(60)} | own).items():
        with fs.open(path, "wb") as file:
            file.write(content)
    flash = bytes(fs.context.buffer)
    pieces = []

    def read(at, n):
        pieces.append(n)
        return flash[at:][:n]

    assert file_system.owners_files(read, BLOCKS) == own
    assert sum(pieces) < 12 * 1024  # of whole blocks it were 40 KB


def test_a_board_lost_while_its_files_are_read_is_no_board_without_files():
    """littlefs ignores what its reader raises: no piece that did not come may end as an empty, or a shorter, list."""
    files = {"settings.json": b'{"wifi_ssid": "old"}' * 100, "energy.json": b"[1]"}
    image = file_system.pack(files, 64)
    n_reads = 0

    def reader(lost_at):
        def read(at, size):
            nonlocal n_reads
            n_reads += 1
            if n_reads > lost_at:
                raise FlashError("the board was lost")
            return image[at : at + size]

        return read

    assert file_system.owners_files(reader(10_000), 64) == files
    needed, n_reads = n_reads, 0
    assert needed > 4
    for lost_at in range(needed):
        n_reads = 0
        with pytest.raises(FlashError, match="the board was lost"):
            file_system.owners_files(reader(lost_at), 64)


def test_files_that_cannot_be_kept_are_named_and_nothing_is_written_over(tmp_path):
    """One too large, and one whose blocks are damaged; before it is known which, none is left out."""
    large = file_system.pack({"settings.json": b"{}", "log.bin": bytes(600_000)}, 200)
    with pytest.raises(FlashError, match="log.bin has 600,000 bytes"):
        file_system.owners_files(lambda at, n: large[at : at + n], 200)
    deep = file_system.pack({"/".join("abcdefghijk"): b"x"}, 64)
    with pytest.raises(FlashError, match="folders in more than 8 folders"):
        file_system.owners_files(lambda at, n: deep[at : at + n], 64)
    with pytest.raises(file_system.NoFiles):
        file_system.owners_files(lambda at, n: b"\xff" * n, 64)


def test_a_flash_that_fails_before_the_files_keeps_none_of_them(capsys, there):
    """The board's own stay the newest: kept ones would come back months later."""
    own = {"settings.json": b'{"wifi_ssid": "old"}'}
    with MockChip("esp32c3") as mock:
        mock.flash.data[: 64 << 10] = stock_image.make("esp32c3", vfs_blocks=BLOCKS)[: 64 << 10]
        image = file_system.pack(own, BLOCKS)
        mock.flash.data[stock_image.VFS_AT : stock_image.VFS_AT + len(image)] = image
        mock.flash.data[0x1C] ^= 1  # of the loader, which comes first: it is written
        options = ("--port", mock.port, "--board", "hichi_c3", "--micropython", stock(there), "--no-watch")
        mock.unplug_after = 0
        code, _, _ = run(capsys, *options)
        assert code == 1 and files_of(mock) == own and not list((there / "cache").rglob("kept-*.json"))


def test_a_flash_cut_short_is_repeated_and_loses_nothing(capsys, there, application):
    own = {"settings.json": b'{"wifi_ssid": "old", "wifi_password": "correct horse"}', "totals.json": b"[1]"}
    with MockChip("esp32c3") as mock:
        mock.flash.data[: 64 << 10] = stock_image.make("esp32c3", vfs_blocks=BLOCKS)[: 64 << 10]
        image = file_system.pack(own, BLOCKS)
        mock.flash.data[stock_image.VFS_AT : stock_image.VFS_AT + len(image)] = image
        options = ("--port", mock.port, "--board", "hichi_c3", "--micropython", stock(there), "--no-watch")
        mock.unplug_after = 6  # behind those of MicroPython
        code, _, error = run(capsys, *options)
        assert code == 1 and "the board was lost in writing files" in error and "run the same command again" in error
        kept = list((there / "cache").rglob("kept-*.json"))
        assert len(kept) == 1 and kept[0].stat().st_mode & 0o077 == 0
        mock.unplug_after = None
        code, out, _ = run(capsys, *options)
        assert code == 0 and "cut short" in out
        assert files_of(mock) == application | own
        assert not list((there / "cache").rglob("kept-*"))


def test_a_board_of_another_chip_is_refused(capsys, there):
    with MockChip("esp32c3") as mock:
        options = ("--port", mock.port, "--board", "esp32_devkit", "--micropython", stock(there))
        code, _, error = run(capsys, *options)
        assert code == 2 and "is for an ESP32" in error.replace("MicroPython for", "is for")


def test_the_plan_fits_a_screen_and_touches_nothing(capsys, there):
    options = ("--board", "hichi_c3", "--micropython", stock(there), "--settings", there / "settings.json")
    code, out, _ = run(capsys, *options, "--dry-run", "--port", "/dev/no-such-port")
    assert code == 0 and out.endswith("Nothing was touched.\n")
    assert len(out.splitlines()) <= 25 and max(map(len, out.replace(str(there), "").splitlines())) < 80
    assert re.search(r"^    Over the cable at 460800 baud: \d+ s at most$", out, re.MULTILINE)
    assert "ESP32-C3 with 2 MB of flash is at /dev/no-such-port" in out and "  MicroPython 1.26\n" in out
    assert "Read the board's own files" in out and "Erase" not in out
    _, out, _ = run(capsys, *options, "--dry-run", "--erase")
    assert " 2. Erase everything\n" in out


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_board_wifi_and_broker_are_asked(capsys, there, monkeypatch):
    boards = [name for name, file in source_tree.board_files().items() if '"chip": "esp32c3"' in file.read_text()]
    answers = iter(["", "77", str(1 + boards.index("hichi_c3")), "x", "", "", "Häuschen", "192.168.1.5", "me"])
    passwords = iter(["x", SECRETS[0], SECRETS[1]])
    monkeypatch.setattr(flash, "_asks", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    monkeypatch.setattr(flash.getpass, "getpass", lambda _: next(passwords))
    with MockChip("esp32c3") as mock:
        monkeypatch.setattr(esp_chip, "find_ports", lambda: [(mock.port, "USB JTAG/serial")])
        code, out, _ = run(capsys, "--micropython", stock(there), "--no-watch")
        assert code == 0 and "Which board is it?" in out and "Hichi IR WiFi v2" in out and "LOLIN D32" not in out
        assert f"  {1 + len(boards)}  another one: you are asked for its pins\n" in out
        assert "mqtt_host is missing" in out
        made = json.loads(files_of(mock)["settings.json"])
        password = made.pop("setup_password")
        assert len(password) == 12 and out.count(f"password {password}\n") == 1
        assert made == {
            "wifi_ssid": "Häuschen", "wifi_password": SECRETS[0], "mqtt_host": "192.168.1.5", "mqtt_user": "me",
            "mqtt_password": SECRETS[1],
        }  # fmt: skip


def test_a_wifi_that_is_given_later_is_no_setting(capsys, there, monkeypatch):
    """The probe waits for it then, and says so: that is where the command ends."""
    monkeypatch.setattr(flash, "_asks", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "")
    with MockChip("esp32c3") as mock:
        options = ("--board", "hichi_c3", "--micropython", stock(there), "--port", mock.port, "--no-watch")
        code, _, _ = run(capsys, *options)
        assert code == 0 and "settings.json" not in files_of(mock)
    with Talker(b"optoprobe: settings: no Wi-Fi is set, so nothing is published: give it\r\n") as talker:
        assert flash._watch(talker.port, time.monotonic()) == 0
    assert "Done: the probe waits for its Wi-Fi; give it by optoprobe config --port" in capsys.readouterr().out


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ports", "code", "said"),
    [
        ([], 1, "no port of a board is found: plug it in with a cable that carries data"),
        ([("/dev/ttyUSB0", ""), ("/dev/ttyUSB1", "")], 2, "several ports: name one with --port (/dev/ttyUSB0, "),
    ],
)
def test_no_port_or_several(capsys, there, monkeypatch, ports, code, said):
    monkeypatch.setattr(esp_chip, "find_ports", lambda: ports)
    found, _, error = run(capsys, "--board", "hichi_c3", "--micropython", stock(there))
    assert found == code and said in error


def test_a_port_that_is_not_there(capsys, there):
    options = ("--board", "hichi_c3", "--micropython", stock(there))
    code, _, error = run(capsys, *options, "--port", "/dev/ttyUSB77")
    assert code == 1 and "there is no port /dev/ttyUSB77: plug the board in" in error


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "you may not use {port}: run `sudo usermod -aG dialout $USER`"),
        (errno.EBUSY, "close other programs"),
    ],
)
def test_a_port_that_may_not_be_opened(capsys, there, monkeypatch, number, said):
    image = stock(there)
    with MockChip("esp32c3") as mock:

        def refuse(path, flags, *more):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(board_port.os, "open", refuse)
        options = ("--board", "hichi_c3", "--micropython", image, "--port", mock.port)
        code, _, error = run(capsys, *options)
        monkeypatch.undo()
    assert code == 1 and said.format(port=mock.port) in error


def test_a_chip_that_is_not_in_boot_mode(capsys, there, monkeypatch):
    monkeypatch.setattr(esp_chip, "_CONNECT_ATTEMPTS", 1)
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        options = ("--board", "hichi_c3", "--micropython", stock(there), "--port", os.ttyname(slave))
        code, _, error = run(capsys, *options)
    finally:
        os.close(master)
        os.close(slave)
    assert code == 1 and "no chip answers" in error and "hold the button BOOT" in error and "9 on a C3" in error


def test_another_chip_and_another_boards_file(capsys, there):
    with MockChip("esp32s3") as mock:
        options = ("--micropython", stock(there), "--port", mock.port)
        code, _, error = run(capsys, "--board", "hichi_c3", *options)
        assert code == 1 and "wrong chip: the board at" in error and "has an ESP32-S3" in error
        assert mock.flash.data == b"\xff" * len(mock.flash.data)
    code, _, error = run(capsys, "--board", "esp32_devkit", *options)
    assert code == 2 and "is MicroPython for an ESP32-C3, and the board has an ESP32: take the .bin" in error


def test_too_small_a_flash(capsys, there, monkeypatch):
    from esptool import cmds

    monkeypatch.setattr(cmds, "detect_flash_size", lambda esp: "2MB")
    with MockChip("esp32c3") as mock:
        code, _, error = run(capsys, "--board", "hichi_c3", "--micropython", stock(there), "--port", mock.port)
        assert code == 1 and "wrong flash size: the flash is 2 MB" in error
        assert mock.flash.data == b"\xff" * len(mock.flash.data)


def test_flash_that_does_not_hold_what_was_written(capsys, there):
    with MockChip("esp32c3") as mock:
        write = mock.flash.write_defl_block

        def stuck(payload):
            write(payload)
            mock.flash.data[0x10005] = 0x55

        mock.flash.write_defl_block = stuck
        options = ("--board", "hichi_c3", "--micropython", stock(there), "--settings", there / "settings.json")
        code, _, error = run(capsys, *options, "--port", mock.port)
    assert code == 1 and "verify failed" in error and "another cable" in error


def damaged(content, at):
    return content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: b"", "this is no MicroPython for an ESP32"),
        (lambda c: b"\x7fELF" + c[4:], "this is no MicroPython for an ESP32"),
        (lambda c: c[:-1000], "its application is damaged or cut short: fetch the file again"),
        (lambda c: damaged(c, 0x10300), "its application is damaged or cut short"),
        (lambda c: damaged(c, 100), "its boot loader is damaged or cut short"),
        (lambda c: damaged(c, 0x8005), "its partition table is damaged"),
        (lambda c: c[:12] + b"\x77\0" + c[14:], "is for a chip with the number 119"),
        (lambda c: stock_image.make(version="1.24.0"), "it is MicroPython 1.24: take 1.25 or newer"),
        (lambda c: c.replace(b"MicroPython v", b"CircuitPytho "), "its application is damaged"),
    ],
)
def test_a_micropython_file_that_cannot_be_used(capsys, there, change, said):
    (there / "m.bin").write_bytes(change(stock_image.make()))
    code, out, error = run(capsys, "--board", "hichi_c3", "--dry-run", "--micropython", there / "m.bin")
    assert (code, out) == (2, "") and said in error


def test_without_a_file_it_is_fetched_for_the_boards_chip(capsys, there, monkeypatch):
    asked = []

    def fetch(chip):
        asked.append(chip)
        return stock(there, chip)

    monkeypatch.setattr(download, "micropython_for", fetch)
    code, out, _ = run(capsys, "--board", "hichi_c3", "--dry-run")
    assert code == 0 and "  MicroPython 1.26\n" in out
    with MockChip("esp32s3") as mock:  # a board without a word of its chip, and no network
        virtual = source_tree.board_files()["virtual"]
        options = ("--port", mock.port, "--board", virtual, "--settings", there / "settings.json", "--no-watch")
        assert run(capsys, *options)[0] == 0
        assert asked == ["esp32c3", "esp32s3"]

        def fail(chip):
            raise FlashError("MicroPython cannot be fetched: check the network, or take the .bin")

        monkeypatch.setattr(download, "micropython_for", fail)
        code, _, error = run(capsys, *options)
        assert code == 1 and "cannot be fetched: check the network" in error
    code, _, error = run(capsys, "--dry-run")
    assert code == 2 and "a plan needs a chip" in error


def test_every_byte_of_loader_table_and_application_is_covered():
    content = stock_image.make(app_bytes=300)
    for at in (*range(0, 700, 61), *range(0x8000, 0x8080, 7), *range(0x10018, len(content), 53)):
        with pytest.raises(stock_format.StockError):
            stock_format.parse(damaged(content, at))


@pytest.mark.parametrize("file", stock_image.real_images(), ids=lambda file: file.name)
def test_real_images_are_taken_apart(file):
    try:
        found = stock_format.parse(file.read_bytes())
    except stock_format.StockError as error:
        assert "take" in str(error)
    else:
        assert found.vfs.size >= 1 << 20


def test_more_files_than_there_is_room_for(capsys, there):
    with MockChip("esp32c3") as mock:
        options = ("--settings", there / "settings.json", "--port", mock.port)
        image = stock(there, vfs_blocks=60)
        code, _, error = run(capsys, "--board", "hichi_c3", "--micropython", image, *options)
        assert code == 2 and "do not fit into the board's 245,760" in error
        assert mock.flash.data == b"\xff" * len(mock.flash.data)


def test_without_settings_nothing_is_written(capsys, there):
    with MockChip("esp32c3") as mock:
        options = ("--board", "hichi_c3", "--micropython", stock(there), "--port", mock.port)
        code, _, error = run(capsys, *options)
        assert code == 2 and "give your Wi-Fi and broker with --settings" in error
        assert mock.flash.data == b"\xff" * len(mock.flash.data)


# --- the first start -------------------------------------------------------------------------------------------------


def test_from_flash_to_the_broker_the_light_and_the_first_reading(capsys, there, monkeypatch):
    """What was written runs: the files are taken out of the mock chip's flash and put onto the virtual board."""
    with (
        Broker(there / "broker") as broker,
        OpticalServer(SmlMeter(period_s=1)) as light,
        MockChip("esp32c3") as mock,
    ):
        settings = SETTINGS | {"mqtt_host": "127.0.0.1", "mqtt_port": broker.port}
        (there / "settings.json").write_text(json.dumps(settings))
        board = VirtualBoard(there / "board", None, light.port)

        def boot(master):
            for name, content in files_of(mock).items():
                (there / "board" / name).parent.mkdir(parents=True, exist_ok=True)
                (there / "board" / name).write_bytes(content)
            with board:
                shown = 0
                while board.running and not mock._stop.is_set():
                    for text in board.log[shown:]:
                        os.write(master, text.encode() + b"\r\n")
                        shown += 1
                    time.sleep(0.05)

        def watch(*arguments):
            mock.is_free.wait(30)  # a chip sees its reset, the mock that the port is closed: it must be for a moment
            return real(*arguments)

        real = board_console.watch
        monkeypatch.setattr(board_console, "watch", watch)
        mock.console = boot
        options = ("--board", "hichi_c3", "--micropython", stock(there), "--settings", there / "settings.json")
        code, out, error = run(capsys, *options, "--port", mock.port)
        assert code == 0, (error, board.log)
        connected = f"connected: the Wi-Fi Häuschen, the broker at 127.0.0.1:{broker.port}"
        said = re.search(r"^Done: (.*)\.\nFrom the command to the first reading: (\d+) s\.$", out, re.MULTILINE)
        assert said, out
        first = re.fullmatch(rf"{re.escape(connected)}; the light: light seen.*; first reading: (\d+) s.*", said[1])
        assert first, said[1]
        cable_s = esp_chip.copying_s(REAL_MICROPYTHON_BYTES + sum(map(len, files_of(mock).values())))
        assert cable_s < 45
        print(
            f"from the command to the first reading {said[2]} s, of which the board's {first[1]} s; a real MicroPython "
            f"of {REAL_MICROPYTHON_BYTES:,} bytes and the files take {cable_s:.0f} s more at 460800 baud, unpacked"
        )


class Talker:
    """A pty on which the lines are said again and again."""

    def __init__(self, said):
        self._said = said
        self._stop = threading.Event()
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._thread = threading.Thread(target=self._talk, daemon=True)

    def _talk(self):
        while not self._stop.wait(0.05):
            os.write(self._master, self._said)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(5)
        os.close(self._master)
        os.close(self._slave)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"optoprobe: the Wi-Fi x cannot be joined: check its name and password\r\n", "the Wi-Fi x cannot be joined"),
        (b"ESP-ROM:esp32c3\r\nrubbish \xff\x1b[31m\r\n", "has not told of its broker"),
    ],
)
def test_a_probe_that_does_not_get_there_is_said_in_its_words(capsys, monkeypatch, said, expected):
    monkeypatch.setattr(flash, "_WATCH_S", 0.6)
    with Talker(said) as talker, pytest.raises(FlashError, match=expected) as caught:
        flash._watch(talker.port, 0)
    assert caught.value.code == 1 and "\x1b" not in capsys.readouterr().out


def test_what_is_nested_without_end_is_nothing_a_probe_says():
    """What comes over a broker may be anybody's."""
    nested = b"[" * 100_000
    assert probe_log._lines(nested) is None and probe_alignment._said(nested) is None
    (shown := Picture("cellar")).take("optoprobe/cellar/diagnostics", nested, 0.0)
    assert shown.odd == 1


def test_the_monitor_shows_what_a_probe_says(capsys):
    with Talker(b"optoprobe: dark\r\nTraceback \x1b[2J\r\n") as talker:
        assert cli.main(["monitor", "--console", talker.port, "--seconds", "0.5"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert {line.partition("  ")[2] for line in said} == {"optoprobe: dark", "Traceback ?[2J"}
    assert cli.main(["monitor", "--console", "/dev/no-such-port", "--seconds", "0.5"]) == 1
    assert "there is no port /dev/no-such-port: plug the board in" in capsys.readouterr().err
    assert cli.main(["monitor", "--console", "X", "--protocol", "sml"]) == 2
    assert cli.main(["monitor", "--console", "X", "--user", "me"]) == 2


def test_reading_the_console_does_not_restart_the_board(monkeypatch):
    """Opening a port raises DTR and RTS (Linux: drivers/tty/tty_port.c). RTS without DTR is a reset: of a bridge by the
    board's two transistors, of a C3's own USB by the chip (esptool's HardReset)."""
    levels = {termios.TIOCM_DTR: True, termios.TIOCM_RTS: True}
    seen = []
    real = fcntl.ioctl

    def ioctl(fd, request, arg=0, *more):
        if request not in (termios.TIOCMBIS, termios.TIOCMBIC):
            return real(fd, request, arg, *more)
        (lines,) = struct.unpack("I", arg)
        levels.update({line: request == termios.TIOCMBIS for line in levels if line & lines})
        seen.append((levels[termios.TIOCM_DTR], levels[termios.TIOCM_RTS]))
        return arg

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    with Talker(b"optoprobe: dark\r\n") as talker:
        with contextlib.closing(board_console.lines(talker.port, lambda: True)) as said:
            assert next(said) == "optoprobe: dark"
            assert seen[-1] == (True, True)  # an S3's own USB waits for a reader only with DTR up
    assert (False, True) not in seen and seen[-1] == (False, False)


def test_a_console_that_stays_away(monkeypatch):
    monkeypatch.setattr(board_console, "_GONE_S", 0.2)
    with pytest.raises(FlashError, match="does not come back: plug the board out and in"):
        board_console.watch("/dev/no-such-port", 5, print)


def test_only_bridges_of_boards_are_taken_for_one(monkeypatch):
    from serial.tools import list_ports

    ports = [("/dev/ttyACM0", 0x303A), ("/dev/ttyS0", None), ("/dev/ttyUSB0", 0x10C4), ("/dev/ttyACM1", 0x1234)]
    rows = [SimpleNamespace(device=device, vid=vid, description=None) for device, vid in ports]
    monkeypatch.setattr(list_ports, "comports", lambda: rows)
    assert esp_chip.find_ports() == [("/dev/ttyACM0", ""), ("/dev/ttyUSB0", "")]
