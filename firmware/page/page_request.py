"""One client of the page: its request is read within limits, and answered. HTTP/1.0, one request a connection.

    request line, headers   lines of up to 640 bytes, 64 of them, 5 s for all and for the body
    body                    up to 256 bytes, only with a length, only JSON
    answer                  in pieces, 20 s for all

Whatever is beyond a limit, malformed or unknown ends in Refused with a status, which is counted. No path of a request
is ever a file's name.
"""

import asyncio
import errno
import gc
import select
import time

from micropython import const

_MOST_LINE = const(640)  # browsers send half of it
_MOST_HEADERS = const(64)
_MOST_BODY = const(256)
_PIECE = const(256)
_FILE_PIECE = const(512)
_REQUEST_MS = const(5000)
_ANSWER_MS = const(20000)
_WAIT_MS = const(10)
_MOST_LEFT = const(8192)  # bytes of a refused request that are taken off the line
_LEFT_MS = const(60)
# What the page may do and use: itself. It runs in no frame of another's.
_SAFE = (
    b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n"
    b"Referrer-Policy: no-referrer\r\nCross-Origin-Resource-Policy: same-origin\r\nConnection: close\r\n"
)
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
# Of the headers, those that matter: a header that comes twice is refused where two readers could differ.
_KEPT = b" host origin cookie authorization x-token content-length content-type "
_REASONS = (
    " 200=OK 204=No_Content 302=Found 400=Bad_Request 401=Unauthorized 403=Forbidden 404=Not_Found"
    " 405=Method_Not_Allowed 408=Request_Timeout 409=Conflict 411=Length_Required"
    " 413=Content_Too_Large 414=URI_Too_Long"
    " 415=Unsupported_Media_Type 421=Misdirected_Request 429=Too_Many_Requests"
    " 431=Request_Header_Fields_Too_Large 500=Error 501=Not_Implemented 503=No_memory 505=Version "
)


class Refused(Exception):
    """`status` of the answer, 0 for none: the client has gone. `words` say why, `wait_s` when to try again."""

    def __init__(self, status, words="", wait_s=0):
        self.status = status
        self.words = words
        self.wait_s = wait_s


class Exchange:
    """A request, then its answer. `headers` are lower-case names to texts, of those that matter."""

    def __init__(self, client):
        self._client = client
        self._poller = select.poll()
        self._poller.register(client, select.POLLIN)
        self._began = time.ticks_ms()
        self._limit_ms = _REQUEST_MS
        self._data = b""  # received and not used yet
        self.method = self.path = self.query = ""
        self.headers = {}
        self._left: int | None = _MOST_LEFT  # bytes the client may still say, as far as is known; None: its body
        self.status = 0  # of the answer, once it has begun

    async def _wait(self):
        if time.ticks_diff(time.ticks_ms(), self._began) > self._limit_ms:
            raise Refused(0 if self.status else 408)
        await asyncio.sleep_ms(_WAIT_MS)

    async def _receive(self):
        while True:
            while not self._poller.poll(0):
                await self._wait()
            try:
                data = self._client.recv(_PIECE)
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise Refused(0)
                await self._wait()
                continue
            if not data:
                raise Refused(0)
            return data

    async def _line(self, status):
        """The next line without its end; `status` is for one that is too long."""
        while True:
            end = self._data.find(b"\n")
            if end < 0 and len(self._data) <= _MOST_LINE:
                self._data += await self._receive()
                continue
            if end < 0 or end > _MOST_LINE:
                raise Refused(status)
            line = self._data[:end]
            self._data = self._data[end + 1 :]
            if line[-1:] == b"\r":
                line = line[:-1]
            for byte in line:
                if not 0x20 <= byte < 0x7F and byte != 9:
                    raise Refused(400)
            return line

    async def read_head(self):
        """Take the request line and the headers."""
        words = (await self._line(414)).split(b" ")
        if len(words) != 3 or not words[1].startswith(b"/"):
            raise Refused(400)
        if words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise Refused(505 if words[2].startswith(b"HTTP/") else 400)
        self.method = words[0].decode()
        target = words[1].decode()
        at = target.find("?")
        self.path, self.query = (target, "") if at < 0 else (target[:at], target[at + 1 :])
        for _ in range(_MOST_HEADERS):
            line = await self._line(431)
            if not line:
                self._left = None
                return
            self._note_header(line)
        raise Refused(431)

    def _note_header(self, line):
        at = line.find(b":")
        name = line[:at].lower()
        if at < 1 or b" " in name or b"\t" in name:  # a header that goes on in a second line among them
            raise Refused(400)
        if name == b"transfer-encoding":
            raise Refused(501)
        if b" " + name + b" " not in _KEPT:
            return
        name = name.decode()
        if name in self.headers:
            raise Refused(400)
        self.headers[name] = line[at + 1 :].strip().decode()

    def _body_bytes(self, kind, most):
        """How long the body is, which must be of that content type."""
        length = self.headers.get("content-length")
        if length is None:
            raise Refused(411)
        n = _length(length)
        if n < 0:
            raise Refused(400)
        if n > most:
            raise Refused(413)
        if self.headers.get("content-type", "").split(";")[0].strip() != kind:
            raise Refused(415)  # what a form of another site cannot send
        return n

    async def read_object(self, most=_MOST_BODY):
        """The body of up to `most` bytes, a JSON object; an empty one where there is none."""
        import json

        n = self._body_bytes(JSON, most)
        while len(self._data) < n:
            self._data += await self._receive()
        try:
            value = json.loads(self._data[:n].decode()) if n else {}
        except (ValueError, RuntimeError):  # RuntimeError: nested too deeply
            raise Refused(400, "no JSON")
        if not isinstance(value, dict):
            raise Refused(400, "no JSON object")
        return value

    async def read_pieces(self, kind, take, most):
        """Give the body to take(bytes), piece by piece."""
        left = self._body_bytes(kind, most)
        while left > 0:
            piece = self._data or await self._receive()
            self._data = b""
            take(piece[:left])
            left -= len(piece)

    async def send_file(self, path, kind):
        """Answer with a compressed file."""
        try:
            with open(path, "rb") as file:
                await self.begin(200, kind, b"Content-Encoding: gzip\r\n")
                while True:
                    piece = file.read(_FILE_PIECE)
                    if not piece:
                        return
                    await self.send(piece)
        except OSError:
            raise Refused(500, "%s is missing: deploy the probe anew" % path.split("/")[-1])

    async def begin(self, status, kind, more=b""):
        """Send the head of the answer; `more` are headers with their ends."""
        self.status = status
        self._began = time.ticks_ms()
        self._limit_ms = _ANSWER_MS
        at = _REASONS.find(" %d=" % status) + 5
        reason = _REASONS[at : _REASONS.find(" ", at)].replace("_", " ")
        head = b"HTTP/1.0 %d %s\r\nContent-Type: %s\r\n" % (status, reason.encode(), kind.encode())
        await self.send(head + more + _SAFE + b"\r\n")

    async def send(self, data):
        """Send bytes, as fast as the client takes them."""
        view = memoryview(data)
        at = 0
        while at < len(data):
            try:
                n = self._client.send(view[at : at + _PIECE])
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise Refused(0)
                n = 0
            at += n or 0
            if n:
                await asyncio.sleep_ms(0)
            else:
                await self._wait()

    def close(self):
        """The answer is whole: the client hears so before whoever serves it has ended."""
        self._client.close()

    async def refuse(self, refusal):
        """Answer with what was refused, and take what the client still says: else it would never read the answer."""
        await self.begin(refusal.status, TEXT, b"Retry-After: %d\r\n" % refusal.wait_s if refusal.wait_s else b"")
        await self.send((refusal.words or "refused").encode() + b"\n")
        self._began = time.ticks_ms()
        self._limit_ms = _LEFT_MS
        left = self._left
        if left is None:  # a body was not asked for yet: nobody knows whether it will come whole
            left = min(_length(self.headers.get("content-length", "0")), _MOST_LEFT) - len(self._data)
        while left > 0:
            left -= len(await self._receive())


def _length(text):
    """The number of bytes that a header tells, below 0 where it tells none."""
    return int(text) if text.isdigit() and len(text) <= 8 else -1


async def serve(owner, admit, client):
    """Answer the client's one request by `await admit(owner, exchange)`, or with what that refused, which is counted in
    `owner.refused`. Raises OSError or MemoryError where that cannot be."""
    exchange = Exchange(client)
    try:
        try:
            await exchange.read_head()
            await admit(owner, exchange)
        except MemoryError:
            gc.collect()
            raise Refused(503, "memory has run out, try again", 10)
    except Refused as refusal:
        owner.refused += 1
        if refusal.status and not exchange.status:
            try:
                await exchange.refuse(refusal)
            except Refused:
                pass
