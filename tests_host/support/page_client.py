"""A client of the probe's page, and a virtual board that has one."""

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from optoprobe.virtual.board import VirtualBoard
from optoprobe.virtual.broker import Broker, free_port
from optoprobe.virtual.optical_server import OpticalServer
from optoprobe.virtual.sml_meter import SmlMeter

from .broker import PausableMeter, wait_until

PASSWORD = "correct horse battery"
START_S = 60.0  # a busy machine


class Answer(NamedTuple):
    """What came; `status` 0: nothing, or what is no answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def object(self) -> dict[str, Any]:
        """The body as the JSON object it has to be."""
        assert self.status == 200, self
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


class PageClient:
    """Asks the page at `port` of 127.0.0.1; with `cookie` and `token` once it has signed in."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.host = f"127.0.0.1:{port}"
        self.cookie = self.token = ""
        self.seen: list[bytes] = []  # all that has come
        self._lock = threading.Lock()

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, body: object = None) -> Answer:
        """One request; `headers` stand in the place of our own of that name, "" for none."""
        ours = {"Host": self.host, "Origin": f"http://{self.host}", "Cookie": self.cookie, "X-Token": self.token}
        content = b""
        if method == "POST":
            content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
            ours |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
        lines = [f"{key}: {value}" for key, value in (ours | (headers or {})).items() if value]
        return self.raw("\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + content)

    def raw(self, request: bytes) -> Answer:
        """What the probe answers to these bytes."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=START_S)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.sendall(request)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            body = answer.read()
            found = Answer(answer.status, {key.lower(): value for key, value in answer.getheaders()}, body)
            with self._lock:
                self.seen.append(repr(answer.getheaders()).encode() + body)
            return found
        return Answer(0, {}, b"")

    def sign_in(self) -> "PageClient":
        """Have a session. A busy machine may be too slow for the limit on a request."""
        answer = Answer(0, {}, b"")
        for _ in range(5):
            answer = answer if answer.status else self.ask("POST", "/api/login", body={"password": PASSWORD})
        self.token = answer.object()["token"]
        self.cookie = answer.headers["set-cookie"].split(";")[0]
        return self

    def is_there(self) -> bool:
        """Does anybody listen?"""
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=START_S).close()
            return True
        return False


class PageBoard(NamedTuple):
    """A virtual board with a page, its meter and its broker (None: the settings name one that is not there)."""

    board: VirtualBoard
    server: OpticalServer
    meter: PausableMeter
    broker: Broker | None
    client: PageClient


@contextlib.contextmanager
def page_board(
    folder: Path,
    *,
    runtime_name: str = "micropython",
    heap_bytes: int | None = None,
    with_broker: bool = True,
    start: str | None = None,
    listens: bool = True,
) -> Iterator[PageBoard]:
    """It runs within the `with`; its page listens, unless `listens` is False."""
    meter = PausableMeter(SmlMeter(1))
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(Broker(folder / "broker")) if with_broker else None
        server = stack.enter_context(OpticalServer(meter))
        client = PageClient(free_port())
        settings: dict[str, object] = {"wifi_ssid": "home", "wifi_password": "secret of the Wi-Fi"}
        settings |= {"mqtt_host": "127.0.0.1", "mqtt_port": broker.port if broker else free_port()}
        settings |= {"mqtt_user": "probe", "mqtt_password": "secret of the broker", "probe_id": "probe_page"}
        settings |= {"protocol": "sml", "device_password": PASSWORD, "page_port": client.port}
        options: dict[str, Any] = {"runtime_name": runtime_name, "heap_bytes": heap_bytes, "start": start}
        board = VirtualBoard(folder / "device", settings, server.port, **options)
        with board:
            if listens:
                wait_until(client.is_there, START_S, "the page does not listen")
            yield PageBoard(board, server, meter, broker, client)
