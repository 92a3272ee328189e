"""Between the loop that meters and the network's thread: messages to publish, and the mailbox for all else."""

import _thread

from micropython import const

_MAX_TOPICS = const(10)  # state, live and status of two meters, diagnostics, and a margin

_MAX_COMMANDS = const(8)  # waiting; the loop takes one every 500 ms at the least
_BURST = const(3)  # commands of a topic beyond the first, before its rest between two is kept

_TOPIC = const(0)  # of a slot
_PAYLOAD = const(1)
_RETAIN = const(2)
_UNSENT = const(3)


def member(payload, key, value):
    """Make `payload` (bytearray) one member longer on its way to a JSON object: `value` (JSON text) under `key`.

    A message grows in place, and lacks its closing brace till the last: its parts never stand in memory beside it.
    """
    payload += b'%s"%s": %s' % (b", " if payload else b"{", key.encode(), value.encode())


class Outbox:
    """`replaced` counts messages that a newer one of their topic overtook unsent, `refused` those beyond the limit."""

    def __init__(self):
        self._lock = _thread.allocate_lock()  # held for a few instructions only
        self._slots = []
        self._meter = None
        self.replaced = 0
        self.refused = 0

    def put(self, topic, payload, retain):
        """Leave `payload` (bytes, bytearray or a list of these) for `topic` (bytes); a retained one is kept for after a
        reconnect.
        """
        with self._lock:
            for slot in self._slots:
                if slot[_TOPIC] == topic:
                    if slot[_UNSENT]:
                        self.replaced += 1
                    slot[_PAYLOAD] = payload
                    slot[_UNSENT] = True
                    return
            if len(self._slots) >= _MAX_TOPICS:  # a meter that has gone has been told of
                for slot in self._slots:
                    if slot[_PAYLOAD] == b"offline" and not slot[_UNSENT]:
                        self._slots.remove(slot)
                        break
            if len(self._slots) < _MAX_TOPICS:
                self._slots.append([topic, payload, retain, True])
            else:
                self.refused += 1

    def remove(self, topic):
        """Nothing is to be sent there any more."""
        with self._lock:
            for slot in self._slots:
                if slot[_TOPIC] == topic:
                    self._slots.remove(slot)
                    return

    def pop_unsent(self):
        """The next unsent (topic, payload, retain) or None. It counts as sent."""
        with self._lock:
            for slot in self._slots:
                if slot[_UNSENT]:
                    slot[_UNSENT] = False
                    message = slot[_TOPIC], slot[_PAYLOAD], slot[_RETAIN]
                    if not slot[_RETAIN]:
                        slot[_PAYLOAD] = None
                    return message
        return None

    def discard_volatile(self):
        """A new connection: what was not retained and not sent by now is no longer true."""
        with self._lock:
            for slot in self._slots:
                if not slot[_RETAIN]:
                    slot[_UNSENT] = False
                    slot[_PAYLOAD] = None

    def resend_retained(self):
        """A new connection, or a hub that has just started: everything retained is to be sent once more."""
        with self._lock:
            for slot in self._slots:
                if slot[_RETAIN]:
                    slot[_UNSENT] = True

    def announce(self, meter):
        """Make `meter` (announcer.Meter, not changed afterwards) the one whose entities are announced."""
        with self._lock:
            self._meter = meter

    def meter(self):
        """The meter announced last, None before the first telegram."""
        with self._lock:
            return self._meter


class Mailbox:
    """What the loop and the network's thread leave for each other, beside the Outbox. Either may call any method.

    | what | who leaves it | who takes it |
    | --- | --- | --- |
    | subscriptions | loop: subscribe(), unsubscribe() | thread: topics(), when `changes` has changed |
    | commands from the broker, in their order | thread: put_command() | loop: pop_command() |
    | `large_message`: (topic, size, function that makes the generator of its pieces) | loop | thread, None when done |
    | `before_session`: called with an umqtt client, before anything is published | loop | thread, None when done |
    | `time_sync`: firmware.mqtt.time_sync.TimeSync, where somebody needs the time of day | loop | thread |

    `ignored` counts messages that were no command, by reason, `given_up` large messages that the broker did not take.
    """

    def __init__(self):
        self._lock = _thread.allocate_lock()
        self._subscriptions = {}  # topic -> [name, s between two commands, uptime s when the next is due]
        self._commands = []  # (name, payload, session)
        self.changes = 0
        self.large_message = self.before_session = self.time_sync = None
        self.given_up = 0
        self.ignored = {"retained": 0, "too often": 0, "too long": 0, "unknown topic": 0}

    def subscribe(self, topic, name, rest_s):
        """Have what is said on `topic` (bytes) put among the commands as `name`, every `rest_s` in the long run."""
        with self._lock:
            self._subscriptions[topic] = [name, rest_s, 0]
            self.changes += 1

    def unsubscribe(self, topic):
        """Nobody takes what is said there any more."""
        with self._lock:
            name = self._subscriptions.pop(topic)[0]
            self._commands = [command for command in self._commands if command[0] != name]

    def topics(self):
        """A list of the topics subscribed to."""
        with self._lock:
            return list(self._subscriptions)

    def put_command(self, topic, payload, is_retained, uptime_s, session):
        """Leave what came on `topic` in the session of that number; payload None: it was too long."""
        with self._lock:
            entry = self._subscriptions.get(topic)
            if entry is None:
                reason = "unknown topic"
            elif is_retained:  # nobody says it now
                reason = "retained"
            elif payload is None:
                reason = "too long"
            else:
                name, rest_s, due_s = entry
                ends = payload == b"OFF"  # whatever is on: always, while there is room
                if len(self._commands) < _MAX_COMMANDS and (ends or uptime_s >= due_s - _BURST * rest_s):
                    if not ends:
                        entry[2] = max(due_s, uptime_s) + rest_s
                    self._commands.append((name, payload, session))
                    return
                reason = "too often"
            self.ignored[reason] += 1

    def pop_command(self, *names):
        """(name, payload, session) of the command that waits longest under one of the names, None without one."""
        with self._lock:
            for command in self._commands:
                if command[0] in names:
                    self._commands.remove(command)
                    return command
        return None
