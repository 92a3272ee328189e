"""A device that answers Improv on a pty, with log lines between its packets; what it is given is in `given`."""

import os
import pty
import select
import threading
import tty


def packet(kind: int, data: bytes) -> bytes:
    whole = b"IMPROV\x01" + bytes((kind, len(data))) + data
    return whole + bytes((sum(whole) & 0xFF,)) + b"\n"


def result(command: int, *texts: str) -> bytes:
    data = b"".join(bytes((len(text.encode()),)) + text.encode() for text in texts)
    return packet(4, bytes((command, len(data))) + data)


class ImprovDevice:
    """At `port`. Its one network has the password `password`."""

    NAME = "home"

    def __init__(self, password: str) -> None:
        self._password = password
        self.given: list[tuple[str, str]] = []
        self._joined = False
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "ImprovDevice":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        os.close(self._master)
        os.close(self._slave)

    def _serve(self) -> None:
        got = b""
        while not self._stop.is_set():
            if not select.select([self._master], [], [], 0.05)[0]:
                continue
            got += os.read(self._master, 4096)
            while (at := got.find(b"IMPROV\x01\x03")) >= 0 and len(got) > at + 8 and len(got) >= at + 10 + got[at + 8]:
                data = got[at + 9 : at + 9 + got[at + 8]]
                got = got[at + 10 + len(data) :]
                os.write(self._master, b"optoprobe: there is no Wi-Fi yet\r\n" + self._answer(data[0], data[2:]))

    def _answer(self, command: int, data: bytes) -> bytes:
        state = packet(1, b"\x04" if self._joined else b"\x02")
        if command == 2:
            return state + (result(2) if self._joined else b"")
        if command == 3:
            return result(3, "optoprobe", "0.0.1", "ESP32-C3", "probe")
        if command == 4:
            return result(4, self.NAME, "-50", "YES") + result(4, "another", "-80", "NO") + result(4)
        if command != 1:
            return packet(2, b"\x02")
        name, password = data[1 : 1 + data[0]].decode(), data[2 + data[0] :].decode()
        self.given.append((name, password))
        self._joined = (name, password) == (self.NAME, self._password)
        if not self._joined:
            return packet(1, b"\x03") + packet(2, b"\x03") + packet(1, b"\x02")
        return packet(1, b"\x03") + packet(1, b"\x04") + result(1)
