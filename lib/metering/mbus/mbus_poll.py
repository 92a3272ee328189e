"""Asking a heat, water or gas meter over M-Bus through its optical eye (EN 13757-2:2018, 5; EN 13757-3:2018, 11.5).

    55 55 ...        -->          8N1, 2.2 s, then a pause: wakes the eye of some (`wake_up`)
    10 40 A CS 16    -->          SND_NKE at 8E1; or 68 ... 53 FD 52 number ... selects one by its number
                     <--   E5
    10 7B A CS 16    -->          REQ_UD2
                     <--   68 ... the answer, see metering.mbus.meter_reply
    10 7B A CS 16    -->          the same frame count bit: the same answer again, to be held against the first
    10 5B A CS 16    -->          the other one: the next telegram, where the last one said that there is more
    68 ... 53 A 50 CS 16 -->      an application reset, once, where the first answer is an error

Such meters live on a battery, and many count how often they are read: one read-out an hour, unless the owner wants
more, and one every six hours where nothing answers. Reading only: no data is ever sent but a meter's own number.
"""

from metering.asked_seldom import AskedSeldom
from metering.compat import const
from metering.line import ANSWER_BYTES, EXPECT, LISTEN, SEND, SWITCH, WAIT, Line
from metering.listener import REJECTED, TELEGRAM

_ACK_MS = const(600)
_ANSWER_MS = const(1500)  # 330 bits and 50 ms by the standard; meters have been seen to take a second
_GAP_MS = const(250)
_BETWEEN_MS = const(1000)  # two telegrams: of each topic the newest message alone waits for the network
_ATTEMPTS = const(3)
_MOST_TELEGRAMS = const(8)
_WAKE_MS = const(2200)
_WAKE_PAUSE_MS = const(350)
_WAKE_BYTES = b"\x55" * 60

_ACK = const(0xE5)
_NKE = const(0x40)
_REQUEST = const(0x5B)
_COUNT_BIT = const(0x20)
_ANYBODY = const(254)
_SELECTED = const(253)
_MOST_PRIMARY = const(250)
_NUMBER_DIGITS = const(8)
_SELECT = const(0x52)
_RESET = const(0x50)

_CANNOT_READ = ("encrypted", "error of the meter", "key wrong", "another meter")
_WITH_DETAIL = ("error of the meter", "another meter")
_REASONS = ("no answer", "no identification", "bad data") + _CANNOT_READ + ("password refused",)
_SENTENCES = (
    "the meter does not answer: hold the head over its eye; some want a wake-up, a key pressed on the meter, "
    "or their number (meter address)",
    "the meter answers, but nothing that is M-Bus: move the head, keep light away",
    "the meter's answers came damaged, or changed from one to the next: move the head, keep light away",
    "the meter encrypts what it tells over its eye: enter the key that its operator gives out as meter_key",
    "the meter answers with an error: it may have been read too often today",
    "what the meter encrypts is not opened by meter_key: enter the key that its operator gives out",
    "another meter answers than the one that meter address names: compare it with what is printed on the meter",
)
_WRONG_ADDRESS = "the meter address of an M-Bus meter is 1 to 250, or its number of eight digits: correct the setting"


def _short(control, address):
    return bytes((0x10, control, address, (control + address) & 0xFF, 0x16))


def _selection(number):
    """The frame that selects the meter whose number is the text `number`; F stands for any digit."""
    body = bytearray()
    for i in range(6, -1, -2):
        body.append(int(number[i : i + 2], 16))
    body.extend(b"\xff\xff\xff\xff")  # any maker, version and medium
    return _long(_SELECTED, _SELECT, body)


def _long(address, ci, data):
    """SND_UD: of the two that are known here neither changes what a meter counts or keeps."""
    body = bytearray((0x53, address, ci))
    body.extend(data)
    frame = bytearray((0x68, len(body), len(body), 0x68))
    frame.extend(body)
    frame.append(sum(body) & 0xFF)
    frame.append(0x16)
    return bytes(frame)


def _ack(buffer, n):
    """For metering.line.EXPECT: up to the acknowledge."""
    for i in range(n):
        if buffer[i] == _ACK:
            return i + 1
    return 0


def _reply(buffer, n):
    """For EXPECT: up to the end of a long frame, or as much of it as one answer holds."""
    for i in range(n - 3):
        if buffer[i] == 0x68 and buffer[i + 3] == 0x68 and buffer[i + 1] == buffer[i + 2]:
            end = min(i + buffer[i + 1] + 6, ANSWER_BYTES)
            return end if n >= end else 0
    return 0


class Conversation(AskedSeldom):
    """Asks one meter, for a driver of line actions (metering.line): see metering.protocols for what it tells.

    `address` 1 to 250, the eight digits of the meter's number (F for any digit), or "" for whichever it is; `wake_up`
    True for eyes that sleep; `interval_s` between read-outs, 0: an hour.
    """

    NAME = "mbus"
    REASONS = _REASONS
    SENTENCES = _SENTENCES

    def __init__(self, listener, address="", password="", wake_up=False, interval_s=0):
        AskedSeldom.__init__(self, listener, interval_s)
        self._wake_up = wake_up
        self._select = b""
        self._address = -1
        if not address:
            self._address = _ANYBODY
        elif len(address) == _NUMBER_DIGITS and not address.strip("0123456789fF"):
            self._select = _selection(address)
            self._address = _SELECTED
            listener.asked_number = address
        elif not address.strip("0123456789") and 0 < int(address) <= _MOST_PRIMARY:
            self._address = listener.asked_address = int(address)
        listener.vouched = listener.sealed = True  # each answer comes twice

    def read_out(self, answer=b""):
        """Generator of line actions: one attempt. Returns True when every telegram of the meter came."""
        listener = self._listener
        listener.abandon()
        self.answers = False
        if self._address < 0:
            self._failed("no answer")
            self.explanation = _WRONG_ADDRESS
            return False
        lines = (listener.line,) if listener.line else listener.LINES
        for _ in lines:
            yield from self._greet(lines[self._line % len(lines)])
            if self.answers:
                break
            self._line += 1
        control = _REQUEST | _COUNT_BIT
        for n in range(_MOST_TELEGRAMS):
            reason = yield from self._take_twice(_short(control, self._address))
            if reason == "error of the meter" and not n:
                yield SEND, _long(self._address, _RESET, b"")
                yield EXPECT, _ack, _ACK_MS, _GAP_MS
                reason = yield from self._take_twice(_short(control, self._address))
            if reason:
                self._failed(reason)
                if reason in _WITH_DETAIL:
                    self.explanation += " (%s)" % listener.detail
                return False
            if not listener.more:
                break
            control ^= _COUNT_BIT
            yield WAIT, _BETWEEN_MS
        self.explanation = ""
        return True

    def _greet(self, line):
        """On `line`; `answers` is set where anything comes back."""
        if self._wake_up:
            yield from self._wake(line)
        yield SWITCH, line
        for _ in range(_ATTEMPTS):
            yield SEND, self._select or _short(_NKE, self._address)
            heard = yield EXPECT, _ack, _ACK_MS, _GAP_MS
            self.answers = self.answers or bool(heard)
            if _ack(heard, len(heard)):
                return

    def _wake(self, line):
        yield SWITCH, Line(line.baud, 8, None, 1, line.invert)
        left = line.baud * _WAKE_MS // 10000  # bytes of ten bits
        while left > 0:
            yield SEND, _WAKE_BYTES[:left] if left < len(_WAKE_BYTES) else _WAKE_BYTES
            left -= len(_WAKE_BYTES)
        yield WAIT, _WAKE_PAUSE_MS

    def _take_twice(self, request):
        """ "" when an answer came twice and was told, else the reason why not."""
        listener = self._listener
        reason = ""
        for _ in range(_ATTEMPTS):
            listener.hold()
            for _ in range(2):
                accepted = listener.accepted
                yield SEND, request
                event = REJECTED
                for complete in (_reply, None):  # by EXPECT, as light that never ends is over for it, too
                    heard = yield EXPECT, complete, _ANSWER_MS if complete else _GAP_MS, _GAP_MS
                    listener.feed(heard, 0, len(heard))
                    event = yield LISTEN, listener, 0, 0
                    while event == REJECTED:
                        reason = listener.reason
                        event = yield LISTEN, listener, 0, 0
                    if len(heard) < ANSWER_BYTES:
                        break
                if event == TELEGRAM or listener.accepted != accepted:
                    self.answers = True
                    return ""
                if not listener.holds:
                    break
                self.answers = True
        listener.abandon()
        if reason in _CANNOT_READ:
            self.answers = True
            return reason
        if reason:
            return "bad data"
        return "no identification" if self.answers else "no answer"


CONVERSATION = Conversation
