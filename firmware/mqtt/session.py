"""MQTT, in a thread of its own: every step here may wait for seconds, and the loop that meters never does.

    join Wi-Fi -> resolve, connect, subscribe, say online, announce -> turns -> (any failure) wait, from the start

    a turn:  one packet that has come: a command goes into the mailbox
             keep-alive: a ping, or its answer is overdue and the broker is gone; is the Wi-Fi there?
             announcements that are due
             the large message, where there is one
             one message of the outbox; where there is none the clock is set, where it is time, and 10 ms pass

Stock umqtt.simple over sockets of ours (firmware.mqtt.sockets). QoS 0 throughout: what is retained is sent again after
every reconnect, what is not would be stale by then. The thread shares the outbox, the mailbox and single numbers with
the loop. Each step has a limit as a whole, and the watchdog hears of each (Health.network_progressed).
"""

import _thread
import errno
import gc
import random
import struct
import sys
import time

import umqtt.simple as umqtt
from micropython import const

from firmware.mqtt.discovery import DiscoveryPublisher
from firmware.mqtt.sockets import STEP_MS, MqttSockets
from firmware.mqtt.wifi import NoWifi, Wifi

_STACK_BYTES = const(8192)
_TLS_STACK_BYTES = const(8192)  # beside it, for the handshake's arithmetic; no chip has shown how much it takes
_COMPUTERS_STACK_BYTES = const(65536)  # glibc's resolver takes more than 16 KiB for a name that is not known
_TIMEOUT_S = const(10)  # for each of connect, write, read
_LARGE_MS = const(60000)  # for a message in pieces
_KEEPALIVE_S = const(30)
_PING_MS = const(8000)  # without a byte received, or without one sent
_ANSWER_MS = const(12000)  # a broker that answers no ping for this long is gone
_FAILURES_TO_REJOIN = const(20)  # some 3 minutes: then the Wi-Fi is left and joined anew
_LARGE_TRIES = const(3)
_IDLE_MS = const(10)
_LEAST_MS = const(1000)
_MOST_MS = const(7000)  # with half of it and a try of 4 s a broker that is back has us within 15 s
_SETTLED_S = const(60)  # a session this long starts the waits from the least again
_PUBLISH = const(0x30)  # first byte of a packet, its upper half
_SUBACK_REFUSED = const(0x80)


class Backoff:
    """How long to wait before the next try: from 1 s, doubled up to 7 s, and up to half as much again at random."""

    def __init__(self):
        self._wait_ms = _LEAST_MS

    def next_ms(self, lasted_s):
        """The wait behind a try that has lasted for so long."""
        if lasted_s > _SETTLED_S:
            self._wait_ms = _LEAST_MS
        wait_ms = self._wait_ms
        self._wait_ms = min(2 * wait_ms, _MOST_MS)
        return wait_ms + random.getrandbits(16) % (wait_ms // 2)


class MqttSession:
    """One connection after the other to the broker. Any method may raise OSError, open() whatever umqtt raises."""

    def __init__(self, settings, probe_id, announcer, mailbox, health):
        prefix = settings["discovery_prefix"]
        self._hub_topic = (prefix + "/status").encode() if settings["discovery"] != "off" else None
        self.hub_has_started = False  # has it said so? Taken back by who heeds it
        self._settings = settings
        self._probe_id = probe_id
        self._status = announcer.topic("status")
        self._mailbox = mailbox
        self._health = health
        if settings["mqtt_tls_ca"]:
            from firmware.mqtt.tls_sockets import TlsSockets

            self._sockets = TlsSockets(settings, mailbox, _TIMEOUT_S)
        else:
            self._sockets = MqttSockets(_TIMEOUT_S)
        umqtt.socket = self._sockets  # type: ignore[attr-defined] - a module's global
        self._client = self._make_client()
        self._subscribed = 0  # state of the mailbox's subscriptions
        self._pinged_at = 0
        self._large = None  # the large message begun,
        self._large_tries = 0  # and how often
        self.is_cut = False  # is part of a packet sent, and the rest not?
        self.number = 0  # of sessions begun
        self.refused_topic = None

    def begin_step(self, limit_ms=STEP_MS):
        """What follows up to the next call is one step: it has a limit, and it is progress."""
        self._health.network_progressed()
        connection = self._sockets.connection()
        connection.step_at = time.ticks_ms()
        connection.step_ms = limit_ms

    def open(self):
        """Connect, subscribe and say online; before that whoever wants a session of their own has it."""
        gc.collect()  # what is made now stays for the session: let it lie together
        self._client = client = self._make_client()  # with no last will yet
        before = self._mailbox.before_session
        if before:
            before(client)
            if self._mailbox.before_session is before:
                self._mailbox.before_session = None
        client.set_callback(self._received)
        client.set_last_will(self._status, b"offline", True)
        self._health.network_progressed()
        client.connect()
        self._pinged_at = self._sockets.connection().received_at
        self.number += 1
        self.is_cut = False
        self.refused_topic = None
        self._subscribe()
        self.say_online()

    def _make_client(self):
        settings = self._settings
        user = settings["mqtt_user"].encode() or None
        return umqtt.MQTTClient(
            self._probe_id.encode(),
            settings["mqtt_host"],
            settings["mqtt_port"],
            user,
            settings["mqtt_password"].encode() if user else None,
            _KEEPALIVE_S,
        )

    def say_online(self):
        self._client.publish(self._status, b"online", True)

    def close(self):
        self._sockets.close()

    def _subscribe(self):
        self._subscribed = self._mailbox.changes
        topics = self._mailbox.topics()
        if self._hub_topic:
            topics.append(self._hub_topic)
        for topic in topics:
            self.begin_step()
            try:
                self._client.subscribe(topic)
            except umqtt.MQTTException as error:
                if error.args != (_SUBACK_REFUSED,):
                    raise
                self.refused_topic = topic  # what is not heard is no reason not to publish

    def _received(self, topic, payload):
        retained = self._sockets.connection().retained
        if topic == self._hub_topic:
            self.hub_has_started = self.hub_has_started or not retained and payload == b"online"
        else:
            self._mailbox.put_command(topic, payload, retained, self._health.uptime_s, self.number)

    def listen(self):
        """Take one packet, where one has come."""
        self.begin_step()
        if self._mailbox.changes != self._subscribed:
            self._subscribe()
        first = self._client.check_msg()
        if first is not None and first & 0xF0 != _PUBLISH:
            raise ValueError  # nobody has asked for it, and what follows would be taken for packets

    def keep_alive(self):
        """Ping where it is time. Raises OSError where the answer is overdue."""
        connection = self._sockets.connection()
        now = time.ticks_ms()
        if time.ticks_diff(self._pinged_at, connection.received_at) > 0:  # a ping waits for its answer
            if time.ticks_diff(now, self._pinged_at) > _ANSWER_MS:
                raise OSError(errno.ETIMEDOUT)
        elif max(time.ticks_diff(now, connection.received_at), time.ticks_diff(now, connection.sent_at)) > _PING_MS:
            self._pinged_at = now  # pyrefly: ignore[bad-assignment] - ticks are ints
            self._client.ping()

    def publish(self, message):
        """Publish `message` (topic, payload, retain), None for none, and send what was collected."""
        self.begin_step()
        if message is not None:
            topic, payload, retain = message
            if isinstance(payload, list):
                size = sum([len(piece) for piece in payload])
                self.publish_pieces(topic, size, payload, b"\x31" if retain else b"\x30", STEP_MS)
            else:
                self._client.publish(topic, payload, retain)
        self._sockets.connection().flush()

    def publish_large(self):
        """Send the mailbox's large message. One that was cut off is begun anew, and given up at the third time."""
        message = self._mailbox.large_message
        if not message:
            return
        if message is not self._large:
            self._large = message
            self._large_tries = 0
        self._large_tries += 1
        if self._large_tries <= _LARGE_TRIES:
            topic, size, make_pieces = message
            self.publish_pieces(topic, size, make_pieces(), b"\x30")
        else:
            self._mailbox.given_up += 1
        self._mailbox.large_message = self._large = None

    def publish_pieces(self, topic, size, pieces, header=b"\x31", limit_ms=_LARGE_MS):
        """A PUBLISH of `size` bytes that never stand in one piece (MQTT 3.1.1, 3.3); `header` 30: not retained."""
        self.begin_step(limit_ms)
        self.is_cut = True
        connection = self._client.sock
        connection.write(header)
        left = 2 + len(topic) + size
        while left > 0x7F:
            connection.write(bytes((left & 0x7F | 0x80,)))
            left >>= 7
        connection.write(bytes((left,)))
        connection.write(struct.pack("!H", len(topic)))
        connection.write(topic)
        for piece in pieces:
            self._health.network_progressed()
            size -= len(piece)
            connection.write(piece)
        connection.flush()
        if size:  # what follows would be taken for the rest
            raise ValueError
        self.is_cut = False


class Network:
    """The thread. `connects` and `failures` count sessions begun, and tries that failed; `failed_in_a_row` is 0 in a
    session, and up to the first fault.

    With `has_news` the loop is to call firmware.mqtt.session_news.explain(): it puts the latest failure into
    `last_fault`, "" before one, and into `notice` what the owner should do about a network that works, "" for nothing.
    """

    def __init__(self, settings, outbox, mailbox, announcer, probe_id, health):
        self.settings = settings
        self.probe_id = probe_id
        self._outbox = outbox
        self._health = health
        self.mailbox = mailbox
        self.wifi = Wifi(settings["wifi_ssid"], settings["wifi_password"], probe_id.replace("_", "-"), self._rest)
        self.session = session = MqttSession(settings, probe_id, announcer, mailbox, health)
        self.discovery = DiscoveryPublisher(settings, announcer, outbox, session, health)
        self._backoff = Backoff()
        self.failed_in_a_row = 0
        self.opened_s = None  # uptime at the session's begin, None without one
        self.ended_early = 0  # sessions in a row that the broker has ended soon
        self.fault = None  # (exception, did it end a session?), of the latest failure
        self.has_news = False
        self.failures = 0
        self.has_ended = False  # the thread, which the loop begins anew then
        self.last_fault = self.notice = ""

    @property
    def connects(self):
        return self.session.number

    def rssi_dbm(self):
        """The Wi-Fi's signal, None while there is none."""
        return self.wifi.rssi_dbm()

    def start(self):
        """Begin; without a Wi-Fi or broker in the settings there is nothing to do."""
        if not (self.settings["wifi_ssid"] and self.settings["mqtt_host"]):
            return
        self.has_ended = False
        self._health.network_progressed()
        stack_bytes = _STACK_BYTES + (_TLS_STACK_BYTES if self.settings["mqtt_tls_ca"] else 0)
        _thread.stack_size(stack_bytes if sys.platform == "esp32" else _COMPUTERS_STACK_BYTES)
        _thread.start_new_thread(self._run, ())

    def _run(self):
        """The thread. What nobody has foreseen ends it, such as a shortage of memory while a failure is noted."""
        try:
            self._work()
        finally:
            self.has_ended = True

    def _work(self):
        """Never ends. Whatever goes wrong in a session is counted, named and tried again."""
        while True:
            began_s = self._health.uptime_s
            failed = False
            wifi = self.wifi
            try:
                self._live()
            except Exception as error:  # on odd answers umqtt also raises AssertionError, IndexError and TypeError
                if not (wifi.hurries or self.wifi.hurries):  # else the Wi-Fi was lent: nothing has failed
                    failed = True
                    self._note_failure(error)
            self.opened_s = None
            self.discovery.end()
            self.session.close()
            wait_ms = self._backoff.next_ms(self._health.uptime_s - began_s)
            if failed:
                self._rest(wait_ms)

    def _live(self):
        """From the Wi-Fi to a session's end: whoever leaves a `before_session` in it wants one before the next."""
        is_first = not (self.failures or self.connects)  # a soft reset leaves the driver joined, in name only
        self.wifi.join(is_first or self.failed_in_a_row % _FAILURES_TO_REJOIN == _FAILURES_TO_REJOIN - 1)
        self.session.open()
        self.opened_s = self._health.uptime_s
        self.failed_in_a_row = 0
        self._outbox.discard_volatile()
        self.discovery.begin()
        self.has_news = True  # a subscription may be refused, or no more
        while not self.mailbox.before_session:
            self._turn()

    def _turn(self):
        session = self.session
        session.listen()
        session.keep_alive()
        if not self.wifi.is_joined():
            raise NoWifi(True)
        waits = self._announce()
        session.publish_large()
        message = None if waits else self._outbox.pop_unsent()
        session.publish(message)
        uptime_s = self._health.uptime_s
        self._health.session_s = uptime_s
        if self.ended_early and uptime_s - self.opened_s > _SETTLED_S:
            self.ended_early = 0
            self.has_news = True
        if message is None:
            if self.mailbox.time_sync:
                self.mailbox.time_sync.poll(self.settings["ntp_host"], uptime_s)
            time.sleep_ms(_IDLE_MS)

    def _announce(self):
        """Tell the hub of what is new. Returns whether messages should wait for it.

        Where there is no memory for it the session goes on, unless a packet was cut: ending it would not give any back.
        """
        try:
            return self.discovery.poll()
        except MemoryError as error:
            if self.session.is_cut:
                raise
            self.discovery.end()
            self.failures += 1
            self.fault = error, False
            self.has_news = True
            return False

    def _note_failure(self, error):
        self.failures += 1
        self.failed_in_a_row += 1
        self.fault = error, self.opened_s is not None
        self.has_news = True

    def _rest(self, wait_ms):
        while wait_ms > 0 and not self.wifi.hurries:
            self._health.network_progressed()
            time.sleep_ms(min(wait_ms, 1000))
            wait_ms -= 1000
