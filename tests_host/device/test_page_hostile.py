"""Five hundred requests of somebody who means no good: nothing is changed or shown, and metering goes on.

On both runtimes, through a real socket. What must hold afterwards: every telegram sent was decoded, the settings are as
they were, the heap is back at its level, nothing secret was told, no answer but refusals was given.
"""

import asyncio
import base64
import importlib
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from support.broker import wait_until
from support.page_client import PASSWORD, START_S, PageBoard, PageClient, page_board
from support.slow_clients import slow_clients

REQUESTS = {"micropython": 500, "cpython": 120}
THREADS = 4
PATHS = """/../settings.json /%2e%2e/settings.json /settings.json /probe/page.gz //etc/passwd /api/../settings.json
/api/status/ /API/STATUS /api/status%00 /boot.py /;a""".split()
SLOW_S = 7  # longer than a request may take
BACK_S = 25  # as long as an answer may take, to who does not listen
LATE_MS = 100  # a telegram on a line that stood still so long is torn for who reads it, now and then
HEAP_SLACK_BYTES = 1024  # what a message in hand takes


class Attack(NamedTuple):
    """Bytes, and the statuses that may answer them: 0 is none at all."""

    name: str
    request: bytes
    statuses: tuple[int, ...]


def head(line: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([line, *headers, "", ""]).encode("latin-1") + body


def attacks(client: PageClient, rng: random.Random) -> Iterator[Attack]:
    """Endlessly; `client` is signed in, and some use what it knows: another site's page in its browser does."""
    host, origin = f"Host: {client.host}", f"Origin: http://{client.host}"
    cookie, token, json_type = f"Cookie: {client.cookie}", f"X-Token: {client.token}", "Content-Type: application/json"
    post = "POST /api/restart HTTP/1.1"
    gone = (0,)
    while True:
        junk = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 3000)))
        size = rng.choice((700, 5000, 65536))
        yield Attack("junk", junk + b"\r\n\r\n", (400, 408, 414, 0))
        yield Attack("junk with a good head", b"GET / HTTP/1.1\r\n" + junk + b"\r\n\r\n", (400, 408, 421, 431, 0))
        yield Attack("long line", head(f"GET /{'a' * size} HTTP/1.1", host), (414, 0))
        yield Attack("long header", head("GET / HTTP/1.1", host, "X-Long: " + "a" * size), (431, 0))
        yield Attack("many headers", head("GET / HTTP/1.1", host, *["X-More: 1"] * 3000), (431, 0))
        yield Attack("no host", head("GET /api/status HTTP/1.1", cookie), (421,))
        yield Attack("forged host", head("GET /api/status HTTP/1.1", "Host: evil.example", cookie), (421,))
        yield Attack("our name elsewhere", head("GET / HTTP/1.1", "Host: probe-page.evil.example", cookie), (421,))
        yield Attack("two hosts", head("GET / HTTP/1.1", host, "Host: evil.example"), (400,))
        evil = "Origin: http://evil.example"
        yield Attack("forged origin", head("GET /api/status HTTP/1.1", host, cookie, evil), (403,))
        yield Attack("null origin", head(post, host, cookie, token, "Origin: null", "Content-Length: 0"), (403,))
        yield Attack("no origin", head(post, host, cookie, token, json_type, "Content-Length: 0"), (403,))
        yield Attack("no token", head(post, host, origin, cookie, json_type, "Content-Length: 2", body=b"{}"), (403,))
        wrong = f"X-Token: {rng.getrandbits(128):032x}"
        yield Attack("wrong token", head(post, host, origin, cookie, wrong, json_type, "Content-Length: 0"), (403,))
        form = "Content-Type: application/x-www-form-urlencoded"
        yield Attack("a form", head(post, host, origin, cookie, token, form, "Content-Length: 2", body=b"a="), (415,))
        yield Attack("no session", head("GET /api/status HTTP/1.1", host), (401,))
        other = f"Cookie: optoprobe={rng.getrandbits(128):032x}"
        yield Attack("wrong session", head("GET /api/readings HTTP/1.1", host, other), (401,))
        yield Attack("no session", head(post, host, origin, token, json_type, "Content-Length: 0"), (401,))
        for path in PATHS:
            yield Attack("path", head(f"GET {path} HTTP/1.1", host, cookie), (404,))
        yield Attack("no path", head("GET http://evil.example/ HTTP/1.1", host), (400,))
        yield Attack("no version", head("GET /", host), (400,))
        yield Attack("another version", head("GET / HTTP/2.0", host), (505,))
        yield Attack("another method", head("BREW / HTTP/1.1", host), (501,))
        yield Attack("delete", head("DELETE /api/status HTTP/1.1", host, cookie), (405,))
        yield Attack("get for a post", head("GET /api/restart HTTP/1.1", host, cookie, token, origin), (405,))
        yield Attack("chunked", head(post, host, origin, cookie, token, "Transfer-Encoding: chunked"), (501,))
        yield Attack("folded", head("GET / HTTP/1.1", host, " more: of it"), (400,))
        yield Attack("blank in a name", head("GET / HTTP/1.1", "Host : x", host), (400,))
        login = ("POST /api/login HTTP/1.1", host, origin, json_type)
        for length in ("-1", "1e3", "9" * 30):
            yield Attack(f"length {length}", head(*login, f"Content-Length: {length}"), (400,))
        for n in (257, 65536):
            yield Attack(f"length {n}", head(*login, f"Content-Length: {n}", body=b"a" * n), (413, 0))
        yield Attack("no length", head(*login), (411,))
        for body in (b"[" * 200, b"{", b"[]", b"\xff\xfe", b'{"password": 5}', b'{"a":' * 40):
            yield Attack("body", head(*login, f"Content-Length: {len(body)}", body=body), (400, 401))
        yield Attack("basic for a file", head("GET /api/capture HTTP/1.1", host, basic(PASSWORD)), (401,))
        yield Attack("basic", head("GET /metrics HTTP/1.1", host, "Authorization: Basic !!!"), (401, 429))
        yield Attack("says nothing", b"", gone)
        yield Attack("says little", b"GET", gone)


def basic(password: str) -> str:
    return "Authorization: Basic " + base64.b64encode(f"x:{password}".encode()).decode()


def ask(client: PageClient, attack: Attack) -> int:
    if attack.statuses == (0,):  # it hangs up
        with socket.create_connection(("127.0.0.1", client.port), timeout=START_S) as connection:
            connection.sendall(attack.request)
        return 0
    return client.raw(attack.request).status


def counts(client: PageClient) -> dict:
    return client.ask("GET", "/api/status").object()["counts"]


def free(client: PageClient) -> int:
    return min(counts(client)["free_heap_bytes"] for _ in range(3))


def when_all_is_read(there: PageBoard, client: PageClient) -> dict:
    """The counts behind the last telegram: each one sent is decoded, as far as the machine kept the line's time."""
    there.meter.paused = True
    torn = 2 if there.server.late_ms >= LATE_MS else 0

    def missing() -> int:
        return len(there.server.log) - counts(client)["telegrams"]

    wait_until(lambda: 0 <= missing() <= torn, START_S, "a telegram is missing")
    told = counts(client)
    assert told["rejected"] <= torn
    return told


def attack_with(there: PageBoard, n: int) -> Counter[tuple[str, int]]:
    """Ask n times from several places at once; returns what was answered against expectation."""
    source = attacks(there.client, random.Random(1))
    todo = [next(source) for _ in range(n)]
    wrong: Counter[tuple[str, int]] = Counter()

    def work() -> None:
        while todo:
            try:
                attack = todo.pop()
            except IndexError:
                return
            try:
                status = ask(there.client, attack)
            except OSError:  # nobody listens
                status = -1
            if status not in attack.statuses:
                wrong[attack.name, status] += 1

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


@pytest.mark.parametrize(("runtime_name", "n"), REQUESTS.items())
def test_five_hundred_hostile_requests_disturb_nothing(tmp_path: Path, runtime_name: str, n: int) -> None:
    with page_board(tmp_path, runtime_name=runtime_name) as there:
        client = there.client.sign_in()
        wait_until(lambda: counts(client)["telegrams"] >= 2, START_S, "no telegram")
        settings = (there.board.directory / "settings.json").read_bytes()
        files = sorted(path.name for path in there.board.directory.iterdir())
        before = free(client)
        slow = socket.create_connection(("127.0.0.1", client.port))  # has one of the two places till it is thrown out
        slow.sendall(b"GET / HTTP/1.1\r\nHost: ")
        began_s = time.monotonic()
        wrong = attack_with(there, n)
        print(f"{n} requests in {time.monotonic() - began_s:.1f} s")
        assert not wrong, (wrong, there.board.resets, there.board.log)
        with slow:
            assert b" 408 " in slow.makefile("rb").readline()
        assert there.board.running and not there.board.resets
        assert not [line for line in there.board.log if "Error" in line or "Traceback" in line], there.board.log
        assert (there.board.directory / "settings.json").read_bytes() == settings
        assert sorted(path.name for path in there.board.directory.iterdir()) == files
        told = when_all_is_read(there, client)
        assert told["overruns"] == told["out_of_memory"] == told["mqtt_failures"] == 0
        assert sum(told["mqtt_ignored_by_reason"].values()) == 0  # no command came of it
        if runtime_name == "micropython":
            assert free(client) >= before - HEAP_SLACK_BYTES
        seen = b"".join(client.seen)
        for secret in (PASSWORD, "secret of", json.loads(settings)["device_password"]):
            assert secret.encode() not in seen


def test_thirty_slow_clients_hold_up_no_reading_and_leave_their_places(tmp_path: Path) -> None:
    with page_board(tmp_path, with_broker=False) as there:
        client = there.client.sign_in()
        with slow_clients(client.port, "/api/login") as thrown_out:
            time.sleep(SLOW_S)
        began_s = time.monotonic()
        assert client.ask("GET", "/api/readings").status == 200
        assert time.monotonic() - began_s < BACK_S
        assert len(thrown_out) >= 2, thrown_out
        assert there.board.running and not there.board.resets
        assert not [line for line in there.board.log if "Traceback" in line], there.board.log
        told = when_all_is_read(there, client)
        assert told["overruns"] == told["out_of_memory"] == 0


def test_who_guesses_has_to_wait(tmp_path: Path) -> None:
    with page_board(tmp_path, with_broker=False) as there:
        inside = PageClient(there.client.port).sign_in()
        guesser = PageClient(there.client.port)
        statuses = [guesser.ask("POST", "/api/login", body={"password": f"guess {n}"}).status for n in range(5)]
        assert statuses == [401, 401, 401, 429, 429]
        refused = guesser.ask("POST", "/api/login", body={"password": PASSWORD})
        assert refused.status == 429 and int(refused.headers["retry-after"]) >= 3
        assert inside.ask("GET", "/api/readings").status == 200
        host = f"Host: {guesser.host}"
        scripts = [guesser.raw(head("GET /metrics HTTP/1.1", host, basic(f"old {n}"))).status for n in range(4)]
        assert scripts == [401, 401, 401, 429]
        assert inside.ask("POST", "/api/logout").status == 200
        assert inside.ask("GET", "/api/readings").status == 401


def test_two_that_sign_out_of_one_session_at_once_are_both_answered(device: Any) -> None:
    page_actions = importlib.import_module("firmware.page.page_actions")
    session = ["key", "token", 60]
    door = SimpleNamespace(sessions=[session])
    answers: list[bytes] = []

    class Exchange:
        path = "/api/logout"

        async def read_object(self) -> dict[str, Any]:
            await asyncio.sleep(0)  # till its body has come
            return {}

        async def begin(self, status: int, kind: str) -> None: ...

        async def send(self, data: bytes) -> None:
            answers.append(data)

    async def both() -> None:
        await asyncio.gather(*(page_actions.act(door, Exchange(), session) for _ in range(2)))

    asyncio.run(both())
    assert answers == [b'{"accepted": true}'] * 2 and not door.sessions
