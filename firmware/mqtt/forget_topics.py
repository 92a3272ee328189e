"""What the broker keeps of a probe, or kept under names of before, is taken off it: its own topics, and the discovery
of it and of its meters.
"""

import time

import umqtt.simple as umqtt
from micropython import const

_LOOK_MS = const(100)
_QUIET_MS = const(1000)  # what is kept comes with a subscription's answer
_MOST_MS = const(10000)  # somebody may go on publishing there
_LISTEN_MS = const(10)
_MOST_METERS = const(8)
_WILL_MS = const(60000)  # the broker gives a probe up behind 45 s of silence

WIPE = const(0)  # everything, and nothing is said any more
ALL = const(1)  # everything, unless another probe is online under these names
DISCOVERY = const(2)  # of the probe and its meters


class TopicsForgotten:
    """Under `names` (topics' prefix, probe id, discovery's prefix, ...); `health` hears of each step. `done`: the
    broker keeps nothing of it, or another probe has these names; `at_end` is called before.
    """

    def __init__(self, health, what, names, at_end=None):
        self._at_end = at_end
        self.done = False
        self._health = health
        self._what = what
        self._own = "%s/%s" % (names[0], names[1])
        self._discovery = names[2]
        self._object_id = "optoprobe_" + names[1]
        self._slugs = []  # of the meters that the broker knows
        self._client: umqtt.MQTTClient = None  # type: ignore[assignment]  # until clean()
        self._heard_at = 0
        self._keeps = False  # is what is heard only looked at?
        self._is_online = False  # is somebody there under these names?

    def clean(self, client):
        """By the network's thread, with umqtt's client in a session of its own; a wipe's does not return."""
        what = self._what
        self._client = client
        client.set_callback(self._heard)
        client.connect()
        self._keeps = True
        self._listen(self._own + "/#")
        waited = 0
        while what == ALL and self._is_online and waited < _WILL_MS // _QUIET_MS:  # that may be our last will's
            self._listen(self._own + "/status")
            waited += 1
        self._keeps = False
        if what != ALL or not self._is_online:
            self._forget_all(what)
        client.sock.flush()
        client.sock.close()
        if self._at_end:
            self._at_end()
        self.done = True
        while what == WIPE:
            time.sleep_ms(_LOOK_MS)

    def _forget_all(self, what):
        """The discovery first: a hub takes what goes from a topic that it still hears for a message."""
        ids = [self._object_id]
        for slug in self._slugs:
            ids.append("%s_%s" % (self._object_id, slug))
        for object_id in ids:
            for form in ("%s/device/%s/config", "%s/+/%s/+/config"):
                self._listen(form % (self._discovery, object_id))
        if what <= ALL:
            self._listen(self._own + "/#")
        if what == WIPE:
            self._client.publish((self._own + "/status").encode(), b"", True)  # the last will of the session before

    def _listen(self, topics):
        """Hear what the broker keeps of `topics` (text, with wildcards), to the end."""
        client = self._client
        began = self._heard_at = time.ticks_ms()  # pyrefly: ignore[bad-assignment] - ticks are ints
        client.sock.step_at = began
        try:
            client.subscribe(topics.encode())
        except umqtt.MQTTException:  # it lets nobody read them: what there is stays
            return
        while True:
            client.sock.step_at = now = time.ticks_ms()
            client.check_msg()
            quiet_ms = time.ticks_diff(now, self._heard_at)
            if quiet_ms > _QUIET_MS or time.ticks_diff(now, began) > _MOST_MS:
                return
            self._health.network_progressed()
            time.sleep_ms(_LISTEN_MS)

    def _heard(self, topic, payload):
        """`topic` or `payload` is None where it was too long to be taken: a topic of that length is not ours."""
        if not topic or payload == b"":  # what is forgotten comes back as such
            return
        self._heard_at = time.ticks_ms()  # pyrefly: ignore[bad-assignment] - ticks are ints
        try:
            text = topic.decode()
        except ValueError:  # nor is one that is no text
            return
        if text == self._own + "/status":
            self._is_online = payload == b"online"
        if not self._keeps:
            self._client.publish(topic, b"", True)
        levels = text.split("/")
        if text.startswith(self._own) and levels[-1] in ("state", "status") and "/".join(levels[:-1]) != self._own:
            if levels[-2] not in self._slugs and len(self._slugs) < _MOST_METERS:
                self._slugs.append(levels[-2])
