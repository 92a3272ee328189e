"""A recorded conversation with a DLMS meter: what was asked and answered, and the readings, scaled by the session.

    transcript -> bursts -> frames (HDLC, or the wrapper of TCP) -> APDUs -> what was asked and answered -> readings

Each association with readings is a Telegram. What is damaged, refused or unasked is a Rejected, and reading goes on.
A register is a value and its scale, in whatever order they were asked. Short names say nothing by themselves: what
they are comes from the object list, if it is read, or from who calls; else a value goes by its short name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from metering.compat import ascii_text, signed
from metering.dlms import association as acse
from metering.dlms import hdlc, hdlc_station, xdlms
from metering.dlms.axdr import ARRAY, ENUM, INT8, OCTETS, STRUCTURE, Axdr, Malformed, ber_length, integer, string_at
from metering.dlms.security import Security
from metering.obis import obis_text
from metering.reading import Reading
from metering.register import unit_symbol

from ..decoding import Cipher, Rejected, Telegram, date_time_text, register_of
from ..transcript import Burst

MAX_DATA = 65_535  # bytes of an APDU or of what its blocks bring: metering.dlms.axdr counts in 16 bits
_WRAPPER_HEAD = 8
_MOST_SIGN_ON = 40  # characters of an identification line
_DATA, _REGISTER, _EXTENDED, _DEMAND, _CLOCK = 1, 3, 4, 5, 8
_SCALE_OF = {_REGISTER: 3, _EXTENDED: 3, _DEMAND: 4}  # class -> attribute with scaler and unit
_N_ATTRIBUTES = {_DATA: 2, _REGISTER: 3, _EXTENDED: 5, _DEMAND: 9, _CLOCK: 9}
_NUMBERS_OF_METER = (bytes((0, 0, 96, 1, 0, 255)), bytes((0, 0, 42, 0, 0, 255)))  # the surest first
_BOOLEAN, _DATE_TIME, _TWELVE = 0x03, 0x19, 12
_MOST_NAMES = 1000
_NO_UNIT = 255
_GENERAL_GLO, _GENERAL_DED = 0xDB, 0xDC
_GLO = (0x21, 0x25, 0x28, 0x2C, 0x2E, *range(0xC8, 0xD0))  # services ciphered with the global key
_DED = range(0xD0, 0xD8)
_STATES = {1: "service not allowed", 2: "service unknown"}
_ERRORS = {
    1: "operation not possible",
    2: "service not supported",
    4: "too long",
    5: "deciphering failed",
    6: "invocation counter refused",
}

Key = tuple[int, bytes, int]  # class, OBIS code, attribute; 0, b"", short name
Value = int | bytes | str | bool


def decode(
    bursts: Iterable[Burst],
    key: bytes | None = None,
    auth_key: bytes | None = None,
    short_names: Mapping[int, bytes] | None = None,
) -> Iterator[Telegram | Rejected]:
    """What a conversation gives. `short_names`: base name -> OBIS code of a register. Raises nothing."""
    session = _Session(key, auth_key, short_names or {})
    for burst in bursts:
        session.take(burst)
        yield from session.events()
    session.finish()
    yield from session.events()


class _Side:
    """What one side has sent that is not taken apart yet."""

    def __init__(self) -> None:
        self.left = b""
        self.begun = 0  # offset of its first byte
        self.gathered = b""  # segments of an APDU
        self.due = -1  # N(S) of the next segment, -1: any
        self.last = b""  # I frame

    def forget_link(self) -> None:
        self.gathered = self.last = b""
        self.due = -1


class _Session:
    def __init__(self, key: bytes | None, auth_key: bytes | None, short_names: Mapping[int, bytes]) -> None:
        self._sides = {True: _Side(), False: _Side()}
        self._offset = 0
        self._at = 0  # offset of the frame in hand
        self._found: list[Telegram | Rejected] = []
        self._frame = hdlc.Frame()
        self._header = hdlc_station.Header()
        self._echo = b""
        self._is_connecting = False
        self._titles: dict[bool, bytes | None] = {True: None, False: None}
        self._has_key = key is not None
        self._security = Security()
        if key is not None:
            self._security.set_keys(key, auth_key)
        self._given_names = dict(short_names)
        self._asked: xdlms.Asked | None = None
        self._blocks = b""
        self._block = 0
        self._forget()

    def _forget(self) -> None:
        self._begun = -1
        self._checked = True
        self._values: list[tuple[Key, bytes]] = []
        self._cipher: Cipher | None = None
        self._names = {base: (_REGISTER, code) for base, code in self._given_names.items()}

    def events(self) -> Iterator[Telegram | Rejected]:
        found, self._found = self._found, []
        return iter(found)

    def _reject(self, reason: str, detail: str, cipher: Cipher | None = None) -> None:
        self._found.append(Rejected(self._at, reason, detail, cipher))

    # -- frames

    def take(self, burst: Burst) -> None:
        if burst.damage:
            self._at = self._offset
            self._reject("transcript", burst.damage)
            self._lose_question()
            return
        self._take_apart(not burst.to_meter, True)
        side = self._sides[burst.to_meter]
        if not side.left:
            side.begun = self._offset
        side.left += burst.data
        self._offset += len(burst.data)
        self._take_apart(burst.to_meter, False)

    def finish(self) -> None:
        self._take_apart(True, True)
        self._take_apart(False, True)
        self._end_of_association()

    def _take_apart(self, to_meter: bool, is_over: bool) -> None:
        """Frames out of what a side has sent; `is_over`: nothing comes behind it."""
        side = self._sides[to_meter]
        data, at, noise = side.left, 0, 0
        begun = side.begun
        view = memoryview(data)
        while at < len(data):
            self._at = begun + at
            used = self._frame_at(data, view, at, to_meter)
            if used == hdlc.SHORT:
                if not is_over:
                    break
                if data[at:] == b"\x7e":  # it closes the last frame
                    at += 1
                    break
                self._reject("incomplete", "frame truncated")
                used = noise = -1
            elif used < hdlc.NONE:
                noise = -1  # what is left of it is no other fault
            if used == hdlc.NONE and noise >= 0 and data[at] != 0x7E:
                noise += 1
            elif used > 0 or data[at] == 0x7E:
                self._tell_noise(noise, begun + at)
                noise = 0 if used > 0 or noise >= 0 else -1
            at += max(used, 1)
        self._tell_noise(noise, begun + at)
        if noise and to_meter:
            self._lose_question()
        side.left = data[at:]
        side.begun = begun + at

    def _lose_question(self) -> None:
        """What is answered next may be another question, which is not known."""
        if self._asked:
            self._reject("no answer", self._what(self._asked) + " has no answer that is surely its own")
        self._asked = None

    def _tell_noise(self, n: int, end: int) -> None:
        if n > 0:
            self._found.append(Rejected(end - n, "structure", f"{n:,} bytes of no frame"))

    def _frame_at(self, data: bytes, view: memoryview, at: int, to_meter: bool) -> int:
        """Bytes of the frame at `at`, which is dealt with; hdlc.SHORT; hdlc.NONE; below that it is told already."""
        first, held = data[at], len(data) - at
        if first == 0x7E:
            used = self._frame.find(data, view, at, len(data))
            if used > 0:
                self._checked = True
                self._hdlc(data[at : at + used], data[self._frame.info_at : self._frame.info_end], to_meter)
            elif used < hdlc.NONE:
                what = {hdlc.WRONG_HEADER: "header's check", hdlc.NO_FLAG: "no closing flag"}.get(used, "FCS mismatch")
                self._reject("structure" if used == hdlc.NO_FLAG else "checksum", "HDLC: " + what)
            return used
        if first == 0:
            if held < _WRAPPER_HEAD:
                return hdlc.SHORT
            n = data[at + 6] << 8 | data[at + 7]
            if data[at + 1] != 1 or not n:
                return hdlc.NONE
            if held < _WRAPPER_HEAD + n:
                return hdlc.SHORT
            self._checked = False
            self._apdu(data[at + _WRAPPER_HEAD : at + _WRAPPER_HEAD + n], to_meter)
            return _WRAPPER_HEAD + n
        if first in b"/\x06":  # the sign-on into mode E
            end = data.find(b"\n", at, at + _MOST_SIGN_ON) + 1
            return end - at if end else hdlc.SHORT if held < _MOST_SIGN_ON else hdlc.NONE
        return hdlc.NONE

    def _hdlc(self, whole: bytes, information: bytes, to_meter: bool) -> None:
        if to_meter:
            self._echo = whole
        elif whole == self._echo:  # a head that hears itself
            return
        header, side = self._header, self._sides[to_meter]
        header.take(whole, 0)
        kind = header.kind
        if kind == hdlc_station.INFORMATION:
            self._segment(side, whole, information, to_meter)
        elif to_meter and kind in (hdlc_station.SNRM, hdlc_station.DISC):
            self._is_connecting = kind == hdlc_station.SNRM
            self._end_of_association()
            for each in self._sides.values():
                each.forget_link()
        elif kind == hdlc_station.UA:
            try:
                hdlc_station.agreed_sizes(information, 0, len(information))
            except Malformed as error:
                self._reject("structure", str(error))
        elif kind == hdlc_station.DM and self._is_connecting:
            self._reject("refused", "the meter takes no connection (DM)")
        elif kind not in (hdlc_station.READY, hdlc_station.DM):
            self._reject("refused", f"HDLC frame of kind 0x{kind:02X}")

    def _segment(self, side: _Side, whole: bytes, information: bytes, to_meter: bool) -> None:
        if whole == side.last:  # sent again
            return
        side.last = whole
        if side.due not in (-1, self._header.sent):
            side.gathered = b""
            self._reject("order", f"HDLC segment {self._header.sent} is not the one that is due")
        side.gathered += information
        side.due = (self._header.sent + 1) % 8
        if not to_meter and self._asked and self._sides[True].due not in (-1, self._header.due):
            self._lose_question()  # it answers one that is not here
        if self._frame.more and len(side.gathered) <= MAX_DATA:
            return
        apdu, side.gathered = side.gathered, b""
        llc = hdlc_station.REQUEST_LLC if to_meter else hdlc_station.ANSWER_LLC
        if len(apdu) > MAX_DATA:
            self._reject("structure", f"more than {MAX_DATA:,} bytes in segments")
        elif apdu[:3] == llc:
            self._apdu(apdu[3:], to_meter)
        elif apdu:
            self._reject("structure", "no LLC, or that of the other side")

    # -- APDUs

    def _apdu(self, apdu: bytes, to_meter: bool, is_plain: bool = False) -> None:
        try:
            if not apdu:
                raise Malformed("an empty APDU")
            tag = apdu[0]
            if not is_plain and tag in (_GENERAL_GLO, *_GLO):
                self._ciphered(apdu, to_meter)
            elif tag in (_GENERAL_DED, *_DED):
                self._reject("key needed", "ciphered with a key of this session alone")
            elif to_meter:
                self._request(apdu)
            else:
                self._response(apdu)
        except Malformed as error:
            self._reject("structure", str(error))

    def _plain(self, apdu: bytes, to_meter: bool) -> bytes:
        """The plain text of a ciphered service, b"" where it is told why there is none."""
        title = self._titles[to_meter]
        if apdu[0] != _GENERAL_GLO:
            if title is None:
                self._reject("security", "ciphered, and nobody has said a system title")
                return b""
            apdu = bytes((_GENERAL_GLO, len(title))) + title + apdu[1:]
        security, buf = self._security, bytearray(apdu)
        if len(buf) < 2 + 8 + 1:
            raise Malformed("ciphered APDU truncated")
        reason = security.unwrap(buf, memoryview(buf), 0, len(buf))
        cipher = None
        if security.title is not None and security.counter is not None:
            cipher = Cipher(security.title.hex(), security.counter, security.control, security.authenticated)
        if reason:
            self._reject(reason, security.detail, cipher)
            return b""
        if not to_meter:
            self._cipher = cipher
        return bytes(buf[security.plain_at : security.plain_end])

    def _ciphered(self, apdu: bytes, to_meter: bool) -> None:
        plain = self._plain(apdu, to_meter)
        if plain:
            self._apdu(plain, to_meter, True)

    def _request(self, apdu: bytes) -> None:
        tag = apdu[0]
        if tag == acse.AARQ:
            self._end_of_association()
            self._titles = {True: self._association(apdu).title, False: None}
        elif tag == acse.RELEASE:
            self._end_of_association()
        elif tag in (xdlms.GET_REQUEST, xdlms.READ_REQUEST):
            asked = xdlms.Asked()
            asked.take(apdu, 0, len(apdu))
            if asked.is_next and self._asked:
                return
            if self._asked:
                self._reject("no answer", self._what(self._asked) + " was not answered")
            self._asked, self._blocks, self._block = asked, b"", 0

    @staticmethod
    def _association(apdu: bytes) -> acse.Association:
        association = acse.Association()
        association.take(apdu, 0, len(apdu))
        return association

    def _response(self, apdu: bytes) -> None:
        tag = apdu[0]
        if tag == acse.AARE:
            self._accepted(self._association(apdu), apdu)
        elif tag in (xdlms.GET_RESPONSE, xdlms.READ_RESPONSE):
            self._answer(apdu)
        elif tag == xdlms.ACTION_RESPONSE:
            if len(apdu) > 3 and apdu[3]:
                self._reject("refused", "the proof of the password: " + xdlms.result_text(apdu[3]))
        elif tag in (xdlms.EXCEPTION, xdlms.SERVICE_ERROR):
            self._asked = None
            words = []
            if tag == xdlms.EXCEPTION and len(apdu) > 2:
                words = [_STATES.get(apdu[1], f"state {apdu[1]}"), _ERRORS.get(apdu[2], f"error {apdu[2]}")]
            self._reject("refused", ", ".join(["exception", *words]) if words else f"service error {apdu[1:4].hex()}")
        elif tag == acse.RELEASED:
            self._end_of_association()
        elif tag != 0xC5:  # of a SET that somebody else has sent
            self._reject("structure", f"not part of a conversation (0x{tag:02X})")

    def _accepted(self, association: acse.Association, apdu: bytes) -> None:
        if association.result:
            self._reject("refused", "association " + association.verdict())
            return
        self._titles[False] = association.title
        initiate = apdu[association.data_at : association.data_end]
        if initiate[:1] == b"\x28" and self._has_key:
            initiate = self._plain(initiate, False)
        if initiate and initiate[0] != 0x28:
            association.take_initiate(initiate, 0, len(initiate))

    def _what(self, asked: xdlms.Asked) -> str:
        return ", ".join(_name(item[:3]) for item in asked.items) or "the next block"

    def _answer(self, apdu: bytes) -> None:
        answer = xdlms.Answer()
        answer.take(apdu, 0, len(apdu))
        asked = self._asked
        if asked is None or asked.invoke != answer.invoke:
            self._reject("unasked", "an answer to another question, or to none")
            return
        if answer.is_last:
            self._asked = None
        if answer.result:
            self._reject("refused", f"{self._what(asked)}: {xdlms.result_text(answer.result)}")
        elif answer.block < 0:
            self._results(asked, apdu, answer.at, answer.end, answer.n)
        elif answer.block == self._block and self._blocks and not answer.is_last:
            pass  # sent again
        elif answer.block != self._block + 1 or len(self._blocks) + answer.end - answer.at > MAX_DATA:
            self._asked = None
            self._reject("order", f"{self._what(asked)}: block {answer.block} is not due, or too long")
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

    def _results(self, asked: xdlms.Asked, data: bytes, at: int, end: int, n: int) -> None:
        if n != len(asked.items):
            raise Malformed(f"{n} results for {len(asked.items)} items")
        axdr = Axdr()
        for k, (class_id, obis, attribute, selected) in enumerate(asked.items):
            key = class_id, obis, attribute
            result, at = xdlms.result_at(data, at, end)
            if result:
                self._reject("refused", f"{_name(key)}: {xdlms.result_text(result)}")
                continue
            behind = end if k == n - 1 else axdr.parse(data, at, end)  # an object list has more than axdr takes
            if not selected:
                if self._begun < 0:
                    self._begun = self._at
                self._values.append((key, data[at:behind]))
            at = behind

    # -- readings

    def _end_of_association(self) -> None:
        """Tell what it has brought."""
        if self._asked:
            self._reject("no answer", self._what(self._asked) + " was not answered")
        self._asked = None
        values: list[tuple[int, bytes, Value]] = []
        scales: dict[bytes, tuple[int, int]] = {}
        meter_ids: dict[bytes, str] = {}
        timestamp = None
        for key, data in self._values:
            if not key[0]:
                self._learn_names(data)
        for key, data in self._values:
            (class_id, obis, attribute), is_named = self._named(key)
            try:
                if attribute == 2 and class_id in (_DATA, _REGISTER, _EXTENDED, _DEMAND):
                    value = _value(data)
                    values.append((class_id, obis, value))
                    if obis in _NUMBERS_OF_METER and isinstance(value, bytes | str):
                        text = ascii_text(value.strip(b"\0 ")) if isinstance(value, bytes) else value
                        meter_ids[obis] = text or ""
                elif attribute == _SCALE_OF.get(class_id):
                    scales[obis] = _scale(data)
                elif class_id == _CLOCK and attribute == 2:
                    timestamp = date_time_text(_date_time(data)) or timestamp
                elif not is_named:
                    if data[:1] == bytes((STRUCTURE,)) and _is_scale(data):
                        scales[_unnamed(attribute - 8)] = _scale(data)
                    elif data[:1] and data[0] not in (ARRAY, STRUCTURE):
                        values.append((0, _unnamed(attribute), _value(data)))
            except Malformed as error:
                self._found.append(Rejected(self._begun, "data", f"{_name(key)}: {error}"))
        readings = []
        for class_id, obis, value in values:
            reading = _reading(class_id, obis, value, scales)
            if reading is None:
                name = obis_text(obis) if class_id else _short_name(obis)
                self._found.append(
                    Rejected(self._begun, "no scale", f"{name}: {value}, the session says no scale of it")
                )
            else:
                readings.append(reading)
        if readings or timestamp:
            registers = tuple(register_of(reading, None) for reading in readings)
            meter_id = next((meter_ids[code] for code in _NUMBERS_OF_METER if meter_ids.get(code)), None)
            self._found.append(
                Telegram(
                    "dlms", self._begun, meter_id, timestamp, registers, checked=self._checked, cipher=self._cipher
                )
            )
        self._forget()

    def _named(self, key: Key) -> tuple[Key, bool]:
        """A short name as class, code and attribute, where it is known whose it is."""
        class_id, _, name = key
        if class_id:
            return key, True
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
                    self._names[base & 0xFFFF] = class_id, data[code : code + 6]
        except Malformed as error:
            self._found.append(Rejected(self._begun, "structure", f"object list: {error}"))


def _name(key: tuple[int, bytes, int]) -> str:
    class_id, obis, attribute = key
    return f"{obis_text(obis)} attribute {attribute}" if class_id else f"short name {attribute}"


def _unnamed(name: int) -> bytes:
    """What stands for the code of a value whose short name (of the attribute) nobody explains."""
    return bytes((0, name >> 8 & 0xFF, name & 0xFF))


def _value(data: bytes) -> Value:
    """A value of one element. Raises Malformed for any other."""
    if Axdr().parse(data, 0, len(data)) != len(data):
        raise Malformed("data of another length")
    number = integer(data, 0)
    if number is not None:
        return number
    tag = data[0]
    if tag == _BOOLEAN:
        return data[1] != 0
    at, n = string_at(data, 0, len(data))
    if not at:
        raise Malformed(f"data of type 0x{tag:02X} are no reading" if tag else "no data")
    text = data[at : at + n]
    return text if tag == OCTETS else ascii_text(text) or text


def _is_scale(data: bytes) -> bool:
    return len(data) == 6 and data[0] == STRUCTURE and data[1] == 2 and data[2] == INT8 and data[4] == ENUM


def _scale(data: bytes) -> tuple[int, int]:
    if not _is_scale(data):
        raise Malformed("no scaler and unit")
    return signed(data[3], 8), data[5]


def _date_time(data: bytes) -> tuple[int, ...] | None:
    """The 12 bytes of a clock (Green Book, 4.1.6.1) as date_time_text() takes them. Raises Malformed."""
    if data[:2] == bytes((OCTETS, _TWELVE)):
        data = data[2:]
    elif data[:1] == bytes((_DATE_TIME,)):
        data = data[1:]
    if len(data) != _TWELVE:
        raise Malformed("no date and time of 12 bytes")
    deviation = signed(data[9] << 8 | data[10], 16)
    local = (data[0] << 8 | data[1], *data[2:4], *data[5:8])
    return (*local, None if deviation == -0x8000 else deviation)  # type: ignore[return-value]


def _reading(class_id: int, obis: bytes, value: Value, scales: Mapping[bytes, tuple[int, int]]) -> Reading | None:
    """The reading; None for the count of a register whose scale is not known."""
    exponent, unit = 0, None
    if class_id != _DATA and isinstance(value, int) and not isinstance(value, bool):
        if obis not in scales:
            return None
        exponent, unit = scales[obis]
    reading = Reading(obis, value, exponent, None if unit == _NO_UNIT else unit)
    if not class_id:
        reading.address = _short_name(obis)  # type: ignore[assignment]
        reading.printed_unit = unit_symbol(reading.unit)  # type: ignore[assignment]
    return reading


def _short_name(obis: bytes) -> str:
    return f"short name {obis[1] << 8 | obis[2]}"
