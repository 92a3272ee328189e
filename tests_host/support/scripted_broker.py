"""An MQTT broker whose first connections go wrong as a test wishes, and whose later ones go well; loopback, threads.

    with ScriptedBroker([refuse(5), mute(30)]) as broker:   # the first connection is refused, the second gets no answer
        broker.port, broker.published, broker.connections

A fault is a function of a Connection; when it returns the connection is closed. Packets are those of MQTT 3.1.1.
"""

import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

CONNECT, PUBLISH, SUBSCRIBE, PINGREQ = 0x10, 0x30, 0x80, 0xC0


class Published(NamedTuple):
    """A PUBLISH that the probe has sent whole on the connection of that number, `at_s` (monotonic)."""

    at_s: float
    connection: int
    topic: str
    payload: bytes
    retain: bool


def packet(first: int, body: bytes) -> bytes:
    """A packet with its length (2.2.3)."""
    length = b""
    left = len(body)
    while True:
        length += bytes([left & 0x7F | (0x80 if left > 0x7F else 0)])
        left >>= 7
        if not left:
            return bytes([first]) + length + body


def publish(topic: str | bytes, payload: str | bytes, retain: bool = False) -> bytes:
    """A PUBLISH of ours (3.3)."""
    topic = topic.encode() if isinstance(topic, str) else topic
    payload = payload.encode() if isinstance(payload, str) else payload
    return packet(PUBLISH | retain, struct.pack("!H", len(topic)) + topic + payload)


class Connection:
    """One of the probe's. `number` counts from 0."""

    def __init__(self, broker: "ScriptedBroker", ours: socket.socket, number: int) -> None:
        self.broker, self.number = broker, number
        self.subscribed: list[str] = []
        self._socket = ours
        self._buffer = bytearray()
        self._writing = threading.Lock()

    def send(self, data: bytes) -> None:
        with self._writing:
            self._socket.sendall(data)

    def receive(self, n: int) -> bytes:
        """The next n bytes; EOFError where the probe has closed."""
        while len(self._buffer) < n:
            more = self._socket.recv(4096)
            if not more:
                raise EOFError
            self._buffer += more
        data = bytes(self._buffer[:n])
        del self._buffer[:n]
        return data

    def packet(self, cut: str = "") -> tuple[int, bytes]:
        """(first byte, body) of the next one; EOFError amid a PUBLISH on a topic that ends with `cut`.

        `# whole` is among what was published where all of it had come by then: nothing of QoS 0 is sent again.
        """
        first = self.receive(1)[0]
        length = shift = 0
        while True:
            byte = self.receive(1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if not (cut and first & 0xF0 == PUBLISH):
            return first, self.receive(length)
        head = self.receive(2)
        head += self.receive(int.from_bytes(head, "big"))
        if head.endswith(cut.encode()):
            rest = length - len(head)
            self.receive(rest // 2)
            if self._has_come(rest - rest // 2):
                self.broker.published.append(Published(time.monotonic(), self.number, "# whole", b"", False))
            raise EOFError
        return first, head + self.receive(length - len(head))

    def _has_come(self, n: int) -> bool:
        try:
            return len(self._buffer) + len(self._socket.recv(n, socket.MSG_PEEK | socket.MSG_DONTWAIT)) >= n
        except BlockingIOError:
            return len(self._buffer) >= n

    def reset(self) -> None:
        """The end, as of a killed broker: what has not been read is lost."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def welcome(self) -> None:
        """Take the CONNECT."""
        assert self.packet()[0] == CONNECT
        self.send(b"\x20\x02\x00\x00")

    def serve(self, for_s: float = 1e9, refuses: str = "") -> None:
        """Do what a broker does, for so long; subscriptions to topics that end with `refuses` are refused."""
        until_s = time.monotonic() + for_s
        while True:
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return
            if not self._buffer:
                self._socket.settimeout(min(left_s, 3600))
                try:
                    more = self._socket.recv(4096)
                except TimeoutError:
                    return
                finally:
                    self._socket.settimeout(None)
                if not more:
                    raise EOFError
                self._buffer += more
            self.answer(*self.packet(), refuses)

    def answer(self, first: int, body: bytes, refuses: str = "") -> None:
        """Answer a packet; a PUBLISH is put among broker.published."""
        kind = first & 0xF0
        if kind == CONNECT:
            self.send(b"\x20\x02\x00\x00")
        elif kind == SUBSCRIBE:
            topic = body[4:-1].decode()
            self.subscribed.append(topic)
            self.send(packet(0x90, body[:2] + (b"\x80" if refuses and topic.endswith(refuses) else b"\x00")))
        elif kind == PINGREQ:
            self.send(b"\xd0\x00")
        elif kind == PUBLISH:
            end = 2 + int.from_bytes(body[:2], "big")
            said = Published(time.monotonic(), self.number, body[2:end].decode(), body[end:], bool(first & 1))
            self.broker.published.append(said)
        else:
            raise AssertionError(f"packet {first:#x}, out of step")


Fault = Callable[[Connection], object]


class ScriptedBroker:
    """See the top of this file. `broken` holds what went wrong in the script itself."""

    def __init__(self, faults: Sequence[Fault], later: Fault = Connection.serve) -> None:
        self._faults, self._later = faults, later
        self.published: list[Published] = []
        self.connections: list[float] = []  # when each began
        self.broken: list[BaseException] = []
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]

    def __enter__(self) -> "ScriptedBroker":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        for ours in self._open:
            ours.close()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._server.accept()
            except OSError:
                return
            number = len(self.connections)
            self.connections.append(time.monotonic())
            self._open.append(ours)
            threading.Thread(target=self._live, args=(Connection(self, ours, number), ours), daemon=True).start()

    def _live(self, connection: Connection, ours: socket.socket) -> None:
        fault = self._faults[connection.number] if connection.number < len(self._faults) else self._later
        try:
            fault(connection)
        except (OSError, EOFError):  # the probe has had enough
            pass
        except BaseException as error:
            self.broken.append(error)
        ours.close()

    def of(self, ending: str, connection: int = 0) -> list[Published]:
        """What has come on topics that end so, on that connection or later."""
        return [said for said in list(self.published) if said.topic.endswith(ending) and said.connection >= connection]
