"""The composition root: settings and board in, the device's parts out. Loaded at the start, and dropped again."""

import os

from micropython import const

from firmware.hardware.health import Health, call, chip_number
from firmware.mqtt.announcer import Announcer
from firmware.mqtt.outbox import Mailbox, Outbox
from firmware.mqtt.session import Network
from firmware.reading.line_driver import LineDriver
from metering import protocols
from metering.compat import SLICES_ARE_CHEAP
from metering.line import Line
from metering.unload import unload

_SETTINGS_FILE = "settings.json"
_BOARD_FILE = "board.json"
_WIFI_CURE = "give it on this port, by a browser (Improv) or by optoprobe config --set wifi_ssid=NAME"
_BROKER_CURE = "give your broker by optoprobe config --set mqtt_host=NAME"
_ALIGNMENT_REST_S = const(10)  # between two commands in the long run: a battery meter is asked often while it is on
# Free before Wi-Fi is joined and a meter is announced: what both take then, and the page's door, code and a request.
_PAGE_BYTES = const(36352)
_CAPTURE_REST_S = const(120)  # each writes up to 64 KiB to flash
_ORDER_REST_S = const(10)  # some write a file
_WIPE_FILE = "wipe.due"  # firmware.owner.wipe's


def _load_settings():
    """(values, problems); the code that checks them is dropped again."""
    from firmware import settings

    values, problems = settings.load(_SETTINGS_FILE)
    settings.convert(values)
    settings = None
    unload("firmware.settings")
    unload("firmware.store")
    unload("metering.dlms")
    return values, problems


def _load_board():
    """(name, head, led, button, problem), None for what there is not; the code that reads the file is dropped again."""
    from firmware.hardware import board

    try:
        name, head, led = board.load(_BOARD_FILE)
        problem = None
    except board.BoardError as error:
        name = head = led = None
        problem = str(error)
    button = board.button(_BOARD_FILE)
    board = None
    unload("firmware.hardware.board")
    unload("firmware.store")
    return name, head, led, button, problem


def _is_there(path):
    try:
        os.stat(path)
        return True
    except OSError:
        return False


def _drop_constructors(*classes):
    """Of what is made once, at the start: 2 KB of code. On a computer one process makes several probes."""
    if not SLICES_ARE_CHEAP:
        for made in classes:
            made.__init__ = None


def drop_constructors(app, services, diagnostics):
    """Take what has made these, and what make_parts() has made, out of memory."""
    network = services.network
    if services.driver is not None:
        from firmware.hardware.head import Head

        _drop_constructors(Head)
    _drop_constructors(
        type(app),
        type(services),
        type(diagnostics),
        Health,
        Announcer,
        Mailbox,
        Outbox,
        LineDriver,
        Network,
        type(network.session),
        type(network.discovery),
    )
    if not SLICES_ARE_CHEAP:
        type(app)._compose = None


def _close_access_point():
    """A soft reset leaves the radio as it was: the set-up's access point open, with no page in it."""
    if call("firmware.hardware.restarts", lambda restarts: restarts.was_soft()):
        call("firmware.setup.access_point", lambda access_point: access_point.close_access_point())


def make_parts(on_published):
    """(settings, problems, board's name, LED, button, mailbox, what firmware.app.Services is made of)."""
    _close_access_point()
    settings, problems = _load_settings()
    board_name, head, led, button, problem = _load_board()
    if problem:
        problems.append(problem)
    probe_id = settings["probe_id"] or "probe_" + chip_number()
    health = Health()
    if settings["device_password"]:
        from firmware.page.kept_outbox import KeptOutbox

        outbox = KeptOutbox()
    else:
        outbox = Outbox()
    announcer = Announcer(settings["mqtt_prefix"], probe_id, settings["probe_name"], settings["discovery_prefix"])
    announcer.telegrams = settings["protocol"] != protocols.BLINK
    if settings["protocol"] != "auto":
        announcer.asks = protocols.is_asked(settings["protocol"])
    announcer.settings = settings
    announcer.board_name = board_name or ""
    mailbox = Mailbox()
    network = Network(settings, outbox, mailbox, announcer, probe_id, health)
    for name, rest_s in (
        ("alignment", _ALIGNMENT_REST_S),
        ("capture", _CAPTURE_REST_S),
        ("order", _ORDER_REST_S),
    ):
        mailbox.subscribe(announcer.topic(name, "set"), name, rest_s)
    if _is_there(_WIPE_FILE):  # firmware.owner.wipe goes on
        mailbox.put_command(announcer.topic("order", "set"), ("wipe=" + probe_id).encode(), False, 0, 0)
    driver = None if head is None else LineDriver(head, health)
    if not settings["wifi_ssid"]:
        print("optoprobe: settings: no Wi-Fi is set, so nothing is published: " + _WIFI_CURE)
    elif not settings["mqtt_host"]:
        print("optoprobe: settings: mqtt_host is empty, so nothing is published: " + _BROKER_CURE)
    parts = driver, health, outbox, announcer, network, on_published
    return settings, problems, board_name, led, button, mailbox, parts


def forget_names(settings, services):
    """Have what the broker keeps under names of before forgotten. Behind make_meter, which has it asked too."""
    network, health = services.network, services.health
    call("firmware.mqtt.known_names", lambda names: names.look(settings, network.mailbox, health, network.probe_id))
    unload("firmware.store")


def make_page(settings, services, meter, diagnostics):
    """The page's door (firmware.page.page_door.PageDoor), None where the settings have no password for it, or a wipe
    is due.
    """
    if not settings["device_password"] or _is_there(_WIPE_FILE):
        return None
    room = call("firmware.hardware.memory_figures", lambda figures: figures.room())
    if room < _PAGE_BYTES:
        services.outbox.stop_keeping()
        print("optoprobe: page: there is none, %d bytes of memory are free and it needs %d" % (room, _PAGE_BYTES))
        return None
    from firmware.page.page_door import PageDoor

    return PageDoor(settings, services, meter, diagnostics)


def make_meter(settings, services, problems):
    """What reads the meter (firmware.reading.meter.Meter); None where there is no head, or `problems` tell of it, or a
    wipe is due, which needs the memory.
    """
    driver = services.driver
    if driver is None or _is_there(_WIPE_FILE):
        return None
    try:
        if settings["protocol"] != protocols.BLINK:  # it opens its own: what is opened anew loses flashes
            driver.open(Line(9600))
        return _meter_of(settings, services)
    except (ValueError, OSError) as error:
        problems.append("board: this chip has no such UART (%s): choose another board" % error)
        return None


def _meter_of(settings, services):
    """What reads the meter that the settings name, or whichever there is."""
    if settings["protocol"] == "auto":
        from firmware.reading.supervisor import MeterSupervisor

        meter = MeterSupervisor(settings, services)
        _drop_constructors(MeterSupervisor)
        return meter
    if settings["protocol"] == protocols.BLINK:
        from firmware.reading.pulse_meter import PulseMeter

        return PulseMeter(settings, services)
    from firmware.reading.meter import ReadingSettings
    from firmware.reading.telegram_meter import Guard, Pace, Publisher, TelegramMeter

    meter = TelegramMeter(ReadingSettings(settings), services)
    listener, conversation = meter.listener, meter.conversation
    _drop_constructors(ReadingSettings, TelegramMeter, Publisher, Pace, Guard, type(listener))
    if conversation:
        _drop_constructors(type(conversation))
    elif not SLICES_ARE_CHEAP:  # one line of up to nine is used
        listener.line = listener.line or listener.LINES[0]
        type(listener).LINES = None
    unload("metering.protocols")  # no other protocol will be asked for
    return meter
