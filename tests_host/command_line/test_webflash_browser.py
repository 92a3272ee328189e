"""The site of `optoprobe webflash` in Chromium: a chip is flashed from it, and given its Wi-Fi.

Real: the browser, the site as it is written, ESP Web Tools. Played: the chip's boot ROM (esp32-mock-bootloader), its
MicroPython (bytes that mean nothing: the unix port runs what was flashed in its place), and the way from the page to
the port (support.serial_bridge says what it leaves out).
"""

import contextlib
import json
import re
import threading
import time

import pytest
from support import readme, stock_image
from support.broker import Listener
from support.browser import Page
from support.flashed_board import board_from
from support.mock_chip import MockChip
from support.pty_board import PtyBoard
from support.serial_bridge import SerialBridge

from optoprobe import source_tree
from optoprobe.commands import webflash as command
from optoprobe.environment import runtime
from optoprobe.flashing import image
from optoprobe.virtual.broker import Broker
from optoprobe.virtual.optical_server import OpticalServer
from optoprobe.virtual.sml_meter import SmlMeter
from optoprobe.virtual.source import MeterSource
from optoprobe.webflash import static_site

BOARDS = {name: source_tree.board_files()[name] for name in ("hichi_c3", "esp32_devkit", "esp32s3_devkit")}
CHIPS = ("esp32", "esp32c3", "esp32s3")
PASSWORD = "correct Pferd 7"
AIR = [("Häuschen", -60, PASSWORD), ("another", -80, "")]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Of a site that is served."""
    if runtime.chromium() is None:
        pytest.skip("no Chromium: it comes by Debian's packages (make setup), which could not be had here")
    runtime.setup(str, ("webtools",))
    try:
        runtime.webtools()
    except runtime.SetupError as error:
        pytest.skip(f"ESP Web Tools cannot be had from npm: {error}")
    folder = tmp_path_factory.mktemp("webflash")
    for chip in CHIPS:
        (folder / f"{chip}.bin").write_bytes(stock_image.make(chip))
    static_site.build(folder / "site", BOARDS, {chip: folder / f"{chip}.bin" for chip in CHIPS}, command._tools(), str)
    with static_site.server(folder / "site", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def chosen(page, name):
    page.until("!!customElements.get('esp-web-install-button')")
    page.value(f"document.querySelector('input[value={name}]').click()")


def asked_elsewhere(page, address):
    return [url for url in page.requests if not url.startswith((address, "data:"))]


def flash(page, address, board, buttons=("Write the firmware", "Install")):
    """Up to where the browser writes or refuses."""
    page.open(address)
    assert page.value("document.getElementById('go').disabled")
    chosen(page, board)
    page.click(buttons[0])
    page.click(f"Install optoprobe for {json.loads(BOARDS[board].read_text())['name']}")
    page.sees("All data on the device will be erased")
    page.click(buttons[1])


def write(page, address, board, ends_with, buttons=("Write the firmware", "Install")):
    """Flash until that is shown. ESP Web Tools wait 3 s for a chip's answer: on a busy computer it may come later, and
    a person would press the button again."""
    for _ in range(4):
        flash(page, address, board, buttons)
        end = f"byText({json.dumps(ends_with)}) ? 'done' : byText('Installation failed') ? 'failed' : ''"
        if page.until(end) == "done":
            return
    pytest.fail(f"four times not written: {page.console[-20:]}")


FIELD = "find((e) => e.localName === 'ew-filled-text-field' && e.name === 'password')"


class Chip:
    """What the browser's port leads to: a boot ROM, and once its flash is written the board that starts from it."""

    def __init__(self, rom, folder, line_port):
        self._rom, self._folder, self._line_port = rom, folder, line_port
        self.board = None
        self._started = b""

    def starts(self):
        flash = bytes(self._rom.flash.data)
        if self.board is None or flash != self._started:
            self.off()
            self._started = flash
            folder = self._folder / f"board{self._rom.openings}"
            folder.mkdir()
            self.board = board_from(flash, folder / "files", self._line_port, AIR).start()
        return self.board.console.port

    def off(self):
        if self.board is not None:
            self.board.stop()


def test_a_probe_is_made_by_the_readmes_steps(address, tmp_path):
    """Its buttons are pressed in its order: a chip is flashed, the unmodified firmware starts from what was written, is
    given its Wi-Fi at the second try and its broker, and reads a meter."""
    folder, address = address
    pressed = iter(readme.buttons())
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(Broker(tmp_path / "broker"))
        light = stack.enter_context(OpticalServer(MeterSource(SmlMeter(period_s=1))))
        listener = stack.enter_context(Listener(broker.port))
        listener.subscribed()
        rom = stack.enter_context(MockChip("esp32c3"))
        chip = Chip(rom, tmp_path, light.port)
        stack.callback(chip.off)
        page = stack.enter_context(Page(tmp_path))
        bridge = stack.enter_context(SerialBridge(page, rom.port, chip.starts))
        install, goes_on = (next(pressed), next(pressed)), next(pressed)
        for _ in range(4):  # a busy computer's board answers later than ESP Web Tools wait for it, too
            write(page, address, "hichi_c3", "Installation complete!", install)
            page.click(goes_on)
            asks, gives_up = "byText('Connect your device to the network')", "byText('Logs & Console')"
            if page.until(f"{asks} ? 'asks' : {gives_up} ? 'gives up' : ''") == "asks":
                break
        expected = image.build_image(BOARDS["hichi_c3"], None, folder / "esp32c3.bin").data
        assert bytes(rom.flash.data) == expected and bridge.resets[-2:] == ["rom", "program"]
        page.sees("Connect your device to the network")
        connect = next(pressed)
        for password, shown in (("wrong", "Unable to connect"), (PASSWORD, "Device connected to the network!")):
            page.until(f"!!{FIELD}")
            page.value(f"{FIELD}.value = {json.dumps(password)}")
            page.click(connect)
            page.sees(shown)
        page.click("Skip" if page.value("!!byText('Skip')") else "Continue")
        page.until("!!find((e) => e.localName === 'ew-icon-button')")
        page.value("find((e) => e.localName === 'ew-icon-button').click()")
        page.until("!document.querySelector('ewt-install-dialog')")
        page.value(f"document.querySelector('#broker [name=mqtt_host]').value = '127.0.0.1:{broker.port}'")
        page.click(next(pressed))
        page.sees("Written. The probe restarts")
        page.sees("connected: the Wi-Fi Häuschen")
        page.sees("first reading")
        assert listener.wait_for("/state", 60).object()
        assert not asked_elsewhere(page, address) and next(pressed, None) is None
        assert not [line for line in chip.board.log if PASSWORD in line]


def test_a_cable_that_is_pulled_is_said_and_the_same_is_done_again(address, tmp_path):
    """On a classic ESP32, whose image begins behind a place that it keeps free."""
    folder, address = address
    with Page(tmp_path) as page, MockChip("esp32") as chip, SerialBridge(page, chip.port, lambda: None) as bridge:
        flash(page, address, "esp32_devkit")
        until_s = time.monotonic() + 60
        while set(chip.flash.data[:0x10000]) == {0xFF}:
            assert time.monotonic() < until_s
            time.sleep(0.001)
        bridge.unplug()
        page.sees("Installation failed")
        write(page, address, "esp32_devkit", "Wrapping up")  # nobody answers: it goes on waiting
        assert bridge.resets[-1] == "program"
        assert bytes(chip.flash.data) == image.build_image(BOARDS["esp32_devkit"], None, folder / "esp32.bin").data


def test_another_chip_is_refused_and_left_as_it_was(address, tmp_path):
    _, address = address
    with Page(tmp_path) as page, MockChip("esp32s3") as chip, SerialBridge(page, chip.port, lambda: None):
        flash(page, address, "hichi_c3")
        page.sees("Your ESP32-S3 board is not supported.")
        assert set(chip.flash.data) == {0xFF}


# --- the broker, over the cable --------------------------------------------------------------------------------------


WRITE = """
with open("settings.json", "w") as file:
    file.write(%r)
"""


def given(page, host, user="", password=""):
    for key, value in (("mqtt_host", host), ("mqtt_user", user), ("mqtt_password", password)):
        page.value(f"document.querySelector('#broker [name={key}]').value = {json.dumps(value)}")
    page.value("document.getElementById('send').click()")


def test_the_broker_is_given_as_config_gives_it(address, tmp_path):
    _, address = address
    board = PtyBoard()
    try:
        board.ask(WRITE % '{"wifi_ssid": "home", "mqtt_user": "old"}')
        board.ask('import os; os.mkdir("probe")')  # it is a probe: its watchdog is fed no more while it is interrupted
        with Page(tmp_path) as page, SerialBridge(page, "", lambda: None, running=board.port):
            page.open(address)
            given(page, "192.0.2.10", "probe \"1\"", "gehe\u00efm \\ \U0001f511")
            page.sees("Written. The probe restarts")
            page.sees("note down: the probe's own Wi-Fi")
            (noted,) = page.value("[...document.querySelectorAll('#console li')].map(own)")
            assert page.value("document.querySelector('#broker [name=mqtt_password]').value") == ""
            assert not asked_elsewhere(page, address)
        held = json.loads(board.ask('print(open("settings.json").read())'))
        made = held.pop("setup_password")
        assert noted.endswith(f" {made}") and re.fullmatch("[a-z2-9]{12}", made)
        assert held == {
            "wifi_ssid": "home", "mqtt_host": "192.0.2.10", "mqtt_user": 'probe "1"',
            "mqtt_password": "gehe\u00efm \\ \U0001f511",
        }  # fmt: skip
        with Page(tmp_path) as page, SerialBridge(page, "", lambda: None, running=board.port):
            board.ask(WRITE % r'{"setup_password": "the \"first\" one"}')
            page.open(address)
            given(page, "192.0.2.10")
            page.sees('has the password the "first" one')
        held = json.loads(board.ask('print(open("settings.json").read())'))
        assert held == {"mqtt_host": "192.0.2.10", "setup_password": 'the "first" one'}
        with Page(tmp_path) as page, SerialBridge(page, "", lambda: None, running=board.port):
            board.ask(WRITE % "{")
            page.open(address)
            page.click("Deutsch")
            given(page, "192.0.2.10")
            page.sees("Die Einstellungen auf dem Board sind beschädigt")
        assert board.ask('print(open("settings.json").read())').strip() == "{"
    finally:
        notes = board.stop()
    assert notes.count("watchdog 600000") == 6 and notes.count("reset") == 3 and board.soft_resets == 3


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_fits_a_phone_speaks_two_languages_and_says_where_it_cannot_work(address, tmp_path):
    _, address = address
    with Page(tmp_path, 320, 640) as page:
        page.before_load("delete Navigator.prototype.serial")
        page.open(address)
        page.sees("This browser cannot reach the USB port")
        chosen(page, "hichi_c3")
        assert page.value("document.getElementById('go').disabled")
        for language, board in (("Deutsch", "Ein fertiger optischer Lesekopf"), ("English", "A finished optical head")):
            page.click(language)
            page.sees(board)
            assert page.value("document.documentElement.scrollWidth") == 320
            assert page.value("document.documentElement.lang") == {"Deutsch": "de", "English": "en"}[language]
        assert not page.value("!!byText('Ein fertiger optischer Lesekopf')")
        chosen(page, "esp32s3_devkit")
        page.sees("Boards with this chip come back as another USB device")
        elsewhere = "fetch('http://192.0.2.1/').then(() => 'asked', (error) => error.name)"
        assert page.value(elsewhere) == "TypeError"  # the page's own policy
        assert any("Content Security Policy" in line for line in page.console)
        assert not asked_elsewhere(page, address) or page.requests[-1] == "http://192.0.2.1/"
