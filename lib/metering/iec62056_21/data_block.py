"""IEC 62056-21 data blocks: what a meter prints when it is asked, and what D0 and P1 meters push by themselves.

Source: IEC 62056-21:2002, 5 (identification message, data message, block check) and 6 (modes A to D); DSMR P1 companion
standard 5.0.2, 6.2 (CRC-16). Asking is metering.iec62056_21.poll's.

    /ISk5\\2MT382-1003 CR LF                   identification: maker, baud character, \\2 enhancement, identification
    STX 1.8.0(0012.345*kWh) CR LF ... ! CR LF ETX BCC        asked (modes A to C): BCC over what follows STX, ETX too
    CR LF 1-0:1.8.0*255(0012.345*kWh) CR LF ... ! CR LF      pushed (mode D, D0): no check at all
    CR LF 1-0:1.8.0(012.345*kWh) CR LF ... !8FC7 CR LF       pushed (P1 from DSMR 4 on): CRC-16/ARC from / to !

A line is taken as it arrives: counted into BCC or CRC, checked for its parity where bit 7 carries one (a `/` of AF
instead of 2F says so), split into data sets, and its sets are kept as printed at the start of the buffer. Nothing of
them is told before the block has ended and its check has held:

    hunting --an identification line--> inside --STX--> framed --ETX and BCC right--> TELEGRAM
                                        inside --!, and CRC right or none expected--> TELEGRAM
                                        either --an identification line, a wrong check, parity or length--> REJECTED

    _buf   | identification and sets kept ...|  free  | bytes not taken yet ... |  free  |
           0                            _staged      _at                       _n

The bound: sets are kept up to _ROOM before the buffer's end; what a block holds beyond is checked but not kept, and
counted in `values_dropped`. A 9,528-byte read-out of an Iskra MT174 with 15 months of history takes 758 bytes, with it
(`history`) 8,828; the most of some forty meters is 1,322, of a P1 telegram. One data set must fit into what is left,
_ROOM at the least.

A read-out that was asked for (`needs_check`) must have its `!` and BCC. Eight bits of exclusive or let two equal lost
characters by, so it must also be like the one before it in length and in all but its digits (the first one: on a line
that has shown no fault), or come twice in its new shape.

A telegram without any check is taken only when it has its end and every line of it is data sets; never once a
telegram of the same identification has carried a check, nor one of a P1 version that must.
"""

from metering.characters import is_even, is_made_of, latin_text
from metering.checksum import ARC, crc_table
from metering.compacting_listener import CompactingListener
from metering.compat import ascii_text, const, copy_bytes
from metering.iec62056_21.block_check import crc16_part, xor_part
from metering.iec62056_21.printed import (
    PrintedReading,
    address_of,
    decimals,
    is_history,
    parse_code,
    unit_code,
    unit_of,
)
from metering.line import Line
from metering.listener import NOTHING

_TABLE = crc_table(ARC)

_LF = const(0x0A)
_CR = const(0x0D)
_BLANK = const(0x20)
_END = const(0x21)  # !
_OPEN = const(0x28)  # (
_SLASH = const(0x2F)

BUFFER_SIZE = const(3072)
_ROOM = const(1280)  # bytes that a data set may take; a DSMR text message of 512 characters is 1,024 digits
_SIGN_ON_BAUD = const(300)
_MOST_BLOCK = const(65536)  # bytes without an end; the longest read-out met has 9,528
_MAX_IDENTIFICATION = const(64)  # 3 + 1 + 16 by the standard; meters print up to 30
_MAX_ADDRESS = const(24)  # 1-0:1.8.0*255 and some blanks
_MAX_CRC_DIGITS = const(4)
_M_BUS_VALUE = const(6)  # 0-1:24.3.0(time)(status)(interval)(count)(code)(unit) and on the next line (value)
_ADDRESS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-:.*& "
_PRINTABLE = bytes(range(0x20, 0x7F))
_VERSION = b"1-3:0.2.8("
_ONE = const(0x31)
_SIX = const(0x36)
_HEAT = const(6)  # A
_HEX_IDENTIFIER = const(8)  # digits at the least of what P1 spells in hexadecimal
_CRC_SINCE = const(40)  # DSMR 4.0 and later, by 1-3:0.2.8

# Where a meter says who it is, the best first: C.D.E of its own (B = 0) registers. The last two are heat meters'.
_IDENTIFIERS = ((96, 1, 0), (0, 0, 0), (96, 1, 1), (96, 1, 255), (0, 0, 1), (9, 20, 0), (9, 21, 0))


def _hex_digit(byte):
    """0..15, -1 where `byte` is no hexadecimal digit."""
    if 0x30 <= byte <= 0x39:
        return byte - 0x30
    byte |= 0x20
    return byte - 0x57 if 0x61 <= byte <= 0x66 else -1


def identification_end(buf, at, end):
    """Where the identification line that begins with the `/` at `at` ends; 0: not seen by `end`, -1: it is none.

    / then three letters of the maker, the baud character and printable ones, no brackets among them, until LF. The
    same parity that the `/` shows (2F none, AF even) is on every character.
    """
    parity = buf[at] != _SLASH
    for i in range(at + 1, min(end, at + _MAX_IDENTIFICATION)):
        byte = buf[i]
        if parity:
            if not is_even(byte):
                return -1
            byte &= 0x7F
        n = i - at
        if byte == _LF:
            return i + 1 if n > 4 else -1
        if n <= 3:
            if not (0x41 <= byte <= 0x5A or 0x61 <= byte <= 0x7A):
                return -1
        elif byte in b"/!()" or not _BLANK <= byte < 0x7F:
            if byte != _CR or n == 4:
                return -1
    return 0 if end < at + _MAX_IDENTIFICATION else -1


def identifies(obis):
    """May the register `obis` be the one that says which meter it is?"""
    return obis[1] == 0 and tuple(obis[2:5]) in _IDENTIFIERS


class Iec62056_21(CompactingListener):
    """Listener for data blocks and pushed telegrams. Allocates per telegram a generator, per reading the Reading.

    Of the telegram in hand, besides what every listener tells: `checked` True where a BCC or CRC has held, `framed`
    where STX began it, `parity` where all of it had even parity in bit 7; `ident_flag`, `ident_baud`, `ident_id` the
    texts of its identification line, `heat` True where it is a heat meter's, `length` its bytes in the stream.
    `needs_check` is the driver's to set where it knows that a check must come.
    """

    NAME = "iec62056-21"
    LINES = (Line(9600, 7, "E"), Line(2400, 7, "E"), Line(115200))
    SOURCE = "IEC 62056-21:2002; DSMR P1 5.0.2"
    LARGE_BUFFER = 65536
    REASONS = ("checksum", "no checksum", "parity", "cut off", "too long", "line", "shape", "no data")

    def __init__(self, size=BUFFER_SIZE):
        CompactingListener.__init__(self, size)
        self._searched = 0  # of those not taken, how many hold no line end
        self._inside = False
        self.parity = False
        self._whole_length = self._whole_shape = 0  # of the last read-out asked for,
        self._whole_line_crc = -1  # and its identification
        self._once_checked = -1  # CRC of the identification line whose telegrams carry a check
        self._code = bytearray(6)  # of the data set in hand
        self._value_at = self._value_end = self._unit_at = self._unit_end = 0  # of the group in hand
        self._decimals = -1
        self._address = ""
        self._obis = None
        self._left_out = False  # was the set before not kept? Then its nameless groups are not either
        self.framed = self._end_seen = self._must_check = False
        self._crc = self._line_crc = self._bcc = self._sets = self._strays = 0

    def _reset_telegram(self):
        CompactingListener._reset_telegram(self)
        self.checked = False
        self.heat = False
        self.length = 0
        self._identification = 0  # bytes of the identification line kept

    # -- the buffer

    def _drop(self, n):
        CompactingListener._drop(self, n)
        self._searched = 0

    def abandon(self):
        """Forget what is held: the driver knows that no more of it will come, or that it starts anew."""
        if self._inside:
            self.rejected["cut off"] += 1
        self._inside = False
        self._used = self._staged = 0
        self._drop(self._n - self._at)
        self._close_gap()

    # -- framing

    def _judge(self):
        while True:
            if not self._inside and not self._hunt():
                return NOTHING
            event = self._take_line()
            if event is not None:
                return event

    def _fail(self, reason, detail, used):
        self._inside = False
        return CompactingListener._fail(self, reason, detail, used)

    def _hunt(self):
        """Find an identification line among the bytes not taken; False where there is none yet."""
        buf = self._buf
        while True:
            at = buf.find(b"/", self._at, self._n)
            other = buf.find(b"\xaf", self._at, self._n if at < 0 else at)
            if other >= 0:
                at = other
            if at < 0:
                self._skip_noise(self._n - self._at)
                self._close_gap()
                return False
            self._skip_noise(at - self._at)
            behind = identification_end(buf, at, self._n)
            if behind > 0:
                break
            if behind == 0 and not self._ended:
                return False
            self._skip_noise(1)
        self._reset_telegram()
        self._start = self._position
        self._inside = True
        self.framed = self._end_seen = self._must_check = False
        self._bcc = self._sets = self._strays = 0
        self.parity = buf[at] != _SLASH
        self._crc = self._line_crc = crc16_part(self._view, at, behind, 0, _TABLE)
        self._staged = 0
        for i in range(at, behind):
            byte = buf[i] & 0x7F
            if byte >= _BLANK:
                buf[self._staged] = byte
                self._staged += 1
        self._identification = self._staged
        self._drop(behind - at)
        return True

    def _take_line(self):
        """Take one line, or what stands for one; None to go on, else what next_event() says."""
        buf, at, n = self._buf, self._at, self._n
        end = buf.find(b"\n", at + self._searched, n)
        stop = n if end < 0 else end + 1
        if not self.framed and not self._sets:
            stx = buf.find(b"\x82" if self.parity else b"\x02", at, stop)
            if stx >= 0:  # what stood before it was an echo, or the switch to another rate
                self.framed = True
                self._strays = 0
                self._drop(stx + 1 - at)
                return None
        if self.framed:
            etx = buf.find(b"\x03", at + self._searched, stop)
            if etx >= 0:
                return self._take_block_end(etx)
        if end < 0:
            self._searched = n - at
            if self._ended:
                return self._take_stream_end()
            if n < len(buf):
                return NOTHING
            self._close_gap()
            if self._n < len(buf):
                return NOTHING
            stop = buf.rfind(b")", self._at, self._n) + 1  # a line without an end: what is whole of it will do
            while stop and stop < self._n and buf[stop] == _OPEN:
                stop = buf.rfind(b")", self._at, stop - 1) + 1
            if not stop or stop == self._n:
                return self._fail("too long", "no end of a line within %d bytes" % (self._n - self._at), 1)
            at = self._at
        elif not self.parity and (self.framed or self._sets or buf.find(b"\x02", stop, n) < 0):
            stop = self._plain_lines(at, stop)
        if self._since(at) > _MOST_BLOCK:
            return self._fail("too long", "no end within %d bytes" % _MOST_BLOCK, stop - at)
        restart = self._restart(at, stop)
        if restart >= 0 and not self.framed and buf.find(b"!", at, restart) >= 0:
            stop = restart  # no line end behind the end mark
        elif restart >= 0:
            detail = "a new identification line after %d bytes" % self._since(restart)
            return self._fail("cut off", detail, restart - at)
        if self.parity and not self._strip_parity(at, stop):
            return self._fail("parity", "an odd character after %d bytes" % self._since(at), 0)
        if self.framed:
            self._count_bcc(at, stop)
            if self._take_sets(at, stop) >= 0:
                self._end_seen = True
        else:
            if buf.find(b"!", at, stop) >= 0:
                ended = self._take_end(at, stop)
                if ended is not None:
                    return ended
            else:
                self._crc = crc16_part(self._view, at, stop, self._crc, _TABLE)
                self._take_sets(at, stop)
        self._drop(stop - at)
        return None

    def _plain_lines(self, at, stop):
        """Behind the line at..stop: the end of those that hold nothing but data sets. They are taken with it."""
        buf = self._buf
        end = self._n
        for mark in (b"!", b"\x03", b"/", b"\xaf"):
            found = buf.find(mark, at, end)
            if found >= 0:
                end = found
        return max(stop, buf.rfind(b"\n", at, end) + 1)

    def _restart(self, at, stop):
        """Where in this line another identification line begins, which tells that the telegram before it was cut."""
        buf = self._buf
        for slash in (b"/", b"\xaf"):
            found = buf.find(slash, at, stop)
            while found >= 0:
                if identification_end(buf, found, stop) > 0:
                    return found
                found = buf.find(slash, found + 1, stop)
        return -1

    def _strip_parity(self, at, stop):
        buf = self._buf
        for i in range(at, stop):
            byte = buf[i]
            if not is_even(byte):
                return False
            buf[i] = byte & 0x7F
        return True

    def _count_bcc(self, at, stop):
        self._bcc = xor_part(self._view, at, stop, self._bcc)

    def _take_block_end(self, etx):
        """ETX and BCC of a framed block; what stands between the last line end and them is a line too."""
        buf, at = self._buf, self._at
        if etx + 1 >= self._n:
            return self._fail("cut off", "no BCC", etx + 1 - at) if self._ended else NOTHING
        if self.parity and not self._strip_parity(at, etx + 1):
            return self._fail("parity", "an odd character after %d bytes" % self._since(at), etx + 1 - at)
        self._count_bcc(at, etx + 1)
        sent = buf[etx + 1]
        if self.parity and is_even(sent):  # it stays as it came: it may be the next telegram's first
            sent &= 0x7F
        if self._bcc != sent:  # it may be lost, and this the next telegram's
            return self._fail("checksum", "sent %02x, computed %02x" % (sent, self._bcc), etx + 1 - at)
        if self._take_sets(at, etx) >= 0:
            self._end_seen = True
        return self._end(True, etx + 2 - at)

    def _take_end(self, at, stop):
        """A line with a `!` in a telegram without STX: its end, with nothing or the CRC in up to four hex digits.

        None where the `!` belongs to a value. Sets are kept last, as that moves the bytes the CRC is over.
        """
        buf = self._buf
        bang = buf.rfind(b"!", at, stop)
        computed = crc16_part(self._view, at, bang + 1, self._crc, _TABLE)
        crc = crc16_part(self._view, bang + 1, stop, computed, _TABLE)
        if self._take_sets(at, stop) != bang:
            self._crc = crc
            return None
        crc = digits = 0
        i = bang + 1
        while i < stop and digits < _MAX_CRC_DIGITS and _hex_digit(buf[i]) >= 0:
            crc = crc << 4 | _hex_digit(buf[i])
            digits += 1
            i += 1
        if i < stop and buf[i] not in b"\r\n /\xaf":
            return self._fail("checksum", "%02x behind the end" % buf[i], bang + 1 - at)
        if not digits:
            return self._end(False, i - at)
        if computed != crc:
            return self._fail("checksum", "sent %04x, computed %04x" % (crc, computed), i - at)
        return self._end(True, i - at)

    def _take_stream_end(self):
        """Nothing more will come: a block that has had its `!` is whole, though it lost what checks it."""
        at, n = self._at, self._n
        if self.framed and self._end_seen and not bytes(self._view[at:n]).strip():
            return self._end(False, n - at)
        if not self.framed and at < n and self._restart(at, n) < 0:
            if not self.parity or self._strip_parity(at, n):
                ended = self._take_end(at, n) if self._buf.find(b"!", at, n) >= 0 else None
                if ended is not None:
                    return ended
        return self._fail("cut off", "the stream ended", n - at)

    def _end(self, checked, used):
        """The block has ended well: a telegram, unless it lacks a check it must have."""
        self.length = self._since(self._at + used)
        if checked:
            if self.framed and self._strays and not self._end_seen:  # cut off, and noise that eight bits let by
                return self._fail("line", "no end mark, and not every line is data sets", used)
            self._once_checked = self._line_crc
            if self.framed and not self._is_printable():
                return self._fail("line", "a control character in a value", used)
            if self.framed and self.needs_check and not self._is_whole():
                return self._fail("shape", "%d bytes, unlike the one before, or without its end" % self.length, used)
        elif self.needs_check or self._must_check or self._once_checked == self._line_crc:
            return self._fail("no checksum", "an end without a check", used)
        elif self._strays or not self._is_printable() or not self._is_clean():
            return self._fail("line", "no check, and not every line is data sets", used)
        if not self._sets:
            return self._fail("no data", "no data set in the block", used)
        self.checked = checked
        self.proven = checked or self.parity
        self._inside = False
        return self._believe(used)

    def _is_printable(self):
        """Are all sets kept made of printable characters?"""
        return is_made_of(self._buf, 0, self._staged, _PRINTABLE)

    def _is_whole(self):
        """Has the read-out its `!`, and is it like the one before it in all but its digits?"""
        shape = 0
        for i in range(self._identification, self._staged):
            byte = self._buf[i]
            shape = shape >> 8 ^ _TABLE[(shape ^ (0x30 if 0x30 <= byte <= 0x39 else byte)) & 0xFF]
        if self._line_crc == self._whole_line_crc:
            as_before = self.length == self._whole_length and shape == self._whole_shape
        else:  # the first one: there is nothing against it on a line without faults
            as_before = not any(self.rejected.values())
        self._whole_length = self.length
        self._whole_shape = shape
        self._whole_line_crc = self._line_crc
        return as_before and self._end_seen

    def _is_clean(self):
        """Are all addresses known by their form, and is all that has a unit a number?"""
        for _ in self._walk():
            if not self._obis or self._unit_at and self._decimals < 0 and self._value_end > self._value_at:
                return False
        return True

    def is_reply(self, line):
        """A sign-on is answered at 300 baud; what is framed at another rate, its identification too, is pushed."""
        return self.framed and line.baud == _SIGN_ON_BAUD

    def line_as_sent(self, line):
        if self.parity:
            return Line(line.baud, 7, "E", line.stop, line.invert)
        return Line(line.baud, line.bits, line.parity, line.stop, line.invert)

    # -- data sets

    def _take_sets(self, at, stop):
        """Keep the data sets of some lines; returns where their `!` is, or -1. A line with anything else is counted."""
        buf = self._buf
        while True:
            while at < stop and buf[at] <= _BLANK:
                if buf[at] not in b"\n\r ":
                    self._strays += 1
                at += 1
            if at == stop:
                return -1
            if buf[at] == _END:
                return at
            end = buf.find(b"\n", at, stop)
            if end < 0:
                end = stop
            first = behind = buf.find(b"(", at, end)
            n_groups = 0
            if behind == at:  # nameless: it belongs to the set before it
                behind = at if self._sets else -1
            elif behind - at > _MAX_ADDRESS or behind > 0 and not is_made_of(buf, at, behind, _ADDRESS):
                behind = -1
            while 0 <= behind < end and buf[behind] == _OPEN:
                opened = behind + 1
                behind = buf.find(b")", opened, end) + 1
                if not behind or buf.find(b"(", opened, behind) >= 0:
                    behind = -1
                n_groups += 1
            if behind >= 0:
                self._keep(at, first, behind, n_groups)
                at = end if behind + 1 == end and buf[behind] == _CR else behind
                continue
            self._strays += 1
            bang = buf.find(b"!", at, end)
            if self.framed and bang >= 0:
                return bang
            at = end

    def _keep(self, at, opened, behind, n_groups):
        """Keep the set _buf[at:behind], its first bracket at `opened`, for readings(), or count it without room."""
        buf = self._buf
        self._sets += 1
        if opened != at:
            first = buf[at]
            self._left_out = False
            if first == _SIX or not self.history and (
                buf.find(b"*", at, opened) >= 0 or buf.find(b"&", at, opened) >= 0
            ):
                code = self._code
                end = opened
                while buf[end - 1] == _BLANK:
                    end -= 1
                if parse_code(buf, at, end, code):
                    self._left_out = not self.history and is_history(code)
                    self.heat = self.heat or code[0] == _HEAT
            elif first == _ONE and buf.find(_VERSION, at, behind) == at:
                self._must_check = self._is_since(opened + 1, behind - 1)
        if self._left_out:
            return
        n = behind - at
        staged = self._staged
        if staged + n > len(buf) - _ROOM:
            self._left_out = True
            self.values_dropped += 1
            return
        copy_bytes(buf, staged, buf, at, n)
        self._staged = staged + n
        self.n_values += n_groups

    def _is_since(self, at, end):
        """Is _buf[at:end] the version of a P1 that has a CRC?"""
        version = 0
        for i in range(at, end):
            if not 0x30 <= self._buf[i] <= 0x39:
                return False
            version = min(version * 10 + self._buf[i] - 0x30, _CRC_SINCE)
        return version >= _CRC_SINCE

    def _walk(self):
        """Step through the sets kept; yields, per group, whether it is aside of its register's value.

        Then _address (text), _obis (None: it is no code), _value_at, _value_end, _unit_at (0: no unit), _unit_end and
        _decimals describe it.
        """
        buf, view, end = self._buf, self._view, self._staged
        at = self._identification
        while at < end:
            opened = buf.find(b"(", at, end)
            end_at = opened
            if buf[opened - 1] == _BLANK:
                at, end_at = self._stripped(at, opened)
            self._obis, self._address = address_of(bytes(view[at:end_at]))
            closed = buf.find(b")", opened, end)
            at = closed + 1
            if at == end or buf[at] != _OPEN:  # nearly all have one group
                self._split(opened + 1, closed)
                yield False
                continue
            main = self._main_group(opened, end)
            index = 0
            at = opened
            while at < end and buf[at] == _OPEN:
                closed = buf.find(b")", at, end)
                self._split(at + 1, closed)
                yield index != main
                index += 1
                at = closed + 1

    def _main_group(self, at, end):
        """Which of several groups, from 0 on, is the register's value: the first with a unit, else the first."""
        if self._obis and self._obis[2] == 24 and self._obis[3] == 3:
            return _M_BUS_VALUE  # DSMR 2 and 3
        buf = self._buf
        index = 0
        while at < end and buf[at] == _OPEN:
            closed = buf.find(b")", at, end)
            if buf.find(b"*", at, closed) >= 0:
                return index
            index += 1
            at = closed + 1
        return 0

    def _stripped(self, at, end):
        """at and end without the blanks on either side."""
        buf = self._buf
        while at < end and buf[at] == _BLANK:
            at += 1
        while end > at and buf[end - 1] == _BLANK:
            end -= 1
        return at, end

    def _split(self, at, end):
        """value*unit, "value unit" (Iskra MT171), or a value alone; with two or more * it is kept whole."""
        buf = self._buf
        star = buf.find(b"*", at, end)
        self._unit_at = self._unit_end = 0
        blank = buf.find(b" ", at, end)
        if star >= 0 and buf.find(b"*", star + 1, end) < 0:
            self._value_at, self._value_end, self._unit_at, self._unit_end = at, star, star + 1, end
            if blank >= 0:
                self._value_at, self._value_end = self._stripped(at, star)
                self._unit_at, self._unit_end = self._stripped(star + 1, end)
            if self._unit_at == self._unit_end:
                self._unit_at = 0
            self._decimals = decimals(buf, self._value_at, self._value_end)
            return
        self._value_at, self._value_end = at, end
        if blank >= 0:
            self._value_at, self._value_end = self._stripped(at, end)
        self._decimals = -1
        if star < 0 and (blank >= 0 or buf.find(b".", at, end) >= 0):
            self._decimals = decimals(buf, self._value_at, self._value_end)
            blank = buf.find(b" ", self._value_at, self._value_end)
            if blank > 0 and decimals(buf, self._value_at, blank) >= 0:
                unit_at = self._stripped(blank, self._value_end)[0]
                if unit_code(bytes(self._view[unit_at : self._value_end]))[0]:
                    self._unit_at, self._unit_end = unit_at, self._value_end
                    self._value_end = blank
                    self._decimals = decimals(buf, self._value_at, blank)

    def _text(self, at, end):
        return latin_text(self._view[at:end])

    def readings(self):
        """Yields a PrintedReading for each group in brackets of the sets kept, in the order sent.

        The number of a register without a unit is a text, but for an energy with decimals: that is kWh (Hager eHZ).
        """
        view = self._view
        for aside in self._walk():
            obis, n_decimals = self._obis, self._decimals
            printed = latin_text(view[self._value_at : self._value_end])
            if self._unit_at:
                unit, power, unit_text = unit_of(bytes(view[self._unit_at : self._unit_end]))
                reading = PrintedReading(obis or _unmapped(self._address), self._address, printed, unit_text, aside)
                if n_decimals >= 0:
                    reading.take_number(n_decimals, unit, power)
            else:
                reading = PrintedReading(obis or _unmapped(self._address), self._address, printed, None, aside)
                if n_decimals > 0 and obis and not aside and obis[3] == 8:
                    unit = _implied_unit(obis)
                    if unit:
                        reading.take_number(n_decimals, unit, 3)
            yield reading

    def meter_id(self):
        """The number printed on the meter where a register tells it, else the identification."""
        best = len(_IDENTIFIERS)
        text = ""
        for aside in self._walk():
            code = self._obis
            if aside or not code or code[1]:
                continue
            for rank in range(best):
                if _IDENTIFIERS[rank] == (code[2], code[3], code[4]) and not self._is_blank():
                    best = rank
                    text = self._text(self._value_at, self._value_end)
                    if code[4] == 1 and len(text) >= _HEX_IDENTIFIER:
                        text = _text_of_hex(text) or text
                    break
        return text or (self.ident_flag + " " + self.ident_id).strip()

    def _is_blank(self):
        """Is the value in hand nothing but zeros?"""
        for i in range(self._value_at, self._value_end):
            if self._buf[i] != 0x30:
                return False
        return True

    def maker(self):
        return self.ident_flag.upper()

    def model(self):
        return self.ident_id

    @property
    def ident_flag(self):
        """The maker's three letters (the FLAG association's list)."""
        return self._text(1, min(4, self._identification))

    @property
    def ident_baud(self):
        """The baud character, "" outside a telegram."""
        return self._text(4, min(5, self._identification))

    @property
    def ident_id(self):
        """What stands behind the baud character, \\2 and the like included."""
        at, end = self._stripped(5, max(5, self._identification))
        return self._text(at, end)


def _unmapped(address):
    """What stands for the OBIS code of an address that is none: its bytes, never six."""
    return b"?" + address.encode() + (b"?" if len(address) == 5 else b"")


def _implied_unit(code):
    """The DLMS code of what an energy is counted in thousands of where no unit is printed, None for others."""
    if code[0] != 1 or code[3] != 8 or code[5] != 255 or not 1 <= code[2] <= 4:
        return None
    return 30 if code[2] < 3 else 32


def _text_of_hex(digits):
    """The text that `digits` spell in ASCII (P1's equipment identifiers), None where they do not."""
    try:
        return ascii_text(bytes([int(digits[i : i + 2], 16) for i in range(0, len(digits), 2)]))
    except ValueError:
        return None


LISTENER = Iec62056_21
