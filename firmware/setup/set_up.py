"""The set-up: the probe's own Wi-Fi, the name server and the page in it, and the trial of what is given there.

    closed ──open──► access point, name server, page ──test──► trial ──failed──► what was set before stays
                             │                                   └──all went well──► kept ──told, or 20 s──► restart
                             └──nobody for some minutes, where it was opened beside metering──► closed

All of it but the trial runs in the loop that meters, or alone (firmware.setup.setup_alone): no socket blocks, each wait
has a limit (firmware.page.page_request), three clients at a time.
"""

import asyncio
import gc
import select
import socket
import sys

from micropython import const

from firmware.hardware.health import call
from firmware.setup.access_point import close_access_point, make_password, open_access_point
from firmware.setup.name_server import NameServer
from metering.unload import unload

_MOST_CLIENTS = const(3)  # at a time: a phone that looks for a sign-in page opens several
_LOOK_MS = const(20)
_TOLD_S = const(3)  # behind the page's hearing that all is kept: a phone shows it
_UNTOLD_S = const(20)  # where the page is gone, as the access point has followed the Wi-Fi to its channel
_HTTP_PORT = const(80)
_MODULES = (
    "firmware.setup.setup_page firmware.setup.setup_form firmware.setup.setup_trial firmware.setup.set_up"
    " firmware.setup.name_server firmware.setup.access_point firmware.page.page_request firmware.mqtt.wifi_trial"
    " firmware.settings firmware.store"
)

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from firmware.mqtt.wifi_trial import WifiTrial


class SetUp:
    """Fields without underscore are the page's. `services` needs `network` and `health` of firmware.app.Services.

    `why` is a word for the page: new, damaged, safe, button or away. `notice` is a function: a sentence the owner
    should read.
    """

    def __init__(self, services, why, notice):
        self._network = services.network
        self._health = services.health
        self.probe_id = services.network.probe_id
        self.why = why
        self.notice = notice
        self.address = self.host = ""
        self.refused = 0  # requests that were answered with anything but what was asked
        self.busy = ""  # scan, test or ca while that lasts
        self.networks = []  # [name, dBm, has it a password?]
        self.result = self.words = ""  # of the last trial: kept, or a word of setup_trial.kind_of, and the sentence
        self._trial: WifiTrial | None = None
        self._tried = None  # what is kept where the trial goes well
        self._restart_s = None
        self.used_s = 0  # uptime of the last client
        self._clients = 0
        self._socket: socket.socket | None = None
        self._names: NameServer | None = None
        self._poller = select.poll()

    def open(self, password):
        """Returns the sentence that tells how to get there. Raises OSError where there is no access point."""
        self.address = open_access_point(self.probe_id, password)
        port = self._network.settings["page_port"]
        self.host = self.address if port == _HTTP_PORT else "%s:%d" % (self.address, port)
        try:
            self._names = NameServer(self.address)
        except OSError as error:
            print("optoprobe: set-up: no name server (%s): type the address" % error)
        self._socket = listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(socket.getaddrinfo(self.address, port)[0][-1])
        listening.listen(_MOST_CLIENTS)
        listening.setblocking(False)
        self._poller.register(listening, select.POLLIN)
        self.used_s = self._health.uptime_s
        return "join the Wi-Fi %s with the password %s, then open http://%s/" % (self.probe_id, password, self.host)

    def look(self):
        """Called every few milliseconds while it is open."""
        try:
            if self._names:
                self._names.look()
            while self._clients < _MOST_CLIENTS and self._socket and self._poller.poll(0):
                client = self._socket.accept()[0]
                try:
                    client.setblocking(False)
                    asyncio.create_task(self._serve(client))
                except (OSError, MemoryError):
                    client.close()
                    raise
                self._clients += 1
                self.used_s = self._health.uptime_s
        except OSError:  # a client that has gone
            pass
        if self._trial is not None and self._trial.is_done:
            self._end_trial()
        if self._restart_s is not None and self._health.uptime_s >= self._restart_s:
            call("firmware.hardware.restarts", lambda restarts: restarts.restart(restarts.BY_OWNER))

    async def _serve(self, client):
        """One client's task."""
        try:
            from firmware.page.page_request import serve
            from firmware.setup.setup_page import admit

            await serve(self, admit, client)
        except (OSError, MemoryError):
            gc.collect()
        finally:
            client.close()
            self._clients -= 1

    def is_idle(self, s):
        """Has nobody been there for so long?"""
        return not (self._clients or self.busy or self.result == "kept") and self._health.uptime_s - self.used_s > s

    def scan(self):
        """Look for networks, in a thread."""
        from firmware.mqtt.wifi_trial import WifiTrial

        self._trial = WifiTrial(self._network, self._health, None)
        self.busy = "scan"
        self._trial.start()

    def test(self, given):
        """Begin to try what the page has given; {field: sentence} where a field is wrong, and nothing is tried then."""
        new, values, faults = _checked(given)
        if values is not None:
            from firmware.setup.setup_trial import SetupTrial

            self._trial = SetupTrial(self._network, self._health, values)
            self.busy = "test"
            self.result = self.words = ""
            self._tried = new
            self._trial.begin()
        return faults

    def _end_trial(self):
        trial = self._trial
        self._trial = None
        if trial is None:
            return
        try:
            if self.busy == "scan":
                self.networks = [(_text(name), dbm, locked) for name, dbm, locked in trial.networks if _text(name)]
            else:
                self._judge(trial)
        except MemoryError:
            gc.collect()
            if self.busy == "test":
                self.result = "flash"
                self.words = "memory has run out, try again"
        self._tried = trial = None
        unload("firmware.setup.setup_trial")
        unload("firmware.mqtt.wifi_trial")
        self.busy = ""

    def _judge(self, trial):
        """Keep what was tried, if it was good; else say why not."""
        from firmware.setup.setup_trial import kind_of

        if trial.error is None:
            if call("firmware.setup.setup_form", lambda form: form.keep(self._tried)):
                self.result = "kept"
                self._restart_s = self._health.uptime_s + _UNTOLD_S
                print("optoprobe: set-up: all went well and is kept: restarting")
                return
            self.result = "flash"
            self.words = "the settings cannot be written: free the device's memory"
        else:
            self.result = kind_of(trial.error)
            sentence = lambda module: module.sentence_of(trial.error, False, trial.values)  # noqa: E731
            self.words = call("firmware.mqtt.fault_sentence", sentence)
        print("optoprobe: set-up: %s; the settings stay as they were" % self.words)

    def note_told(self):
        """The page has heard how things stand."""
        if self.result == "kept" and self._restart_s is not None:
            self._restart_s = min(self._restart_s, self._health.uptime_s + _TOLD_S)

    def close(self):
        """Nothing of it is left."""
        for each in (self._names, self._socket):
            if each:
                each.close()
        close_access_point()
        call("firmware.setup.setup_form", lambda form: form.forget_ca())
        for name in _MODULES.split():
            unload(name)


def _checked(given):
    """(settings as their file will have them, what they mean, {}), or (None, None, {field: sentence}). The code that
    checks them, and what that has loaded, is dropped again: the trial needs the memory.
    """
    before = list(sys.modules)
    values = None
    try:
        new, faults = call("firmware.setup.setup_form", lambda form: form.merged(given))
        if not faults:
            values = call("firmware.settings", lambda settings: settings.check(new)[0])
        return new, values, faults
    finally:
        for name in list(sys.modules):
            if name not in before:
                unload(name)


def _text(name):
    try:
        return name.decode()
    except ValueError:  # it is shown by nobody
        return ""


def password_of(form):
    """That of the settings, where there is none a new one, which they keep. `form` is firmware.setup.setup_form."""
    given = form.read_settings()
    if given is not None and isinstance(given.get("setup_password"), str) and len(given["setup_password"]) >= 8:
        return given["setup_password"]
    made = make_password()
    if given is not None:
        given["setup_password"] = made
        form.store.save(form.SETTINGS_FILE, given)
    return made


async def look_every_few_ms(set_up, goes_on):
    """Keep it open while goes_on() and the memory last."""
    while goes_on():
        try:
            set_up.look()
        except MemoryError:
            gc.collect()
        await asyncio.sleep_ms(_LOOK_MS)
