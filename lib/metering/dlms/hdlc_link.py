"""A link to one meter as line actions: asks it in HDLC, and gathers what it answers. Window 1, segments both ways.

nothing came, or came damaged    RR asks for it again; then what we have said is sent again, whose number tells
                                 whether the meter has had it. In turns, `retries` times
a frame twice, an old one        not the number that is due: heard past
another station's, our own       heard past
"""

from metering.compat import const
from metering.dlms.axdr import Malformed
from metering.dlms.hdlc import Frame
from metering.dlms.hdlc_station import (
    ANSWER_LLC,
    DISC,
    DM,
    INFORMATION,
    MAX_INFORMATION,
    READY,
    REQUEST_LLC,
    SNRM,
    UA,
    Header,
    agreed_sizes,
    frame,
    information_control,
    ready_control,
)
from metering.line import EXPECT, MAX_SENT, SEND

MAX_APDU = const(512)  # what a meter is told that we take
REJECTED_FRAME = const(0x97)  # FRMR: the meter has lost the thread
_GAP_MS = const(500)  # between two characters of a frame; the norm has 25, adapters and busy chips more
_MOST_FRAMES = const(8)  # heard for one that is due
_MOST_SEGMENTS = const(64)
_FRAME_BYTES = const(14)  # of a frame, beside its information, with addresses of 4 and 1 bytes
_FLAG = b"\x7e"


def frame_end(buffer, n):
    """How many bytes up to the end of the first frame, 0: not there yet. For EXPECT; checks nothing."""
    i = 0
    while True:
        while i < n and buffer[i] != 0x7E:
            i += 1
        if n - i < 3:
            return 0
        if buffer[i + 1] & 0xF0 == 0xA0:
            end = i + 2 + ((buffer[i + 1] & 0x07) << 8 | buffer[i + 2])
            return end if end <= n else 0
        i += 1


class HdlcLink:
    """`meter` and `client` are addresses as they are sent. `apdu[:n]` is what was answered last; `is_up`: the meter may
    wait for more. `why`: what has failed, "" where nothing came. `cipher`: None, or a metering.dlms.own_cipher's.
    """

    PUBLIC = b"\x21"  # client 16

    def __init__(self, meter, client, timeout_ms, retries):
        self._meter = meter
        self.client = client
        self.cipher = None
        self._timeout_ms = timeout_ms
        self._retries = retries
        self._frame = Frame()
        self._header = Header()
        self._most_taken = MAX_INFORMATION
        self._sent = self._due = 0
        self._heard = b""  # the frame that was due
        self.apdu = bytearray(MAX_APDU + 3)
        self.n = 0
        self.is_up = False
        self.why = ""

    def _frame_of(self, control, information=b"", more=False):
        return frame(self._meter, self.client, control, information, more)

    def farewell(self):
        """The frame that ends the link."""
        return self._frame_of(DISC)

    def connect(self):
        """Generator of line actions: is the link up?"""
        self._sent = self._due = 0
        self._most_taken = MAX_INFORMATION
        self.why = ""
        self.is_up = True  # from the first question on the meter may think so
        kind = yield from self._ask(self._frame_of(SNRM), (UA, DM))
        if kind == UA:
            try:
                taken = agreed_sizes(self._heard, self._frame.info_at, self._frame.info_end)[1]
                self._most_taken = min(taken, MAX_SENT - _FRAME_BYTES)
            except Malformed as error:
                self.why = str(error)
                return False
            return True
        if kind == DM:
            self.why = "it refuses the link"
        return False

    def disconnect(self):
        """Generator of line actions: the meter is let go, whatever state it is in."""
        if self.is_up:
            self.is_up = False
            yield from self._ask(self._frame_of(DISC), (UA, DM))

    def _ask(self, message, wanted):
        for _ in range(self._retries + 1):
            yield SEND, message
            kind = yield from self._hear(-1)
            if kind in wanted:
                return kind
        return 0

    def request(self, apdu):
        """Generator of line actions: says `apdu`, and gathers the answer; True: it is in apdu[:n]."""
        if self.cipher:
            apdu = self.cipher.seal(apdu, self)
            if not apdu:
                return False
        data = REQUEST_LLC + apdu
        at = 0
        while True:
            piece = data[at : at + self._most_taken]
            at += len(piece)
            more = at < len(data)
            ack = (self._sent + 1) & 7
            message = self._frame_of(information_control(self._sent, self._due), piece, more)
            kind = yield from self._pull(message, ack, more)
            if kind not in (INFORMATION, READY):
                return False
            self._sent = ack
            if not more:
                break
        return (yield from self._gather())

    def _gather(self):
        self.n = 0
        for _ in range(_MOST_SEGMENTS):
            at, end = self._frame.info_at, self._frame.info_end
            if self.n + end - at > len(self.apdu):
                self.why = "it sends more than was agreed"
                return False
            self.apdu[self.n : self.n + end - at] = self._heard[at:end]
            self.n += end - at
            self._due = (self._due + 1) & 7
            if not self._frame.more:
                break
            kind = yield from self._pull(self._frame_of(ready_control(self._due)), self._sent, False)
            if kind != INFORMATION:
                return False
        else:
            self.why = "its answer has no end"
            return False
        if self.n <= len(ANSWER_LLC) or self.apdu[: len(ANSWER_LLC)] != ANSWER_LLC:
            self.why = "its answer is no DLMS"
            return False
        return self.cipher is None or self.cipher.open(self)

    def _pull(self, message, ack, is_segment):
        """Say `message` until what is due has come: a segment, or where `is_segment` that ours has been taken (`ack`).
        Its kind, 0 for nothing."""
        said = message
        poll = None
        for _ in range(2 * self._retries + 1):
            yield SEND, said
            kind = yield from self._hear(ack)
            if kind == INFORMATION and not is_segment:
                return kind
            has_it = kind == READY and self._header.due == ack
            if has_it and is_segment:
                return kind
            if kind in (DM, REJECTED_FRAME):
                self.is_up = kind != DM
                self.why = "it has ended the link"
                return 0
            poll = poll or self._frame_of(ready_control(self._due))
            said = poll if has_it or kind != READY and said is message else message
        return 0

    def _hear(self, ack):
        """The kind of the next frame for us that may be an answer, 0 where none comes or one is damaged."""
        found, header = self._frame, self._header
        for _ in range(_MOST_FRAMES):
            heard = yield EXPECT, frame_end, self._timeout_ms, _GAP_MS
            if not heard:
                return 0
            at = heard.find(_FLAG)
            view = memoryview(heard)
            while at >= 0:
                if found.find(heard, view, at, len(heard)) > 0:
                    break
                at = heard.find(_FLAG, at + 1)
            if at < 0:
                break
            header.take(heard, at)
            if header.destination != self.client or header.source != self._meter:
                continue
            if header.kind == INFORMATION and (header.sent != self._due or header.due != ack):
                continue
            self._heard = heard
            self.why = ""
            return header.kind
        self.why = self.why or "its answers come damaged"
        return 0
