"""A recorded conversation with a DLMS meter: what was asked and answered, and the readings, scaled by the session.

    transcript -> bursts -> frames (HDLC, or the wrapper of TCP) -> APDUs -> what was asked and answered -> readings

Each association with readings is a Telegram. What is damaged, refused or unasked is a Rejected, and reading goes on.
A register is a value and its scale, in whatever order they were asked. Short names say nothing by themselves: what
they are comes from the object list, if it is read, or from who calls (the device's name has one of the standard); else
a value goes by its short name. Where nobody explains any, the only energy asked for is taken for the total
(1-0:1.8.0*255), and its name says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from metering.compat import ascii_text
from metering.dlms import association as acse
from metering.dlms import xdlms
from metering.dlms.axdr import ARRAY, STRUCTURE, Axdr, Malformed, ber_length, integer, string_at
from metering.dlms.result_words import result_text
from metering.dlms.security import Security
from metering.obis import obis_text

from ...decoding import Cipher, Rejected, Telegram, date_time_text, register_of
from ...transcript import Burst
from . import values
from .asked import Asked
from .frames import MAX_DATA, Frames
from .general_blocks import GENERAL_BLOCKS, GeneralBlocks

_REGISTER, _EXTENDED, _DEMAND, _PROFILE, _CLOCK = 3, 4, 5, 7, 8
_SCALE_OF = {_REGISTER: 3, _EXTENDED: 3, _DEMAND: 4}  # class -> attribute with scaler and unit
_N_ATTRIBUTES = {values.DATA: 2, _REGISTER: 3, _EXTENDED: 5, _DEMAND: 9, _CLOCK: 9}
_NUMBERS_OF_METER = (bytes((0, 0, 96, 1, 0, 255)), bytes((0, 0, 42, 0, 0, 255)))  # the surest first
_WH = 30
_ROWS = "rows of a profile: optoprobe read --profile lists them"
_MOST_NAMES = 1000
_MOST_REJECTED = 1000  # told one by one
_OBJECT_LIST = 0xFA08  # short name of Association SN's second attribute
_DEVICE_NAME = 0xFD08  # and of the logical device name's (DLMS UA 1000-2, 9.5.3)
_GENERAL_GLO, _GENERAL_DED = 0xDB, 0xDC
_GLO = (0x21, 0x25, 0x28, 0x2C, 0x2E, *range(0xC8, 0xD0))  # services ciphered with the global key
_DED = range(0xD0, 0xD8)  # with the session's own key
_CIPHERED = (_GENERAL_GLO, _GENERAL_DED, *_GLO, *_DED)
_OWN_KEY = b"\x01\x01\x10"  # an initiate request that brings one of 16 bytes
_SHORT_BY_TWO = b"\xaa\x10\x80\x10"
_STATES = {1: "service not allowed", 2: "service unknown"}
_ERRORS = {
    1: "operation not possible",
    2: "service not supported",
    4: "too long",
    5: "deciphering failed",
    6: "invocation counter refused",
}

Key = tuple[int, bytes, int]  # class, OBIS code, attribute; 0, b"", short name


def decode(
    bursts: Iterable[Burst],
    key: bytes | None = None,
    auth_key: bytes | None = None,
    short_names: Mapping[int, bytes] | None = None,
) -> Iterator[Telegram | Rejected]:
    """What a conversation gives. `short_names`: base name -> OBIS code of a register. Raises nothing."""
    session = _Session(key, auth_key, short_names or {})
    for burst in bursts:
        session.frames.take(burst)
        yield from session.events()
    session.frames.finish()
    session.end_of_association()
    yield from session.events()
    if session.untold:
        yield Rejected(session.frames.offset, "too many", f"{session.untold:,} more rejections, not told")


def put_right(apdu: bytes) -> bytes:
    """An answer to an association whose challenge Gurux's server in Python has counted without its head."""
    at = apdu.find(_SHORT_BY_TWO)
    return apdu[: at + 1] + b"\x12" + apdu[at + 2 :] if at >= 0 and apdu[at + 20 : at + 21] == b"\xbe" else apdu


def _security(key: bytes | None, auth_key: bytes | None) -> Security:
    security = Security()
    if key is not None:
        security.set_keys(key, auth_key)
    return security


class _Session:
    def __init__(self, key: bytes | None, auth_key: bytes | None, short_names: Mapping[int, bytes]) -> None:
        self.frames = Frames(self)
        self.untold = 0  # rejections past _MOST_REJECTED
        self._n_rejected = 0
        self._found: list[Telegram | Rejected] = []
        self._owed: dict[int, int] = {}  # invoke id -> answers to earlier questions that may still come
        self._unanswered = 0  # times that the question in hand, or its next block, was asked and not answered
        self._invoke = -1  # the id of it
        self._titles: dict[bool, bytes | None] = {True: None, False: None}
        self._has_key = key is not None
        self._auth_key = auth_key
        self._security = _security(key, auth_key)
        self._own: Security | None = None  # by the key of this session alone
        self._given_names = dict(short_names)
        self._asked: Asked | None = None
        self._blocks = b""
        self._block = 0
        self._general_blocks = {True: GeneralBlocks(MAX_DATA), False: GeneralBlocks(MAX_DATA)}
        self._forget()

    def _forget(self) -> None:
        self._begun = -1
        self.is_checked = True
        self._values: list[tuple[Key, bytes]] = []
        self._cipher: Cipher | None = None
        self._names = {base: (_REGISTER, code) for base, code in self._given_names.items()}

    def events(self) -> Iterator[Telegram | Rejected]:
        found, self._found = self._found, []
        for event in found:
            if isinstance(event, Rejected):
                self._n_rejected += 1
                if self._n_rejected > _MOST_REJECTED:
                    self.untold += 1
                    continue
            yield event

    def reject(self, reason: str, detail: str, cipher: Cipher | None = None, *, at: int | None = None) -> None:
        self._found.append(Rejected(self.frames.at if at is None else at, reason, detail, cipher))

    @property
    def is_asked(self) -> bool:
        return self._asked is not None

    def lose_question(self) -> None:
        """What is answered next may be another question, which is not known."""
        if self._asked:
            self.reject("no answer", self._what(self._asked) + " has no answer that is surely its own")
        self._asked, self._unanswered = None, 0

    # -- APDUs

    def take_apdu(self, apdu: bytes, to_meter: bool, is_plain: bool = False) -> None:
        try:
            if not apdu:
                raise Malformed("an empty APDU")
            tag = apdu[0]
            if tag == GENERAL_BLOCKS and not is_plain:
                whole = self._general_blocks[to_meter].take(apdu)
                if whole and whole[0] != GENERAL_BLOCKS:
                    self.take_apdu(whole, to_meter)
            elif not is_plain and tag in _CIPHERED:
                self._ciphered(apdu, to_meter)
            elif to_meter:
                self._request(apdu)
            else:
                self._response(apdu)
        except Malformed as error:
            self.reject("structure", str(error))

    def _plain(self, apdu: bytes, to_meter: bool) -> bytes:
        """The plain text of a ciphered service, b"" where it is told why there is none."""
        security = self._own if apdu[0] == _GENERAL_DED or apdu[0] in _DED else self._security
        if security is None:
            self.reject("key needed", "ciphered with a key of this session alone")
            return b""
        title = self._titles[to_meter]
        if apdu[0] not in (_GENERAL_GLO, _GENERAL_DED):
            if title is None:
                self.reject("security", "ciphered, and nobody has said a system title")
                return b""
            apdu = bytes((_GENERAL_GLO, len(title))) + title + apdu[1:]
        buf = bytearray(apdu)
        if len(buf) < 2 + 8 + 1:
            raise Malformed("ciphered APDU truncated")
        reason = security.unwrap(buf, memoryview(buf), 0, len(buf))
        cipher = None
        if security.title is not None and security.counter is not None:
            cipher = Cipher(security.title.hex(), security.counter, security.control, security.authenticated)
        if reason:
            self.reject(reason, security.detail, cipher)
            return b""
        if not to_meter:
            self._cipher = cipher
        return bytes(buf[security.plain_at : security.plain_end])

    def _ciphered(self, apdu: bytes, to_meter: bool) -> None:
        plain = self._plain(apdu, to_meter)
        if plain:
            self.take_apdu(plain, to_meter, True)

    def _request(self, apdu: bytes) -> None:
        tag = apdu[0]
        if tag == acse.AARQ:
            self.end_of_association()
            association = self._association(apdu)
            self._titles = {True: association.title, False: None}
            self._learn_key(apdu[association.data_at : association.data_end])
        elif tag == acse.RELEASE:
            self.end_of_association()
        elif tag in (xdlms.GET_REQUEST, xdlms.READ_REQUEST):
            asked = Asked()
            asked.take(apdu, 0, len(apdu))
            before = self._asked
            if before and (asked.is_next or not self._blocks and asked.is_as(before)):
                self._unanswered += 1
                return
            if before:
                self.reject("no answer", self._what(before) + " was not answered")
            if self.frames.is_wrapped:
                self._owed[self._invoke] = self._owed.get(self._invoke, 0) + self._unanswered
            self._asked, self._blocks, self._block = asked, b"", 0
            self._invoke, self._unanswered = asked.invoke, 1

    def _learn_key(self, initiate: bytes) -> None:
        """Take the session's own key from an initiate request, where it brings one that can be read."""
        self._own = None
        if initiate[:1] == b"\x21" and self._has_key:
            initiate = self._plain(initiate, True)
        if initiate.startswith(_OWN_KEY) and len(initiate) > len(_OWN_KEY) + 16:
            self._own = _security(initiate[len(_OWN_KEY) :][:16], self._auth_key)

    @staticmethod
    def _association(apdu: bytes) -> acse.Association:
        association = acse.Association()
        association.take(apdu, 0, len(apdu))
        return association

    def _response(self, apdu: bytes) -> None:
        tag = apdu[0]
        if tag == acse.AARE:
            apdu = put_right(apdu)
            self._accepted(self._association(apdu), apdu)
        elif tag in (xdlms.GET_RESPONSE, xdlms.READ_RESPONSE):
            self._answer(apdu)
        elif tag == xdlms.ACTION_RESPONSE:
            if len(apdu) > 3 and apdu[3]:
                self.reject("refused", "the proof of the password: " + result_text(apdu[3]))
        elif tag in (xdlms.EXCEPTION, xdlms.SERVICE_ERROR):
            self._asked, self._unanswered = None, 0
            words = []
            if tag == xdlms.EXCEPTION and len(apdu) > 2:
                words = [_STATES.get(apdu[1], f"state {apdu[1]}"), _ERRORS.get(apdu[2], f"error {apdu[2]}")]
            self.reject("refused", ", ".join(["exception", *words]) if words else f"service error {apdu[1:4].hex()}")
        elif tag == acse.RELEASED:
            self.end_of_association()
        elif tag not in (0x0D, 0xC5):  # of a WRITE or SET that somebody else has sent
            self.reject("structure", f"not part of a conversation (0x{tag:02X})")

    def _accepted(self, association: acse.Association, apdu: bytes) -> None:
        if association.result:
            self.reject("refused", "association " + association.verdict())
            return
        self._titles[False] = association.title
        initiate = apdu[association.data_at : association.data_end]
        if initiate[:1] == b"\x28" and self._has_key:
            initiate = self._plain(initiate, False)
        if initiate and initiate[0] != 0x28:
            association.take_initiate(initiate, 0, len(initiate))

    def _what(self, asked: Asked) -> str:
        return ", ".join(_name(item[:3]) for item in asked.items) or "the next block"

    def _answer(self, apdu: bytes) -> None:
        answer = xdlms.Answer()
        try:
            answer.take(apdu, 0, len(apdu))
        except Malformed:
            self._unanswered = max(0, self._unanswered - 1)  # it is one
            raise
        if self._owed.get(answer.invoke):
            self._owed[answer.invoke] -= 1
            self.reject("unasked", "perhaps the answer to an earlier question")
            return
        asked = self._asked
        if asked is None or asked.invoke != answer.invoke:
            self.reject("unasked", "an answer to another question, or to none")
            return
        self._unanswered = max(0, self._unanswered - 1)
        if answer.is_last:
            self._asked = None
        if answer.result:
            self.reject("refused", f"{self._what(asked)}: {result_text(answer.result)}")
        elif answer.block < 0:
            self._results(asked, apdu, answer.at, answer.end, answer.n)
        elif answer.block == self._block and self._blocks and not answer.is_last:
            pass  # sent again
        elif answer.block != self._block + 1 or len(self._blocks) + answer.end - answer.at > MAX_DATA:
            self._asked = None
            self.reject("order", f"{self._what(asked)}: block {answer.block} is not due, or too long")
        else:
            self._block += 1
            self._blocks += apdu[answer.at : answer.end]
            if answer.is_last:
                data = self._blocks
                if asked.is_list:
                    at = 0 if asked.invoke < 0 and len(asked.items) == 1 and data[:1] == b"\x00" else 1
                    n = data[0] if at and data else 1
                    self._results(asked, data, at, len(data), n)
                else:
                    self._results(asked, b"\x00" + data, 0, len(data) + 1, 1)

    def _results(self, asked: Asked, data: bytes, at: int, end: int, n: int) -> None:
        if n != len(asked.items):
            raise Malformed(f"{n} results for {len(asked.items)} items")
        axdr = Axdr()
        for k, (class_id, obis, attribute, selected) in enumerate(asked.items):
            key = class_id, obis, attribute
            result, at = xdlms.result_at(data, at, end)
            if result:
                self.reject("refused", f"{_name(key)}: {result_text(result)}")
                continue
            behind = end if k == n - 1 else axdr.parse(data, at, end)  # an object list has more than axdr takes
            if not selected or class_id == _PROFILE:
                if self._begun < 0:
                    self._begun = self.frames.at
                self._values.append((key, data[at:behind]))
            at = behind

    # -- readings

    def end_of_association(self) -> None:
        """Tell what it has brought."""
        if self._asked:
            self.reject("no answer", self._what(self._asked) + " was not answered")
        self._asked, self._unanswered = None, 0
        self._owed = {}
        counts: list[tuple[int, bytes, values.Value, int]] = []
        scales: values.Scales = {}
        meter_ids: dict[bytes, str] = {}
        timestamp = None
        for key, data in self._values:
            if not key[0] and key[2] == _OBJECT_LIST:
                self._learn_names(data)
        for key, data in self._values:
            (class_id, obis, attribute), is_named = self._named(key)
            try:
                if attribute == 2 and class_id in (values.DATA, _REGISTER, _EXTENDED, _DEMAND):
                    value, exponent = values.value(data)
                    counts.append((class_id, obis, value, exponent))
                    if obis in _NUMBERS_OF_METER:
                        number = value.strip(b"\0 ") if isinstance(value, bytes) else str(value).encode()
                        meter_ids[obis] = ascii_text(number) or number.hex()
                elif attribute == _SCALE_OF.get(class_id):
                    values.note(scales, obis, data)
                elif class_id == _PROFILE and attribute == 2:
                    self._found.append(Rejected(self._begun, "left out", f"{_name(key)}: {_ROWS}"))
                elif class_id == _CLOCK and attribute == 2:
                    timestamp = date_time_text(values.date_time(data)) or timestamp
                elif not is_named:
                    if data[:1] == bytes((STRUCTURE,)) and values.is_scale(data):
                        values.note(scales, _unnamed(attribute - 8), data)
                    elif data[:1] and data[0] not in (ARRAY, STRUCTURE):
                        counts.append((0, _unnamed(attribute), *values.value(data)))
            except Malformed as error:
                self._found.append(Rejected(self._begun, "data", f"{_name(key)}: {error}"))
        readings = []
        energies = {obis for class_id, obis, *_ in counts if not class_id and (scales.get(obis) or (0, 0))[1] == _WH}
        is_total = len(energies) == 1 and not self._names
        for class_id, obis, value, exponent in counts:
            reading = values.reading(class_id, obis, value, exponent, scales)
            if reading is None:
                name = obis_text(obis) if class_id else values.short_name(obis)
                said = "two scales" if obis in scales else "no scale"
                self._found.append(Rejected(self._begun, "no scale", f"{name}: {value}, the session says {said} of it"))
            else:
                if is_total and obis in energies:
                    values.take_for_total(reading)
                readings.append(reading)
        if readings or timestamp:
            registers = tuple(register_of(reading, None) for reading in readings)
            meter_id = next((meter_ids[code] for code in _NUMBERS_OF_METER if meter_ids.get(code)), None)
            self._found.append(
                Telegram(
                    "dlms", self._begun, meter_id, timestamp, registers, checked=self.is_checked, cipher=self._cipher
                )
            )
        self._forget()

    def _named(self, key: Key) -> tuple[Key, bool]:
        """A short name as class, code and attribute, where it is known whose it is."""
        class_id, _, name = key
        if class_id:
            return key, True
        if name == _DEVICE_NAME:
            return (values.DATA, _NUMBERS_OF_METER[1], 2), True
        base = max((base for base in self._names if base <= name), default=-1)
        if base >= 0 and (name - base) % 8 == 0:
            class_id, code = self._names[base]
            attribute = (name - base) // 8 + 1
            if attribute <= _N_ATTRIBUTES.get(class_id, 0):
                return (class_id, code, attribute), True
        return key, False

    def _learn_names(self, data: bytes) -> None:
        """Take an object list of Association SN: an array of structures of base name, class, version and code."""
        if data[:1] != bytes((ARRAY,)):
            return
        try:
            n, at = ber_length(data, 1, len(data))
            axdr = Axdr()
            for _ in range(min(n, _MOST_NAMES)):
                begun, at = at, axdr.parse(data, at, len(data))
                offsets = axdr.offsets
                if data[begun] != STRUCTURE or axdr.count != 5:
                    return
                base, class_id = integer(data, offsets[1]), integer(data, offsets[2])
                code, n_code = string_at(data, offsets[4], at)
                if base is not None and class_id is not None and n_code == 6:
                    self._names.setdefault(base & 0xFFFF, (class_id, data[code : code + 6]))
        except Malformed as error:
            self._found.append(Rejected(self._begun, "structure", f"object list: {error}"))


def _name(key: tuple[int, bytes, int]) -> str:
    class_id, obis, attribute = key
    return f"{obis_text(obis)} attribute {attribute}" if class_id else f"short name {attribute}"


def _unnamed(name: int) -> bytes:
    """What stands for the code of a value whose short name (of the attribute) nobody explains."""
    return bytes((0, name >> 8 & 0xFF, name & 0xFF))
