"""Wi-Fi and MQTT, in a thread of their own: every step here may wait for seconds, and the loop that meters never does.

    join Wi-Fi -> resolve, connect, say online, announce -> publish, ping, listen -> (any failure) wait, from the start

Stock umqtt.simple over sockets of ours (mqtt_socket). QoS 0 throughout: what is retained is sent again after every
reconnect, what is not would be stale by then. The thread shares only the outbox and single numbers with the loop.
"""

import _thread
import errno
import gc
import random
import struct
import time

import network
import umqtt.simple as umqtt
from micropython import const

from firmware.mqtt.sockets import MqttSockets

_STACK_BYTES = const(8192)
_TIMEOUT_S = const(10)  # for each of connect, write, read
_WIFI_WAIT_S = const(20)
_KEEPALIVE_S = const(30)
_PING_MS = const(8000)
_ANSWER_MS = const(12000)  # a broker that answers no ping for this long is gone
_FAILURES_TO_REJOIN = const(5)  # then the Wi-Fi is left and joined anew
_IDLE_MS = const(10)
_WAIT_LEAST_MS = const(1000)
_WAIT_MOST_MS = const(30000)
_SETTLED_S = const(60)  # a session this long starts the waits from the least again
_HUB_READY_MS = const(2000)  # a hub that has just said online needs a moment; up to as much again at random
_TIME_RETRY_S = const(60)
_TIME_EVERY_S = const(86400)
_KEPT_MS = const(2000)
_SUBSCRIBED_MS = const(500)  # it subscribes to a new entity's topics 150 ms after the announcement

_REFUSALS = {1: "protocol version", 2: "client id", 3: "server unavailable", 4: "user or password", 5: "not authorised"}
_REFUSED = (errno.ECONNREFUSED, errno.ECONNRESET, -1)  # -1 is umqtt's for a closed connection


class NoWifi(Exception):
    """The access point did not let us in within the time."""


class Network:
    """`connects` and `failures` count sessions begun and lost or refused; `problem` names what is wrong now, or "".

    Before start(), others may add to `heard`, topic (bytes) -> who is called with each payload that comes there, and
    set `first`, called with an umqtt client, for a session of its own, before anything is published. Both are called in
    the network's thread.
    """

    def __init__(self, settings, outbox, announcer, probe_id, health):
        self._settings = settings
        self._outbox = outbox
        self._announcer = announcer
        self._probe_id = probe_id
        self._health = health
        self._wlan = None
        self._sockets = MqttSockets(_TIMEOUT_S)
        umqtt.socket = self._sockets  # type: ignore[attr-defined]
        self._client = None
        self.first = None
        self.large_message = None  # (topic, size, pieces) of a message larger than memory
        self._opened_at = 0  # ticks_ms of the session's begin
        self.subscriptions = {}
        self._subscribed = 0  # so many of these
        if settings["discovery"] == "entity":  # here, as an import takes more stack than the thread has
            from firmware.mqtt.homeassistant_entities import entities

            self._entities = entities
        if settings["discovery"] != "off":
            self.subscriptions[(settings["discovery_prefix"] + "/status").encode()] = self._hub_said
        self._pinged_at = 0
        self._failed_in_a_row = 0
        self._announced = None  # the meter whose entities the hub knows
        self._announce_at = None  # ticks_ms of a due announcement of everything, None for none
        self.connects = 0
        self.failures = 0
        self.announcements = 0
        self.problem = ""
        self.ask_time = None  # firmware.mqtt.time_sync.ask, set where somebody needs the time of day
        self.time_known = False
        self._time_due_s = 0

    def start(self):
        """Begin; without a Wi-Fi or broker in the settings there is nothing to do, and `problem` says so."""
        for key in ("wifi_ssid", "mqtt_host"):
            if not self._settings[key]:
                self._say("settings: %s is empty, so nothing is published" % key)
                return
        self._health.network_progressed()
        _thread.stack_size(_STACK_BYTES)
        _thread.start_new_thread(self._run, ())

    def stream(self, topic, size, pieces):
        """Publish `size` bytes of `pieces` (a generator) to `topic`, not retained, once."""
        self.large_message = topic, size, pieces

    def rssi_dbm(self):
        """The Wi-Fi's signal, None while there is none."""
        try:
            return self._wlan.status("rssi") if self._wlan else None
        except (OSError, ValueError, TypeError):
            return None

    def _run(self):
        """The thread: never ends. Whatever goes wrong in a session is counted, named and tried again."""
        wait_ms = _WAIT_LEAST_MS
        while True:
            began_s = self._health.uptime_s
            try:
                self._join_wifi()
                self._connect()
                while not self.first:  # it wants a session before this one
                    self._health.network_progressed()
                    self._turn()
            except Exception as error:  # on odd answers umqtt also raises AssertionError, IndexError and TypeError
                self.failures += 1
                self._failed_in_a_row += 1
                try:
                    self._say(self._sentence(error))
                except MemoryError:
                    gc.collect()
            self._sockets.close()
            if self._health.uptime_s - began_s > _SETTLED_S:
                wait_ms = _WAIT_LEAST_MS
            if self.first:
                continue
            self._wait(wait_ms + random.getrandbits(16) % (wait_ms // 2))
            wait_ms = min(2 * wait_ms, _WAIT_MOST_MS)

    def _wait(self, wait_ms):
        while wait_ms > 0:
            self._health.network_progressed()
            time.sleep_ms(min(wait_ms, 1000))
            wait_ms -= 1000

    def _say(self, problem):
        """Make `problem` known; the same one is printed once, not at each attempt."""
        if problem != self.problem:
            self.problem = problem
            print("optoprobe: " + problem)

    def _sentence(self, error):
        broker = "the broker at %s:%d" % (self._settings["mqtt_host"], self._settings["mqtt_port"])
        if isinstance(error, NoWifi):
            return "the Wi-Fi %s cannot be joined: check its name and password" % self._settings["wifi_ssid"]
        if isinstance(error, umqtt.MQTTException):
            code = error.args[0] if error.args else 0
            return "%s refuses: %s" % (broker, _REFUSALS.get(code, "code %s" % code))
        if isinstance(error, OSError) and error.args and error.args[0] in _REFUSED:
            return "%s refuses or has closed the connection" % broker
        if isinstance(error, OSError):
            return "%s cannot be reached or does not answer (%s)" % (broker, error)
        return "%s answers oddly (%s)" % (broker, type(error).__name__)

    def _join_wifi(self):
        """Be in the Wi-Fi. Raises NoWifi, also for the driver's own errors."""
        try:
            if self._wlan is None:
                network.hostname(self._probe_id.replace("_", "-"))
                self._wlan = network.WLAN(network.STA_IF)
            wlan = self._wlan
            if self._failed_in_a_row % _FAILURES_TO_REJOIN == _FAILURES_TO_REJOIN - 1:
                wlan.active(False)  # joined in name only, perhaps
            wlan.active(True)
            if wlan.isconnected():
                return
            wlan.disconnect()  # the driver may be trying by itself; connect() fails then
            wlan.connect(self._settings["wifi_ssid"], self._settings["wifi_password"])
            for _ in range(_WIFI_WAIT_S):
                self._wait(1000)
                if wlan.isconnected():
                    return
        except OSError:
            pass
        raise NoWifi

    def _connect(self):
        """Open a session: online, and everything announced."""
        settings = self._settings
        gc.collect()  # what is made now stays for the session: let it lie together
        user = settings["mqtt_user"].encode() or None
        client = umqtt.MQTTClient(
            self._probe_id.encode(),
            settings["mqtt_host"],
            settings["mqtt_port"],
            user,
            settings["mqtt_password"].encode() if user else None,
            _KEEPALIVE_S,
        )
        if self.first:
            first = self.first
            self.first = None
            first(client)
        client.set_callback(self._received)
        status = self._announcer.topic("status")
        client.set_last_will(status, b"offline", True)
        client.connect()
        self._opened_at = time.ticks_ms()
        self._client = client
        self._pinged_at = self._sockets.last.received_at
        self._failed_in_a_row = 0
        self._outbox.discard_volatile()
        self._subscribe()
        client.publish(status, b"online", True)
        self.connects += 1
        self._say("")
        self._announce_all()

    def _subscribe(self):
        for topic in self.subscriptions:
            self._client.subscribe(topic)
        self._subscribed = len(self.subscriptions)
        self._opened_at = time.ticks_ms()  # what was kept of them comes now

    def _received(self, topic, payload):
        """What comes at once was kept by the broker: nobody says it now."""
        if topic in self.subscriptions and time.ticks_diff(time.ticks_ms(), self._opened_at) > _KEPT_MS:
            self.subscriptions[topic](payload)

    def _hub_said(self, payload):
        if payload == b"online":
            delay_ms = _HUB_READY_MS + random.getrandbits(16) % _HUB_READY_MS
            self._announce_at = time.ticks_add(time.ticks_ms(), delay_ms)

    def _turn(self):
        """One round: listen, announce, publish one message or rest."""
        client, connection = self._client, self._sockets.last
        if len(self.subscriptions) != self._subscribed:
            self._subscribe()
        client.check_msg()
        now = time.ticks_ms()
        if time.ticks_diff(self._pinged_at, connection.received_at) > 0:  # a ping waits for its answer
            if time.ticks_diff(now, self._pinged_at) > _ANSWER_MS:
                raise OSError(errno.ETIMEDOUT)
        elif time.ticks_diff(now, connection.received_at) > _PING_MS:
            self._pinged_at = now
            client.ping()
        if not self._wlan.isconnected():
            raise OSError(errno.ENOTCONN)
        if self._announce_at is not None and time.ticks_diff(now, self._announce_at) >= 0:
            client.publish(self._announcer.topic("status"), b"online", True)
            self._announce_all()
        elif self._outbox.meter() is not self._announced:
            self._announce_meter()
        if self.large_message:
            topic, size, pieces = self.large_message
            self._publish_pieces(topic, size, pieces, b"\x30")
            self.large_message = None
        message = self._outbox.pop_unsent()
        if message is not None:
            client.publish(*message)
        connection.flush()
        if message is None:
            if self.ask_time and self._health.uptime_s >= self._time_due_s:
                self._set_clock()
            time.sleep_ms(_IDLE_MS)

    def _set_clock(self):
        """Ask the time server; once a day, or again in a minute where it does not answer."""
        self._health.network_progressed()
        known = self.ask_time(self._settings["ntp_host"])  # type: ignore[misc]
        self.time_known = self.time_known or known
        self._time_due_s = self._health.uptime_s + (_TIME_EVERY_S if known else _TIME_RETRY_S)

    def _announce_all(self):
        """The probe's and the meter's entities, and then whatever is retained once more."""
        self._announce_at = None
        self._announce(None)
        self._announced = None
        self._announce_meter()
        time.sleep_ms(_SUBSCRIBED_MS)
        self._outbox.resend_retained()
        self.announcements += 1

    def _announce_meter(self):
        meter = self._outbox.meter()
        if meter is not None:
            self._announce(meter)
        self._announced = meter

    def _announce(self, meter):
        gc.collect()
        if self._settings["discovery"] == "device":
            pieces = self._announcer.device_payload
            size = 0
            for piece in pieces(meter):
                size += len(piece)
            self._publish_pieces(self._announcer.device_topic(meter), size, pieces(meter))
        elif self._settings["discovery"] == "entity":
            for topic, payload in self._entities(self._announcer, meter):
                self._publish_pieces(topic, len(payload), (payload,))
        self._sockets.last.flush()

    def _publish_pieces(self, topic, size, pieces, header=b"\x31"):
        """A PUBLISH of `size` bytes that never stand in memory whole (MQTT 3.1.1, 3.3); `header` 30: not retained."""
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
            connection.write(piece)
