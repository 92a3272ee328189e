"""The data sets of a block, as printed, at the start of its listener's buffer: kept while it arrives, walked behind it.

Source: IEC 62056-21:2002, 5.5 (data set). What is kept:

    OPT5X1        1.8.0(0012.345*kWh) 1.6.1(09.48*kW)(16-03-14,18:45) ...  | free
    identification                                                        end

`1.8.0*00` is a running total where the block has no `1.8.0` (Pafal and Apator EC3); where it has (Landis+Gyr ZMD310),
it is an empty place of the history. So are the sets between a `(` that ends its line and its `)`: Holley's P1 meters
print the month before so, behind 0-0:98.1.0, with the addresses of now. A message that nobody has written is left out
with them (0-0:96.13.0; Sanxing: 1,024 bytes FF, Holley: FF in digits).
"""

from metering.characters import latin_text
from metering.checksum import ARC, crc_table
from metering.compat import SLICES_ARE_CHEAP, const, copy_bytes
from metering.iec62056_21.printed import (
    PrintedReading,
    address_of,
    decimals,
    implied_unit,
    is_history,
    is_total_of_none,
    may_be_address,
    parse_code,
    readable_name,
    unit_code,
    unit_of,
    unmapped,
)

TABLE = crc_table(ARC)

_CR = const(0x0D)
_BLANK = const(0x20)
_END = const(0x21)  # !
_AND = const(0x26)  # &
_OPEN = const(0x28)  # (
_CLOSE = const(0x29)  # )
_STAR = const(0x2A)  # *
_PLUS = const(0x2B)
_MINUS = const(0x2D)
_ONE = const(0x31)
_FILL = const(0xFF)
_LONG = const(128)  # more than a key or a status word has
_SIX = const(0x36)

ROOM = const(1280)  # bytes that a data set may take; a DSMR text message of 512 characters is 1,024 digits
_MAX_ADDRESS = const(24)  # 1-0:1.8.0*255 and some blanks
_PRINTABLE = bytes(range(_BLANK, 0x7F)) if SLICES_ARE_CHEAP else b""
_VERSION = b"1-3:0.2.8("
_CRC_SINCE = const(40)  # DSMR 4.0 and later, by 1-3:0.2.8

_ELECTRICITY = const(1)  # A
_HEAT = const(6)  # A, and C of its energies
_HEAT_METER = const(9)  # C of a heat meter's own registers
_MBUS = const(24)  # C of what P1 tells of gas, heat and water meters
_MBUS_VALUE = const(6)  # 0-1:24.3.0(time)(status)(interval)(count)(code)(unit) and on the next line (value)
_NO_MAIN = const(-1)
_RUNNING = const(255)  # F

# Where a meter says who it is, the best first: C.D.E of its own (B = 0, or 1 where all its registers are) registers.
# 42.0.0 is Luxembourg's, the last two are heat meters'.
_IDENTIFIERS = (
    (96, 1, 0), (0, 0, 0), (96, 1, 1), (96, 1, 255), (42, 0, 0), (0, 0, 1), (9, 20, 0), (9, 21, 0),
)  # fmt: skip


def identifies(obis):
    """May the register `obis` be the one that says which meter it is?"""
    return _is_own(obis) and tuple(obis[2:5]) in _IDENTIFIERS


def _is_own(obis):
    return obis[1] == 0 or obis[0] == obis[1] == 1


class Group:
    """One bracket: `obis` (None: its address is no code), `address` as printed, and where value and unit lie.

    `unit_at` 0: no unit. `decimals` -1: no plain number. `is_companion`: not its register's value itself.
    """

    def __init__(self):
        self.obis: bytes | None = None
        self.address = ""
        self.value_at = self.value_end = self.unit_at = self.unit_end = 0
        self.decimals = -1
        self.is_companion = False
        self.named_unit_at = self.named_unit_end = 0  # of a unit that stands in a bracket of its own


class DataSets:
    """The sets of one block in `buf`, a buffer that is its listener's.

    `end`: how much of the buffer they take. `n_sets`: how many came, kept or not; `n_values` the groups kept;
    `n_dropped` the sets past the room; `n_strays` the lines that are none; `end_seen` whether the `!` came.
    `must_check`: a P1 version that has a CRC; `heat`: a heat meter's block. Allocates nothing until it is walked, but
    for an address with *00 or &00.
    """

    def __init__(self, buf, view):
        self._buf = buf
        self._view = view
        self._code = bytearray(6)
        self.end = self.identification = 0
        self.begin()

    def begin(self):
        self.n_sets = self.n_values = self.n_dropped = self.n_strays = 0
        self.end_seen = self.must_check = self.heat = False
        self._left_out = False  # was the set before not kept? Then its nameless groups are not either
        self._in_profile = False

    def begin_with(self, at, end):
        """Begin a block with the identification line _buf[at:end], bit 7 of each character a parity bit or 0."""
        self.begin()
        buf = self._buf
        self.end = 0
        for i in range(at, end):
            byte = buf[i] & 0x7F
            if byte >= _BLANK:
                buf[self.end] = byte
                self.end += 1
        self.identification = self.end

    def take(self, at, stop, framed, history):
        """Keep the sets of some lines; returns where their `!` is, or -1. A line with anything else is counted."""
        buf = self._buf
        while True:
            while at < stop and buf[at] <= _BLANK:
                if buf[at] not in b"\n\r ":
                    self.n_strays += 1
                at += 1
            if at == stop:
                return -1
            if buf[at] == _END:
                self.end_seen = True
                return at
            if buf[at] == _CLOSE:
                self._in_profile = False
            end = buf.find(b"\n", at, stop)
            if end < 0:
                end = stop
            first = behind = buf.find(b"(", at, end)
            n_groups = 0
            if behind == at:  # nameless: it belongs to the set before it
                behind = at if self.n_sets else -1
            elif behind - at > _MAX_ADDRESS or behind > 0 and not may_be_address(buf, at, behind):
                behind = -1
            while 0 <= behind < end and buf[behind] == _OPEN:
                opened = behind + 1
                behind = buf.find(b")", opened, end) + 1
                if not behind or buf.find(b"(", opened, behind) >= 0:
                    behind = -1
                n_groups += 1
            if behind >= 0:
                self._keep(at, first, behind, n_groups, history)
                at = end if behind + 1 == end and buf[behind] == _CR else behind
                continue
            self.n_strays += 1
            if buf[end - 1 - (buf[end - 1] == _CR)] == _OPEN:
                self._in_profile = True
            bang = buf.find(b"!", at, end)
            if framed and bang >= 0:
                self.end_seen = True
                return bang
            at = end

    def _keep(self, at, opened, behind, n_groups, history):
        """Keep the set _buf[at:behind], its first bracket at `opened`, or count it where there is no room."""
        buf = self._buf
        self.n_sets += 1
        if not history and (
            self._in_profile
            or buf[behind - 2] == _FILL
            or behind - opened > _LONG and buf.find(b"(FFFFFFFF", opened, opened + 9) == opened
        ):
            self._left_out = True
        elif opened != at:
            first = buf[at]
            self._left_out = False
            if first == _SIX or not history and (buf.find(b"*", at, opened) >= 0 or buf.find(b"&", at, opened) >= 0):
                code = self._code
                end = opened
                while buf[end - 1] == _BLANK:
                    end -= 1
                if parse_code(buf, at, end, code):
                    if not history and is_history(code):
                        self._left_out = not is_total_of_none(code) or self._has_running(at, end)
                    self.heat = self.heat or code[0] == _HEAT
            elif first == _ONE and buf.find(_VERSION, at, behind) == at:
                self.must_check = self._is_since(opened + 1, behind - 1)
        if self._left_out:
            return
        n = behind - at
        if self.end + n > len(buf) - ROOM:
            self._left_out = True
            self.n_dropped += 1
            return
        copy_bytes(buf, self.end, buf, at, n)
        self.end += n
        self.n_values += n_groups

    def _has_running(self, at, end):
        """Has a set been kept with the address _buf[at:end] but without its *00?"""
        star = max(self._buf.rfind(b"*", at, end), self._buf.rfind(b"&", at, end))
        return self._holds(bytes(self._view[at:star]) + b"(")

    def _holds(self, address):
        """Where a set kept begins with `address`, 0 for nowhere."""
        buf = self._buf
        at = buf.find(address, self.identification, self.end)
        while at > self.identification and buf[at - 1] != _CLOSE:
            at = buf.find(address, at + 1, self.end)
        return max(at, 0)

    def _is_since(self, at, end):
        """Is _buf[at:end] the version of a P1 that has a CRC?"""
        version = 0
        for i in range(at, end):
            if not 0x30 <= self._buf[i] <= 0x39:
                return False
            version = min(version * 10 + self._buf[i] - 0x30, _CRC_SINCE)
        return version >= _CRC_SINCE

    # -- what acceptance asks

    def is_printable(self):
        """Are all sets kept made of printable characters?"""
        buf = self._buf
        if SLICES_ARE_CHEAP:
            return not buf[: self.end].translate(None, _PRINTABLE)
        for i in range(self.end):
            if not _BLANK <= buf[i] < 0x7F:
                return False
        return True

    def is_clean(self):
        """Are all addresses known by their form, and is all that has a unit a number?"""
        for group in self.walk():
            if not group.obis or group.unit_at and group.decimals < 0 and group.value_end > group.value_at:
                return False
        return True

    def form(self, crc):
        """A number for all that is kept but the digits of values, and the sign they have. Begins with `crc`.

        A to F are digits where there is no unit: status words and clocks are printed so (eBZ DD3).
        """
        buf, end, table = self._buf, self.end, TABLE
        at = self.identification
        while at < end:
            opened = buf.find(b"(", at, end)
            behind = opened + 1 or end
            for i in range(at, behind):
                crc = crc >> 8 ^ table[crc & 0xFF ^ buf[i]]
            at = behind
            if opened < 0:
                break
            behind = buf.find(b")", at, end)
            has_unit = buf.find(b"*", at, behind) >= 0
            value = True
            for i in range(at, behind):
                byte = buf[i]
                if byte == _STAR:
                    value = False
                elif byte == _AND:
                    value = True
                elif value:
                    if 0x30 <= byte <= 0x39 or not has_unit and 0x41 <= byte <= 0x46:
                        byte = 0x30
                    elif byte == _PLUS:
                        byte = _MINUS
                crc = crc >> 8 ^ table[crc & 0xFF ^ byte]
            at = behind
        return self.end << 16 | crc

    # -- walking

    def walk(self, at=0, end=0):
        """Yields a Group, the same one each time, for each bracket of the sets kept, or of those in _buf[at:end]."""
        buf, view = self._buf, self._view
        group = Group()
        at = at or self.identification
        end = end or self.end
        while at < end:
            opened = buf.find(b"(", at, end)
            end_at = opened
            if buf[opened - 1] == _BLANK:
                at, end_at = self.stripped(at, opened)
            printed = bytes(view[at:end_at])
            code, group.address = address_of(printed)
            if code and (code[5] == 0 or self.heat and code[0] == _ELECTRICITY):
                code = self._meant(code, printed)
            group.obis = code
            group.named_unit_at = 0
            closed = buf.find(b")", opened, end)
            at = closed + 1
            if (at == end or buf[at] != _OPEN) and not (code and code[2] == _MBUS):  # nearly all have one group
                self._split(group, opened + 1, closed)
                group.is_companion = False
                yield group
                continue
            main = self._main_group(code, opened, end)
            index = 0
            at = opened
            while at < end and buf[at] == _OPEN:
                closed = buf.find(b")", at, end)
                before = group.value_at
                before_end = group.value_end
                self._split(group, at + 1, closed)
                group.named_unit_at = 0
                if index == main == _MBUS_VALUE:
                    group.named_unit_at, group.named_unit_end = before, before_end
                    group.decimals = decimals(buf, group.value_at, group.value_end)
                group.is_companion = index != main
                yield group
                index += 1
                at = closed + 1

    def _meant(self, code, printed):
        """`code` of the address `printed` as the rest of the block shows it to be meant."""
        if is_total_of_none(code):
            star = max(printed.rfind(b"*"), printed.rfind(b"&"))
            named = printed + b"("
            first = self._holds(named)
            if first and not self._holds(printed[:star] + b"(") and self._buf.find(named, first + 1, self.end) < 0:
                return code[:5] + bytes((_RUNNING,))
        elif code[2] in (_HEAT, _HEAT_METER) and printed.find(b"-") < 0:
            return bytes((_HEAT,)) + code[1:]
        return code

    def _main_group(self, code, at, end):
        """Which group, from 0 on, is the register's value: the first with a unit, else the first.

        -1 for none: a gas meter that has not been heard yet (T211: a date of 63-25-25, and no unit).
        """
        if code and code[2] == _MBUS and code[3] == 3:
            return _MBUS_VALUE  # DSMR 2 and 3
        buf = self._buf
        index = 0
        while at < end and buf[at] == _OPEN:
            closed = buf.find(b")", at, end)
            if buf.find(b"*", at, closed) >= 0:
                return index
            index += 1
            at = closed + 1
        return _NO_MAIN if code and code[2] == _MBUS and code[3] == 2 else 0

    def stripped(self, at, end):
        """at and end without the blanks on either side."""
        buf = self._buf
        while at < end and buf[at] == _BLANK:
            at += 1
        while end > at and buf[end - 1] == _BLANK:
            end -= 1
        return at, end

    def _split(self, group, at, end):
        """value*unit, "value unit" (Iskra MT171), or a value alone; with two or more * it is kept whole."""
        buf = self._buf
        star = buf.find(b"*", at, end)
        group.unit_at = group.unit_end = 0
        blank = buf.find(b" ", at, end)
        if star >= 0 and buf.find(b"*", star + 1, end) < 0:
            group.value_at, group.value_end, group.unit_at, group.unit_end = at, star, star + 1, end
            if blank >= 0:
                group.value_at, group.value_end = self.stripped(at, star)
                group.unit_at, group.unit_end = self.stripped(star + 1, end)
            if group.unit_at == group.unit_end:
                group.unit_at = 0
            group.decimals = decimals(buf, group.value_at, group.value_end)
            return
        group.value_at, group.value_end = at, end
        if blank >= 0:
            group.value_at, group.value_end = self.stripped(at, end)
        group.decimals = -1
        if star < 0 and (blank >= 0 or buf.find(b".", at, end) >= 0):
            group.decimals = decimals(buf, group.value_at, group.value_end)
            blank = buf.find(b" ", group.value_at, group.value_end)
            if blank > 0 and decimals(buf, group.value_at, blank) >= 0:
                unit_at = self.stripped(blank, group.value_end)[0]
                if unit_code(bytes(self._view[unit_at : group.value_end]))[0]:
                    group.unit_at, group.unit_end = unit_at, group.value_end
                    group.value_end = blank
                    group.decimals = decimals(buf, group.value_at, blank)

    def text(self, at, end):
        return latin_text(self._view[at:end])

    def readings(self, at=0, end=0):
        """Yields a PrintedReading for each group that walk() yields.

        The number of a register without a unit is a text, but for an energy with decimals, which is kWh (Hager eHZ), a
        power factor, and what has its unit in another bracket.
        """
        view = self._view
        known = None, 0, ""
        known_unit = b""  # of the register before: it is this one's too, as a rule
        for group in self.walk(at, end):
            obis, n_decimals = group.obis, group.decimals
            printed = self.text(group.value_at, group.value_end)
            unit_text = None
            unit, power = None, 0
            is_number = False
            if group.unit_at:
                printed_unit = bytes(view[group.unit_at : group.unit_end])
                if printed_unit != known_unit:
                    known_unit = printed_unit
                    known = unit_of(printed_unit)
                unit, power, unit_text = known
                is_number = n_decimals >= 0
            elif group.named_unit_at:
                unit, power, _ = unit_of(bytes(view[group.named_unit_at : group.named_unit_end]))
                is_number = n_decimals >= 0 and unit is not None
            elif n_decimals > 0 and obis and not group.is_companion:
                implied = implied_unit(obis)
                if implied:
                    unit, power = implied
                    is_number = True
            address = group.address
            reading = PrintedReading(obis or unmapped(address), address, printed, unit_text, group.is_companion)
            if is_number:
                reading.take_number(n_decimals, unit, power)
            yield reading

    def meter_name(self):
        """The number printed on the meter where a register tells it, "" where none does."""
        best = len(_IDENTIFIERS)
        text = ""
        for group in self.walk():
            code = group.obis
            if group.is_companion or not code or not _is_own(code):
                continue
            for rank in range(best):
                if _IDENTIFIERS[rank] == (code[2], code[3], code[4]):
                    printed = self.text(group.value_at, group.value_end)
                    if printed.strip("0") and not (len(printed) == 4 and printed[:2] == "ER"):  # Iskra IE.7: no value
                        best = rank
                        text = readable_name(printed, code[4] == 1)
                    break
        return text
