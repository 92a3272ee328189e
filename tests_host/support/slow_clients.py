"""Clients of a page that say little, or nothing, or never listen: each takes a place for as long as it is given one."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

_AGAIN_S = 0.05
_SLOW = ("silent", "dripping", "slow_body")  # only for taking too long
_LONGEST_S = 25.0


class _Client:
    """One that comes again and again until `ends` is set."""

    def __init__(self, port: int, path: str, ends: threading.Event) -> None:
        self.host = f"127.0.0.1:{port}"
        self.path = path
        self.ends = ends

    def say(self, connection: socket.socket, *headers: str) -> None:
        lines = [f"POST {self.path} HTTP/1.1", f"Host: {self.host}", f"Origin: http://{self.host}", *headers, "", ""]
        connection.sendall("\r\n".join(lines).encode())

    def drip(self, connection: socket.socket, text: bytes) -> None:
        for byte in text:
            connection.sendall(bytes((byte,)))
            if self.ends.wait(0.5):
                return

    def silent(self, connection: socket.socket) -> None:
        while not self.ends.is_set():
            with contextlib.suppress(TimeoutError):
                if not connection.recv(100):
                    return

    def dripping(self, connection: socket.socket) -> None:
        self.drip(connection, b"GET / HTTP/1.1\r\nHost: " + b"a" * 600)

    def deaf(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
        self.ends.wait(_LONGEST_S)

    def chunked(self, connection: socket.socket) -> None:
        self.say(connection, "Transfer-Encoding: chunked")
        connection.sendall(b"5\r\nabcde\r\n" * 2000)
        self.silent(connection)

    def slow_body(self, connection: socket.socket) -> None:
        self.say(connection, "Content-Type: application/json", "Content-Length: 200")
        self.drip(connection, b"{" + b" " * 198)

    def kinds(self) -> tuple[Callable[[socket.socket], None], ...]:
        return self.silent, self.dripping, self.deaf, self.chunked, self.slow_body


@contextlib.contextmanager
def slow_clients(port: int, path: str, n: int = 30) -> Iterator[list[str]]:
    """`n` of them at once at 127.0.0.1, each there again once it is thrown out; some post to `path`. Gives a list of
    those of _SLOW that were thrown out, by kind.
    """
    ends = threading.Event()
    thrown_out: list[str] = []
    kinds = _Client(port, path, ends).kinds()

    def come_again(kind: Callable[[socket.socket], None]) -> None:
        while not ends.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                with contextlib.suppress(OSError):
                    kind(connection)
                if not ends.is_set() and kind.__name__ in _SLOW:
                    thrown_out.append(kind.__name__)
            ends.wait(_AGAIN_S)

    threads = [threading.Thread(target=come_again, args=(kinds[k % len(kinds)],)) for k in range(n)]
    for thread in threads:
        thread.start()
    try:
        yield thrown_out
    finally:
        ends.set()
        for thread in threads:
            thread.join()
