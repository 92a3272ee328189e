"""Knocks: who is there that neither pushes nor answers a sign-on? Part of metering.detection.search_story, loaded for
a moment behind its questions.

    1200 8N2   80 3F 01 CRC 0D            its type, by KMP          40 3F 01 type CRC 0D, with the right CRC
    2400 8E1   10 40 FE 3E 16             SND_NKE of M-Bus          E5, and to a REQ_UD2 then a frame whose sum holds
    9600 8N1   7E A0 07 03 21 93 FCS 7E   SNRM, client 16 to 1 or   UA, with the right FCS
                                          as in the settings
    300 7E1    the sign-on again          where an identification offers mode E (\\2) and no data block came: DLMS by it

A knock takes less than a second and holds no password. Whoever answers is read by its own conversation, and that alone
is a proof; but for a DLMS meter whose owner has set a password: it is left for who reads it then.
"""

from metering.compat import const
from metering.detection.candidates import Proven, line_words
from metering.detection.questions import in_polarity
from metering.line import ANSWER_BYTES, EXPECT, SEND, SWITCH, WAIT, Line

# A row a knock: the protocol's name, rate, parity, stop bits, what is sent (of DLMS: hdlc_station says). Those of
# battery meters come first.
_ROWS = (
    ("kmp", 1200, None, 2, b"\x80\x3f\x01\x05\x8a\x0d"),
    ("mbus", 2400, "E", 1, b"\x10\x40\xfe\x3e\x16"),
    ("dlms-client", 9600, None, 1, b""),
)
_ON_BATTERY = const(2)  # so many of them
_REQUEST = b"\x10\x7b\xfe\x79\x16"
_ANSWER_MS = const(550)
_FRAME_MS = const(1200)  # meters have been seen to take a second
_GAP_MS = const(120)
_ACK = const(0xE5)
_LEAST_FRAME = const(9)

_READ_OUTS = const(2)
_MODE_E_READ_OUTS = const(4)
_MODE_E_REST_MS = const(4000)  # of a meter that waits for the other side of mode C, and is deaf for a sign-on
_ASKED_DLMS = "dlms-client"
_ADVICE = "it answers in DLMS, but %s. Your network operator gives client and password (meter_options, meter_password)"


def ask_others(detection, idle_lit):
    """Generator of line actions: knocks, and reads who answers; returns how many knocks were not answered. `detection`
    as in metering.detection.questions.ask().
    """
    asking = detection.asking
    is_awake = asking.is_awake()
    if is_awake:  # once a day
        asking.verdict = ""
    n = 0
    if not asking.offers_mode_e:
        n = yield from _knock_at_all(detection, idle_lit, is_awake)
    elif not asking.verdict:
        for _ in range(_MODE_E_READ_OUTS):
            yield WAIT, _MODE_E_REST_MS
            if (yield from _read_out(detection, idle_lit, _ASKED_DLMS, None, "mode=IEC")):
                break
    if asking.verdict and detection.proven is None:
        detection.say(asking.verdict)
    return n


def _knock_at_all(detection, idle_lit, is_awake):
    asking = detection.asking
    n = 0
    for name, baud, parity, stop, data in _ROWS[0 if is_awake else _ON_BATTERY :]:
        if asking.verdict and name == _ASKED_DLMS:
            continue
        detection.unload()
        line = Line(baud, 8, parity, stop)
        detection.line = Line(baud, 8, parity, stop, idle_lit)
        if asking.wake_up and name == "mbus":  # its conversation knows how
            is_there = True
        else:
            is_there = yield from in_polarity(_knock(name, line, data, asking), idle_lit, None)
        if is_there and (yield from _read_out(detection, idle_lit, name, line)):
            break
        n += 1
    return n


def _knock(name, line, data, asking):
    """Generator of line actions: is there an answer of protocol `name` to `data`, and does its check hold?"""
    yield SWITCH, line
    if name == _ASKED_DLMS:
        return (yield from _knock_by_hdlc(asking))
    yield SEND, data
    if name == "mbus":
        answer = yield EXPECT, _ack_end, _ANSWER_MS, _GAP_MS
        if not _ack_end(answer, len(answer)):
            return False
        yield SEND, _REQUEST
        answer = yield EXPECT, _never, _FRAME_MS, _GAP_MS
        return _has_frame(answer)
    from metering.kmp import kmp_frame

    answer = yield EXPECT, kmp_frame.answer_end, _ANSWER_MS, _GAP_MS
    at = answer.find(b"\x40")
    plain = kmp_frame.unstuffed(answer, at + 1, len(answer) - 1)
    return at >= 0 and plain[:2] == data[1:3] and len(plain) > 4 and not kmp_frame.crc16_xmodem(plain)


def _knock_by_hdlc(asking):
    """SNRM to the meter and from the client that the settings name."""
    from metering.dlms.client_options import Options
    from metering.dlms.hdlc import Frame
    from metering.dlms.hdlc_station import SNRM, UA, Header, frame

    try:
        meter, client = Options(asking.options).addresses(asking.has_password)
    except ValueError:  # who asks then says what is wrong
        meter, client = Options("").addresses(asking.has_password)
    yield SEND, frame(meter, client, SNRM)
    answer = yield EXPECT, _never, _ANSWER_MS, _GAP_MS
    found, header, view = Frame(), Header(), memoryview(answer)
    at = answer.find(b"\x7e")
    while at >= 0:
        if found.find(answer, view, at, len(answer)) > 0:
            header.take(answer, at)
            if header.kind == UA and header.destination == client and header.source == meter:
                return True
        at = answer.find(b"\x7e", at + 1)
    return False


def _never(buffer, n):
    """For EXPECT: until there is a silence."""
    return 0


def _ack_end(buffer, n):
    """For EXPECT: behind an acknowledge."""
    for i in range(n):
        if buffer[i] == _ACK:
            return i + 1
    return 0


def _has_frame(answer):
    """Is there a long frame in it whose sum holds, as far as one answer can hold it?"""
    at = answer.find(b"\x68")
    while 0 <= at <= len(answer) - _LEAST_FRAME:
        end = at + 4 + answer[at + 1]
        if answer[at + 3] == 0x68 and answer[at + 1] == answer[at + 2] and answer[at + 1] > 2:
            if end + 2 > len(answer):
                return len(answer) == ANSWER_BYTES
            if sum(answer[at + 4 : end]) & 0xFF == answer[end] and answer[end + 1] == 0x16:
                return True
        at = answer.find(b"\x68", at + 1)
    return False


def _read_out(detection, idle_lit, name, line, options=""):
    """Generator of line actions: what the conversation of protocol `name` reads, on `line` if not None. Is it proven,
    or told why not?"""
    detection.say("asking by %s" % name.upper())
    listener, conversation = detection.load(name, True)
    listener.line = line
    is_dlms = name == _ASKED_DLMS
    if is_dlms:
        conversation.password_withheld = True
        if options:
            conversation.take_options((detection.asking.options + " " + options).strip())
    for _ in range(1 if is_dlms else _READ_OUTS):
        conversation.answers = False
        actions = conversation.read_out()
        has_read = yield from in_polarity(actions, idle_lit, detection if line is None else None)
        if has_read or is_dlms and conversation.answers and not conversation.failures:  # else it wants the password
            conversation.password_withheld = False
            detection.say("answers when asked: %s, %s" % (line_words(detection.line), name.upper()))
            if not has_read:
                detection.listener = None
            detection.prove(Proven(name, detection.line), has_read)
            return True
        if not conversation.answers:
            return False
    detection.asking.verdict = _ADVICE % conversation.explanation if is_dlms else conversation.explanation
    return True
