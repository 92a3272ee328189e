"""`optoprobe decode` of a recorded conversation with a DLMS meter, told by a meter made of our own encoders.

Any transcript: readings that the meter has sent, or counted rejections; never another value, never an exception.
"""

import json
import random

import pytest

from metering.dlms import association, hdlc_station, xdlms, xdlms_read
from optoprobe import Rejected, Telegram, cli, sessions, transcript
from optoprobe.virtual import dlms_encoder as enc

KEY, AUTH_KEY = bytes(range(16)), bytes(range(16, 32))
TITLE, CLIENT_TITLE = b"OPT\0\0\0\0\1", b"CLI\0\0\0\0\2"
METER, CLIENT = hdlc_station.server_address(1, 17), hdlc_station.client_address(16)
ENERGY, POWER, NUMBER, CLOCK = (
    enc.obis_bytes(c + "*255") for c in ("1-0:1.8.0", "1-0:16.7.0", "0-0:96.1.0", "0-0:1.0.0")
)
ENERGY_ROW, POWER_ROW = ("1-0:1.8.0*255", "1234567.89", "Wh"), ("1-0:16.7.0*255", "-301", "W")
NUMBER_ROW = ("0-0:96.1.0*255", b"77310099".hex(), None)
SIZES = bytes.fromhex("8180060501800601f0")


def scale(scaler, unit):
    return enc.structure([enc.number(enc.INT8, scaler), enc.enum(unit)])


OBJECTS = {
    (3, ENERGY, 2): enc.number(enc.UINT32, 123456789),
    (3, ENERGY, 3): scale(-2, 30),
    (3, POWER, 2): enc.number(enc.INT32, -301),
    (3, POWER, 3): scale(0, 27),
    (1, NUMBER, 2): enc.octets(b"77310099"),
    (8, CLOCK, 2): enc.octets(bytes.fromhex("07ea0b1c060c1e0000ffc400")),
}


def result_of(item):
    return b"\0" + OBJECTS[item] if item in OBJECTS else b"\1\4"


class Wire:
    """Takes APDUs of both sides down as a transcript: HDLC frames in `segment` bytes of information, or the wrapper."""

    def __init__(self, segment=0, is_wrapper=False):
        self.lines = []
        self.segment = segment
        self.is_wrapper = is_wrapper
        self.sent = {True: 0, False: 0}
        if not is_wrapper:
            self.put(True, hdlc_station.frame(METER, CLIENT, hdlc_station.SNRM))
            self.put(False, hdlc_station.frame(CLIENT, METER, hdlc_station.UA, SIZES))

    def put(self, to_meter, data):
        self.lines.append((to_meter, data))

    def say(self, to_meter, apdu):
        if self.is_wrapper:
            self.put(to_meter, enc.wrapper(apdu, *((16, 1) if to_meter else (1, 16))))
            return
        whole = (hdlc_station.REQUEST_LLC if to_meter else hdlc_station.ANSWER_LLC) + apdu
        n = self.segment or len(whole)
        pieces = [whole[at : at + n] for at in range(0, len(whole), n)]
        to, by = (METER, CLIENT) if to_meter else (CLIENT, METER)
        for k, piece in enumerate(pieces):
            if k:
                ready = hdlc_station.ready_control(self.sent[to_meter])
                self.put(not to_meter, hdlc_station.frame(by, to, ready))
            control = hdlc_station.information_control(self.sent[to_meter], self.sent[not to_meter])
            self.put(to_meter, hdlc_station.frame(to, by, control, piece, k < len(pieces) - 1))
            self.sent[to_meter] = (self.sent[to_meter] + 1) % 8

    def ask(self, request, *answers):
        self.say(True, request)
        for answer in answers:
            self.say(False, answer)

    def associate(self, context=association.LN, result=0, diagnostic=0):
        self.ask(association.request(context), accept(context, result, diagnostic))

    def get(self, *items):
        for item in items:
            self.ask(xdlms.get(0xC1, *item), b"\xc4\x01\xc1" + result_of(item))

    def leave(self):
        self.put(True, hdlc_station.frame(METER, CLIENT, hdlc_station.DISC))
        self.put(False, hdlc_station.frame(CLIENT, METER, hdlc_station.UA))

    def bursts(self):
        return [transcript.Burst(*line) for line in self.lines]

    def text(self):
        return "# a session\n" + "".join(f"{'>' if to_meter else '<'} {data.hex()}\n" for to_meter, data in self.lines)

    def events(self, *keys, **options):
        return list(sessions.reader("dlms")(self.bursts(), *keys, **options))


def accept(context=association.LN, result=0, diagnostic=0):
    body = b"\xa1\x09\x06\x07\x60\x85\x74\x05\x08\x01" + bytes((context,)) + b"\xa2\x03\x02\x01" + bytes((result,))
    body += b"\xa3\x05\xa1\x03\x02\x01" + bytes((diagnostic,))
    body += b"\xbe\x10\x04\x0e\x08\x00\x06\x5f\x1f\x04\x00\x00\x12\x14\x01\xf4\x00\x07"
    return bytes((0x61, len(body))) + body


def household(segment=0, is_wrapper=False):
    wire = Wire(segment, is_wrapper)
    wire.associate()
    wire.get(*OBJECTS)
    return wire


def rows(events):
    return [(r.obis, r.value, r.unit) for event in events if isinstance(event, Telegram) for r in event.readings]


def reasons(events):
    return [(event.reason, event.detail) for event in events if isinstance(event, Rejected)]


@pytest.mark.parametrize("segment", [0, 7, 1])
@pytest.mark.parametrize("is_wrapper", [False, True])
def test_a_session_gives_its_readings_scaled_by_what_it_says(segment, is_wrapper):
    events = household(segment, is_wrapper).events()
    assert rows(events) == [ENERGY_ROW, POWER_ROW, NUMBER_ROW] and len(events) == 1
    assert (events[0].meter_id, events[0].timestamp) == ("77310099", "2026-11-28T11:30:00Z")
    assert events[0].checked == (not is_wrapper)


def test_each_association_is_a_telegram_and_a_count_without_a_scale_is_no_reading():
    wire = Wire()
    wire.associate()
    wire.get((3, ENERGY, 3), (3, ENERGY, 2))
    wire.leave()
    wire.lines += Wire().lines
    wire.sent = {True: 0, False: 0}
    wire.associate()
    wire.get((3, ENERGY, 2))
    events = wire.events()
    assert rows(events) == [ENERGY_ROW] and len(events) == 2
    assert reasons(events) == [("no scale", "1-0:1.8.0*255: 123456789, the session says no scale of it")]


FORMS = {
    "spaces": ("> {}", "< {}", " "),
    "dashes": (">{}", "<{}", "-"),
    "0x": ("  > 0x{}", "  < 0x{}", ", 0x"),
    "colons, a time before": ("12:00:01.123 > {}", "12:00:01.340 < {}", ":"),
    "a time behind": ("TX: 15:04:58\t{}", "RX: 15:04:59\t{}", " "),
    "a component": ("[15:04:58][D][meter:030]: TX: {}", "[15:04:59][D][meter:031]: RX: {}", "."),
    "words": ("16.41.34 04.41.34.417\tSent\t{}", "16.41.34 04.41.34.432\tReceived\t{}", " "),
    "doubled": (">> {}", "<< {}", " "),
    "arrows": ("11-06-2020 18:37:40.897  HDLC -> {}", "11-06-2020 18:37:41.147  HDLC <- {}", " "),
    "a serial port's log": ("[11:40:01][D][uart:114]: >>> {}", "[11:40:02][D][uart:114]: <<< {} (33)", ":"),
    "0x and colons": ("TX 0x{}", "RX 0x{}", ":0x"),
    "names": ("TX GetRequest : {}", "RX UA: {}", " "),
    "marks alone": ("Tx - \n{} ( +  220 ms)", "Rx - \n{} ( +  306 ms)", " "),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_programs_log_is_a_session(form):
    sent, received, between = FORMS[form]
    lines = []
    for to_meter, data in household().lines:
        digits = (b"\x7e\x7e" + data + b"\x7e").hex(between[0]).upper().replace(between[0], between)
        lines.append((sent if to_meter else received).format(digits))
    text = "\ufeff# a log\r\n" + "\r\n".join(lines)
    assert transcript.is_transcript(text.encode())
    events = list(sessions.reader("dlms")(transcript.parse(text.encode())))
    assert rows(events) == [ENERGY_ROW, POWER_ROW, NUMBER_ROW] and not reasons(events)


def events_of(text):
    assert transcript.is_transcript(text.encode())
    return list(sessions.reader("dlms")(transcript.parse(text.encode())))


@pytest.mark.parametrize("is_wrapper", [False, True])
def test_words_between_the_lines_of_a_log_change_nothing(is_wrapper):
    lines = [f"{'TX' if to_meter else 'RX'}: {data.hex()}" for to_meter, data in household(0, is_wrapper).lines]
    events = events_of("Opened COM5, 9600 8N1\n" + "\nReading data of the meter: wait ...\n".join(lines))
    assert rows(events) == [ENERGY_ROW, POWER_ROW, NUMBER_ROW]
    assert {reason for reason, _ in reasons(events)} == {"transcript"}
    assert not transcript.is_transcript(b"Opened COM5\n< 7ea007032353b3f47e\n< 7ea007032353b3f47e\n")


@pytest.mark.parametrize("is_wrapper", [False, True])
def test_a_frame_may_go_on_in_lines_without_a_mark(is_wrapper):
    lines = []
    for to_meter, data in household(0, is_wrapper).lines:
        digits = data.hex(" ")
        pieces = [digits[at : at + 24] for at in range(0, len(digits), 24)]
        lines.append(("> " if to_meter else "< ") + "\n    ".join(pieces))
    events = events_of("\n".join(lines))
    assert rows(events) == [ENERGY_ROW, POWER_ROW, NUMBER_ROW] and not reasons(events)


def test_a_question_without_a_mark_is_not_answered_by_what_follows():
    """The answer to the first is lost, and the second question's mark: by itself nothing tells what is answered."""
    wire = Wire(is_wrapper=True)
    wire.associate()
    wire.get((3, POWER, 3), (3, ENERGY, 3))
    begun = len(wire.lines)
    wire.get((3, POWER, 2), (3, ENERGY, 2))
    lines = wire.text().splitlines()[1:]
    lines[begun + 1 : begun + 3] = [lines[begun + 2].removeprefix("> ")]
    assert rows(events_of("\n".join(lines))) == []


@pytest.mark.parametrize("size", [1, 9, 200])
def test_several_in_one_answer_come_in_blocks_too(size):
    items = [(3, ENERGY, 2), (3, POWER, 9), (3, ENERGY, 3)]
    data = b"\3" + b"".join(result_of(item) for item in items)
    wire = Wire()
    wire.associate()
    get_list = bytes((xdlms.GET_REQUEST, xdlms.LIST, 0xC1, len(items))) + b"".join(xdlms.item(*each) for each in items)
    wire.ask(get_list, b"\xc4\x03\xc1" + data)
    wire.say(True, get_list)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    for k, piece in enumerate(pieces, 1):
        last = bytes((k == len(pieces),))
        wire.say(False, b"\xc4\x02\xc1" + last + k.to_bytes(4, "big") + b"\0" + enc.ber_length(len(piece)) + piece)
        if k < len(pieces):
            wire.say(True, xdlms.get_next(0xC1, k))
    events = wire.events()
    assert rows(events) == [ENERGY_ROW, ENERGY_ROW]
    assert reasons(events) == [("refused", "1-0:16.7.0*255 attribute 9: object undefined")] * 2


def test_short_names_are_those_of_the_object_list_or_of_the_call():
    listed = b"\x01\x01" + enc.structure(
        [enc.number(enc.INT16, 0x200), enc.number(enc.UINT16, 3), enc.number(enc.UINT8, 0), enc.octets(ENERGY)]
    )
    value, its_scale = OBJECTS[3, ENERGY, 2], OBJECTS[3, ENERGY, 3]
    wire = Wire()
    wire.associate(association.SN)
    wire.ask(xdlms_read.read([0x208, 0x210]), b"\x0c\x02\x00" + value + b"\x00" + its_scale)
    events = wire.events()
    assert rows(events) == [ENERGY_ROW] and events[0].readings[0].name == "short name 520, taken for the total"
    assert rows(wire.events(short_names={0x400: POWER})) == [("short name 520", "1234567.89", "Wh")]
    events = wire.events(short_names={0x200: ENERGY})
    assert rows(events) == [ENERGY_ROW] and "taken" not in events[0].readings[0].name
    first, second = listed[:9], listed[9:]
    wire.ask(xdlms_read.read([0xFA08]), b"\x0c\x01\x02\x00\x00\x01" + bytes((len(first) + 2,)) + b"\x01\x00" + first)
    wire.ask(xdlms_read.read_next(1), b"\x0c\x01\x02\x01\x00\x02" + bytes((len(second),)) + second)
    assert rows(wire.events()) == [ENERGY_ROW]
    assert reasons(wire.events()) == []


def test_of_two_energies_by_short_names_none_is_taken_for_the_total():
    value, its_scale = OBJECTS[3, ENERGY, 2], OBJECTS[3, ENERGY, 3]
    wire = Wire()
    wire.associate(association.SN)
    for base in (0x200, 0x300):
        wire.ask(xdlms_read.read([base + 8, base + 16]), b"\x0c\x02\x00" + value + b"\x00" + its_scale)
    assert [row[0] for row in rows(wire.events())] == ["short name 520", "short name 776"]


@pytest.mark.parametrize("has_own_key", [False, True])
@pytest.mark.parametrize("is_general", [False, True])
def test_a_ciphered_session_is_read_with_its_keys_only(is_general, has_own_key):
    wire = Wire(is_wrapper=True)
    counter = 5

    own_key = bytes(range(40, 56)) if has_own_key else b""

    def ciphered(to_meter, apdu, key=KEY):
        nonlocal counter
        counter += 1
        return enc.protect(apdu, 0x30, key, AUTH_KEY, CLIENT_TITLE if to_meter else TITLE, counter)

    def say(to_meter, apdu, tag):
        protected = ciphered(to_meter, apdu, own_key or KEY)
        if is_general:
            general = enc.GENERAL_DED if own_key else enc.GENERAL_GLO
            wire.say(to_meter, enc.general_ciphering(protected, CLIENT_TITLE if to_meter else TITLE, tag=general))
        else:
            wire.say(to_meter, enc.service_ciphering(protected, tag + 8 * has_own_key))

    initiate = association.initiate(association.LN, 5, 0xFFFF, own_key)
    wanted = enc.service_ciphering(ciphered(True, initiate), 0x21)
    asked = association.request(3, 5, bytes(8), title=CLIENT_TITLE, wanted=wanted)
    given = bytearray(accept())
    given[25:25] = bytes((0xA4, 10, 4, 8)) + TITLE
    given[1] += 12
    wire.ask(asked, bytes(given))
    for item in OBJECTS:
        say(True, xdlms.get(0xC1, *item), 0xC8)
        say(False, b"\xc4\x01\xc1" + result_of(item), 0xCC)
    events = wire.events(KEY, AUTH_KEY)
    assert rows(events) == [ENERGY_ROW, POWER_ROW, NUMBER_ROW] and not reasons(events)
    assert events[0].cipher.system_title == TITLE.hex() and events[0].cipher.authenticated
    assert {reason for reason, _ in reasons(wire.events())} == {"key needed"}
    assert {reason for reason, _ in reasons(wire.events(AUTH_KEY, KEY))} <= {"tag", "key needed"}
    assert not rows(wire.events()) and not rows(wire.events(AUTH_KEY, KEY))


def with_parity(data):
    return bytes(byte | (byte.bit_count() & 1) << 7 for byte in data)


def test_an_echo_a_sign_on_and_what_is_sent_again_change_nothing():
    wire = household(9)
    clean = rows(wire.events())
    echoed = Wire()
    echoed.lines = [(True, b"/?!\r\n"), (False, b"/XYZ5\\2PROBE\r\n"), (True, b"\x06252\r\n"), (False, b"\x06252\r\n")]
    for to_meter, data in wire.lines:
        echoed.put(to_meter, data)
        if to_meter:
            echoed.put(False, data)
        else:
            echoed.put(False, data)  # once more
    events = echoed.events()
    assert rows(events) == clean and not reasons(events)
    echoed.lines[:4] = [(to_meter, with_parity(data)) for to_meter, data in echoed.lines[:4]]
    events = echoed.events()
    assert rows(events) == clean and not reasons(events)
    split = Wire()
    split.lines = [(to_meter, data[k : k + 1]) for to_meter, data in wire.lines for k in range(len(data))]
    assert rows(split.events()) == clean and not reasons(split.events())


@pytest.mark.parametrize(
    ("answers", "reason", "detail"),
    [
        ([accept(result=1, diagnostic=13)], "refused", "association refused for good: authentication failed"),
        ([b"\xd8\x01\x02"], "refused", "exception, service not allowed, service not supported"),
        ([b"\x0e\x01\x06\x01"], "refused", "service error 010601"),
        ([b"\xc7\x01\xc1\x03\x00"], "refused", "the proof of the password: access denied"),
        ([b"\xc4\x01\xc1\x00\x16\x01"], "unasked", "an answer to another question, or to none"),
        ([b"\xc0\x01\xc1"], "structure", "not part of a conversation (0xC0)"),
        ([b"\xd4\x01\x00"], "key needed", "ciphered with a key of this session alone"),
        ([b"\xcc\x03\x30\x00\x00"], "security", "ciphered, and nobody has said a system title"),
    ],
)
def test_what_a_meter_refuses_is_told_in_words_and_what_was_read_stays(answers, reason, detail):
    wire = household()
    for answer in answers:
        wire.say(False, answer)
    events = wire.events()
    assert (reason, detail) in reasons(events)
    assert rows(events) == [ENERGY_ROW, POWER_ROW, NUMBER_ROW]


def test_a_question_without_an_answer_and_a_type_that_is_no_reading_are_counted():
    wire = household()
    wire.say(True, xdlms.get(0xC2, 3, POWER, 2))
    wire.ask(xdlms.get(0xC1, 3, ENERGY, 2), b"\xc4\x01\xc1\x00\x04\x08\x55")  # a bit string
    events = wire.events()
    assert ("no answer", "1-0:16.7.0*255 attribute 2 was not answered") in reasons(events)
    assert ("data", "1-0:1.8.0*255 attribute 2: data of type 0x04 are no reading") in reasons(events)


@pytest.mark.parametrize("number", ["173f800000", "183ff0000000000000"])
def test_a_binary_fraction_is_read_exactly(number):
    wire = Wire()
    wire.get((3, ENERGY, 3))
    for value in (number, "17" + "42f6e979", "177fc00000"):  # 1, 123.456, no number
        wire.ask(xdlms.get(0xC1, 3, ENERGY, 2), b"\xc4\x01\xc1\x00" + bytes.fromhex(value))
    events = wire.events()
    assert rows(events) == [("1-0:1.8.0*255", value, "Wh") for value in ("0.01", "1.23456")]
    assert ("data", "1-0:1.8.0*255 attribute 2: a binary fraction that is no value") in reasons(events)


def test_a_damaged_frame_is_counted_and_gives_no_other_value():
    """Each byte of what the meter sends, changed; the checks of HDLC find it, and the rest is read."""
    wire = household()
    allowed = {ENERGY_ROW, POWER_ROW, NUMBER_ROW}
    clean = wire.lines
    for k, (to_meter, data) in enumerate(clean):
        for at in range(0, len(data), 3):
            damaged = data[:at] + bytes((data[at] ^ 0x10,)) + data[at + 1 :]
            wire.lines = [*clean[:k], (to_meter, damaged), *clean[k + 1 :]]
            events = wire.events()
            assert set(rows(events)) <= allowed and len(rows(events)) >= 2
            assert reasons(events), (k, at)


@pytest.mark.parametrize("is_wrapper", [False, True])
@pytest.mark.parametrize("line", ["> 6", "> 7ea0", ">", ""])
def test_an_answer_is_not_taken_for_that_to_another_question(is_wrapper, line):
    """All requests have one invoke id: an answer is lost, then a request; what comes next is not of the first one."""
    wire = Wire(is_wrapper=is_wrapper)
    wire.associate()
    wire.get((3, POWER, 3))
    begun = len(wire.lines)
    wire.get((3, POWER, 2), (3, ENERGY, 2))
    lines = wire.text().splitlines()[1:]
    lines[begun + 1 : begun + 3] = [line] if line else []
    events = list(sessions.reader("dlms")(transcript.parse("\n".join(lines).encode())))
    if line or not is_wrapper:  # TCP loses nothing between two lines
        assert not rows(events) and reasons(events)


def general_blocks(apdu, size, first=1):
    pieces = [apdu[at : at + size] for at in range(0, len(apdu), size)]
    return [
        bytes((0xE0, (k == len(pieces)) << 7 | 1, 0, k + first - 1, 0, 0, len(piece))) + piece
        for k, piece in enumerate(pieces, 1)
    ]


ACKNOWLEDGE = b"\xe0\x01\x00\x01\x00\x01\x00"


@pytest.mark.parametrize("is_wrapper", [False, True])
def test_an_answer_in_general_blocks_is_put_together(is_wrapper):
    wire = Wire(is_wrapper=is_wrapper)
    wire.associate()
    wire.get((3, ENERGY, 3), (3, EXPORT, 3))
    for size in (3, 200):
        wire.say(True, asked_for(ENERGY))
        for block in general_blocks(got(OBJECTS[3, ENERGY, 2]), size):
            wire.say(False, block)
            wire.say(True, ACKNOWLEDGE)
    assert rows(wire.events()) == [ENERGY_ROW] * 2
    assert len(reasons(wire.events())) == 1  # the object it has not


@pytest.mark.parametrize("is_wrapper", [False, True])
def test_general_blocks_of_two_answers_are_not_mixed(is_wrapper):
    """A block is lost, then the question is asked anew and answered in two."""
    begun, rest = general_blocks(got(COUNT), 6)
    other_begun, other_rest = general_blocks(got(OTHER_COUNT), 6)
    for answers, values in (
        ((begun, other_begun, other_rest), ["222"]),
        ((begun, begun, rest), ["111"]),
        ((other_rest,), []),
        ((begun, bytes((0xE0, 0x81, 0, 3)) + rest[4:]), []),
        ((begun[:5], begun[:-1]), []),
    ):
        wire = Wire(is_wrapper=is_wrapper)
        wire.associate()
        wire.get((3, ENERGY, 3))
        wire.say(True, asked_for(ENERGY))
        for block in answers:
            wire.say(False, block)
        events = wire.events(short_names={})
        assert [value for _, value, _ in rows(events)] == [f"{int(value) // 100}.{value[-2:]}" for value in values]
        assert bool(reasons(events)) == (not values)


@pytest.mark.parametrize(
    ("left", "behind", "reason"),
    [(12, "", "incomplete"), (-8, "", "incomplete"), (-8, "000100010010060006", "structure")],
)
def test_a_cut_frame_is_told_once(left, behind, reason):
    """What is left of it may look like a frame of another kind that is cut."""
    wire = Wire()
    wire.associate()
    wire.get((3, ENERGY, 3))
    n = len(wire.lines)
    wire.get((1, NUMBER, 2), (3, ENERGY, 2))
    wire.lines[n + 1] = (False, wire.lines[n + 1][1][:left] + bytes.fromhex(behind))
    events = wire.events()
    assert rows(events) == [ENERGY_ROW]
    assert [told for told, _ in reasons(events)] == [reason, "no answer", "order"]


def test_a_cut_session_gives_what_was_read():
    wire = household(11)
    clean = wire.lines
    counts = []
    for k in range(len(clean)):
        wire.lines = clean[:k]
        counts.append(len(rows(wire.events())))
        wire.lines = [*clean[:k], (clean[k][0], clean[k][1][: len(clean[k][1]) // 2])]
        assert len(rows(wire.events())) == counts[-1]
    assert counts == sorted(counts) and counts[-1] == 3


def test_any_bytes_are_events_or_counted():
    chance = random.Random(18)
    clean = household(20).lines + household(0, True).lines
    for _ in range(300):
        wire = Wire()
        for to_meter, data in chance.sample(clean, 12):
            piece = bytearray(data)
            for _ in range(chance.randrange(3)):
                piece[chance.randrange(len(piece))] = chance.randrange(256)
            wire.put(to_meter if chance.random() < 0.9 else not to_meter, bytes(piece))
            if chance.random() < 0.3:  # an APDU of any bytes in a frame that holds
                tag = chance.choice(b"\x60\x61\xc0\xc4\x05\x0c\xc7\xd8\xdb\xcc\x28\x0e\x0f")
                wire.say(
                    chance.random() < 0.5, bytes((tag, chance.randrange(6))) + chance.randbytes(chance.randrange(30))
                )
        wire.events(KEY, AUTH_KEY)


def test_the_command_reads_a_transcript_and_tells_damaged_lines(tmp_path, capsys):
    file = tmp_path / "session.txt"
    file.write_text(household().text() + "> 6\n! nonsense\n")
    assert cli.main(["decode", "--json", str(file)]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["rejected"] for line in told if "rejected" in line] == ["transcript", "transcript"]
    (telegram,) = [line for line in told if "readings" in line]
    assert [(r["obis"], r["value"], r["unit"]) for r in telegram["readings"]] == [ENERGY_ROW, POWER_ROW, NUMBER_ROW]


def test_a_conversation_that_reads_no_value_is_told_as_one(tmp_path, capsys):
    wire = Wire()
    wire.associate()
    file = tmp_path / "session.txt"
    file.write_text(wire.text())
    assert cli.main(["decode", str(file)]) == 1
    size = sum(len(data) for _, data in wire.lines)
    words = f"no telegram in {file}: {size:,} bytes of a conversation in which no value is read.\n"
    assert capsys.readouterr().err == f"optoprobe decode: {words}"


def test_short_names_may_be_given_with_the_command(tmp_path, capsys):
    wire = Wire()
    wire.associate(association.SN)
    wire.ask(xdlms_read.read([0x208]), b"\x0c\x01\x00" + OBJECTS[3, ENERGY, 2])
    wire.ask(xdlms_read.read([0x210]), b"\x0c\x01\x00" + OBJECTS[3, ENERGY, 3])
    file = tmp_path / "session.hex"
    file.write_text(wire.text())
    assert cli.main(["decode", "--json", "--short-name", "512=1-0:1.8.0", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["readings"][0]["obis"] == "1-0:1.8.0*255"
    for wrong in ("512", "70000=1-0:1.8.0", "1=1-0:1.8.300"):
        with pytest.raises(SystemExit):
            cli.main(["decode", "--short-name", wrong, str(file)])


def test_a_transcript_of_a_meter_that_is_not_asked_is_heard_as_it_is(tmp_path, capsys):
    body = enc.structure([enc.octets(ENERGY), OBJECTS[3, ENERGY, 2], OBJECTS[3, ENERGY, 3]])
    push = enc.between_flags([enc.hdlc_frame(enc.LLC_PUSH + enc.data_notification(body))])
    file = tmp_path / "push.txt"
    for before in ("", "> 2f3f210d0a\n"):
        file.write_text(f"{before}< {push.hex()}\n< {push.hex()}\n")
        assert cli.main(["decode", "--json", str(file)]) == 0
        told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [row["readings"][0]["value"] for row in told if "readings" in row] == ["1234567.89"] * 2


# --- whose answer, and to which question -----------------------------------------------------------------------------


EXPORT = enc.obis_bytes("1-0:2.8.0*255")
COUNT, OTHER_COUNT = enc.number(enc.UINT32, 111), enc.number(enc.UINT32, 222)


def got(data):
    return b"\xc4\x01\xc1\0" + data


def asked_for(code, attribute=2):
    return xdlms.get(0xC1, 3, code, attribute)


def test_a_count_whose_scale_is_said_in_two_ways_is_no_reading():
    wire = Wire()
    wire.associate()
    for exponent in (0, 0, -1):
        wire.ask(asked_for(ENERGY, 3), got(scale(exponent, 30)))
        wire.get((3, ENERGY, 2), (3, POWER, 3), (3, POWER, 2))
    events = wire.events()
    assert rows(events) == [POWER_ROW] * 3
    told = ("no scale", "1-0:1.8.0*255: 123456789, the session says two scales of it")
    assert reasons(events) == [told] * 3


@pytest.mark.parametrize("selector", [b"", b"\x02\x02\x04\x06\0\0\0\1\x06\0\0\0\1\x12\0\1\x12\0\0"])
def test_rows_of_a_profile_are_told_to_be_left_out(selector):
    profile = enc.obis_bytes("1-0:99.1.0*255")
    asked = xdlms.get(0xC1, 7, profile, 2)
    wire = Wire()
    wire.associate()
    wire.ask(asked[:-1] + b"\1" + selector if selector else asked, got(enc.array([enc.structure([COUNT])])))
    wire.get((3, ENERGY, 3), (3, ENERGY, 2))
    events = wire.events()
    assert rows(events) == [ENERGY_ROW]
    words = "1-0:99.1.0*255 attribute 2: rows of a profile: optoprobe read --profile lists them"
    assert reasons(events) == [("left out", words)]


@pytest.mark.parametrize("is_wrapper", [False, True])
def test_another_meters_scale_is_not_this_ones(is_wrapper):
    """The scale is said by one meter, the count by another, with no new connection between."""
    wire = Wire(is_wrapper=is_wrapper)
    wire.associate()
    wire.get((3, ENERGY, 3))
    if is_wrapper:
        wire.put(True, enc.wrapper(asked_for(ENERGY), 16, 2))
        wire.put(False, enc.wrapper(got(COUNT), 2, 16))
    else:
        other = hdlc_station.server_address(1, 18)
        control = hdlc_station.information_control(0, 0)
        request = hdlc_station.REQUEST_LLC + asked_for(ENERGY)
        wire.put(True, hdlc_station.frame(other, CLIENT, control, request))
        control = hdlc_station.information_control(0, 1)
        wire.put(False, hdlc_station.frame(CLIENT, other, control, hdlc_station.ANSWER_LLC + got(COUNT)))
    events = wire.events()
    assert rows(events) == []
    assert [reason for reason, _ in reasons(events)] == ["no scale"]


def test_another_meters_answer_is_none():
    wire = Wire(is_wrapper=True)
    wire.associate()
    wire.get((3, ENERGY, 3))
    wire.say(True, asked_for(ENERGY))
    wire.put(False, enc.wrapper(got(COUNT), 2, 16))
    events = wire.events()
    assert rows(events) == [] and reasons(events)[0] == ("unasked", "of another meter, or to another client")


@pytest.mark.parametrize("size", [2, 4])
def test_a_meter_that_is_called_as_any_one_answers_by_its_own_address(size):
    """The first that answers does; another one's answer is none, nor is that of another logical device."""
    anyone = hdlc_station.server_address(1, 0x7F if size == 2 else 0x3FFF, size)
    own, second, other = (hdlc_station.server_address(*at, size) for at in ((1, 17), (1, 18), (2, 17)))
    wire = Wire()
    wire.lines = [
        (True, hdlc_station.frame(anyone, CLIENT, hdlc_station.SNRM)),
        (False, hdlc_station.frame(CLIENT, other, hdlc_station.UA, SIZES)),
        (False, hdlc_station.frame(CLIENT, own, hdlc_station.UA, SIZES)),
    ]

    def ask(k, request, *answers):
        control = hdlc_station.information_control(k, k)
        wire.put(True, hdlc_station.frame(anyone, CLIENT, control, hdlc_station.REQUEST_LLC + request))
        control = hdlc_station.information_control(k, k + 1)
        for by, data in answers:
            wire.put(False, hdlc_station.frame(CLIENT, by, control, hdlc_station.ANSWER_LLC + data))

    ask(0, asked_for(ENERGY, 3), (own, got(scale(0, 30))))
    ask(1, asked_for(ENERGY), (second, got(OTHER_COUNT)), (own, got(COUNT)))
    events = wire.events()
    assert rows(events) == [("1-0:1.8.0*255", "111", "Wh")]
    assert reasons(events) == [("unasked", "of another meter, or to another client")] * 2


@pytest.mark.parametrize(
    ("number", "meter_id"),
    [
        (enc.number(enc.UINT32, 36765667), "36765667"),
        (enc.octets(b"77310099\0"), "77310099"),
        (enc.octets(b"\xcd\x01"), "cd01"),
        (enc.octets(b""), None),
    ],
)
def test_a_meter_is_called_by_its_number_as_a_probe_calls_it(number, meter_id):
    wire = Wire()
    wire.associate()
    wire.ask(xdlms.get(0xC1, 1, NUMBER, 2), got(number))
    (telegram,) = wire.events()
    assert telegram.meter_id == meter_id


BOTH = [("1-0:1.8.0*255", "111", "Wh"), ("1-0:2.8.0*255", "222", "Wh")]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ([asked_for(ENERGY), asked_for(EXPORT), got(COUNT), got(OTHER_COUNT)], BOTH[1:]),
        (
            [asked_for(ENERGY), asked_for(ENERGY), got(COUNT), asked_for(EXPORT), got(COUNT), got(OTHER_COUNT)],
            BOTH,  # whichever of the same two questions it answers
        ),
        (
            [asked_for(ENERGY, 3), asked_for(EXPORT, 3), got(scale(3, 30)), got(scale(0, 30))]
            + [asked_for(EXPORT), got(OTHER_COUNT)],
            BOTH[1:],
        ),
    ],
)
def test_a_late_answer_over_tcp_is_not_the_next_questions(said, wanted):
    """Every question has the same id, and nothing else tells which one is answered."""
    wire = Wire(is_wrapper=True)
    wire.associate()
    if said[1] != asked_for(EXPORT, 3):
        for code in (ENERGY, EXPORT):
            wire.ask(asked_for(code, 3), got(scale(0, 30)))
    for apdu in said:
        wire.say(apdu[0] == xdlms.GET_REQUEST, apdu)
    assert rows(wire.events()) == wanted


@pytest.mark.parametrize("is_wrapper", [False, True])
def test_an_answer_in_blocks_that_is_asked_for_anew_owes_nothing(is_wrapper):
    """Each request has had its answer: what is asked behind it is answered by what comes next."""
    first, second = b"\x06\x00", b"\x00\x00\x6f"
    blocks = [
        b"\xc4\x02\xc1" + bytes((k == 2, 0, 0, 0, k, 0, len(data))) + data for k, data in ((1, first), (2, second))
    ]
    wire = Wire(is_wrapper=is_wrapper)
    wire.associate()
    for code in (ENERGY, EXPORT):
        wire.ask(asked_for(code, 3), got(scale(0, 30)))
    for _ in range(2):
        wire.ask(asked_for(ENERGY), blocks[0])
    wire.ask(xdlms.get_next(0xC1, 1), blocks[1])
    wire.ask(asked_for(EXPORT), got(OTHER_COUNT))
    events = wire.events()
    assert rows(events) == BOTH
    assert reasons(events) == [("no answer", "1-0:1.8.0*255 attribute 2 was not answered")]


def test_what_gurux_libraries_send_in_their_own_way_is_read():
    """The length of a challenge without its head (in Python), and a clock twice (in C)."""
    wire = Wire()
    request = association.request(association.LN, association.HIGH_MD5, bytes(16))
    given = bytearray(accept(result=0, diagnostic=14))
    proof = b"\x88\x02\x07\x80\x89\x07\x60\x85\x74\x05\x08\x02\x03\xaa\x10\x80\x10" + bytes(range(16))
    given[25:25] = proof
    given[1] += len(proof)
    wire.ask(request, bytes(given))
    wire.ask(xdlms.get(0xC1, 8, CLOCK, 2), b"\xc4\x01\xc1\0" + 2 * (OBJECTS[8, CLOCK, 2] + b"\x09\x0f"))
    wire.get((3, ENERGY, 3), (3, ENERGY, 2))
    (event,) = wire.events()
    assert rows([event]) == [ENERGY_ROW] and event.timestamp == "2026-11-28T11:30:00Z"


def test_the_devices_name_has_the_short_name_of_the_standard():
    wire = Wire(is_wrapper=True)
    wire.associate(association.SN)
    wire.ask(xdlms_read.read([0xFD08, 168]), b"\x0c\x02\0" + enc.octets(b"XYZ77310099\0\0") + b"\0" + COUNT)
    wire.ask(xdlms_read.read([176]), b"\x0c\x01\0" + scale(0, 30))
    (telegram,) = wire.events()
    assert telegram.meter_id == "XYZ77310099" and "taken" in telegram.readings[1].name
    assert rows([telegram]) == [("0-0:42.0.0*255", b"XYZ77310099\0\0".hex(), None), ("1-0:1.8.0*255", "111", "Wh")]


def test_only_the_object_list_tells_short_names():
    """A table of another object with rows of the same form does not, and what the caller says stands."""
    row = enc.structure(
        [enc.number(enc.INT16, 160), enc.number(enc.UINT16, 3), enc.number(enc.UINT8, 0)]
        + [enc.octets(b""), enc.octets(EXPORT)]
    )
    wire = Wire(is_wrapper=True)
    wire.associate(association.SN)
    for name, data in ((0x1008, enc.array([row])), (176, scale(0, 30)), (168, COUNT)):
        wire.ask(xdlms_read.read([name]), b"\x0c\x01\0" + data)
    assert rows(wire.events(short_names={160: ENERGY})) == [("1-0:1.8.0*255", "111", "Wh")]
    (telegram,) = wire.events()
    assert rows([telegram]) == [("1-0:1.8.0*255", "111", "Wh")] and "taken" in telegram.readings[0].name


def test_rejections_without_end_are_counted():
    bursts = [transcript.Burst(False, b"\x7e\xa7\xff") for _ in range(3000)]
    events = list(sessions.reader("dlms")(bursts))
    assert len(events) == 1001 and events[-1].reason == "too many" and "more rejections" in events[-1].detail
