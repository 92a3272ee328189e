"""IEC 62056-21 data blocks: what a meter prints when it is asked, and what D0 and P1 meters push by themselves.

Source: IEC 62056-21:2002, 5 (identification message, data message, block check) and 6 (modes A to D); DSMR P1 companion
standard 5.0.2, 6.2 (CRC-16). Asking is metering.iec62056_21.poll's.

    /ISk5\\2MT382-1003 CR LF                   identification: maker, baud character, \\2 enhancement, identification
    STX 1.8.0(0012.345*kWh) CR LF ... ! CR LF ETX BCC        asked (modes A to C): BCC over what follows STX, ETX too
    CR LF 1-0:1.8.0*255(0012.345*kWh) CR LF ... ! CR LF      pushed (mode D, D0): no check at all
    CR LF 1-0:1.8.0(012.345*kWh) CR LF ... !8FC7 CR LF       pushed (P1 from DSMR 4 on): CRC-16/ARC from / to !

Kamstrup's meters of mode A (/KAM: Multical 41 and 66) add where the standard has an exclusive or, as their maker says
(Multical 41, technical description 5512-313, 11.2) and a recording shows. Of /KAM either is taken.

A line is taken as it arrives: counted into BCC or CRC, checked for its parity where bit 7 carries one (a `/` of AF
instead of 2F says so), split into data sets, and its sets are kept as printed (metering.iec62056_21.data_sets). Nothing
of them is told before the block has ended, its check has held, and metering.iec62056_21.acceptance takes it:

    hunting --an identification line--> inside --STX--> framed --ETX and BCC right--> TELEGRAM
                                        inside --!, and CRC right or none expected--> TELEGRAM
                                        either --an identification line, a wrong check, parity or length--> REJECTED

    _buf   | identification and sets kept ...|  free  | bytes not taken yet ... |  free  |
           0                            _staged      _at                       _n

The bound: sets are kept up to ROOM before the buffer's end; what a block holds beyond is checked but not kept, and
counted in `values_dropped`. A 9,528-byte read-out of an Iskra MT174 with 15 months of history takes 758 bytes, with it
(`history`) 8,828; the most of some forty meters is 1,322, of a P1 telegram. One data set must fit into what is left,
ROOM at the least.
"""

from metering.characters import is_even
from metering.compacting_listener import CompactingListener
from metering.compat import SLICES_ARE_CHEAP, const
from metering.iec62056_21.acceptance import AcceptancePolicy
from metering.iec62056_21.block_check import crc16_part, xor_part
from metering.iec62056_21.data_sets import TABLE, DataSets
from metering.line import Line
from metering.listener import NOTHING

if SLICES_ARE_CHEAP:  # a computer
    from metering.on_computer.printed_runs import DataSets

_LF = const(0x0A)
_CR = const(0x0D)
_BLANK = const(0x20)
_OPEN = const(0x28)  # (
_SLASH = const(0x2F)

BUFFER_SIZE = const(3072)
_BCC = const(8)  # bits
_CRC = const(16)
_SIGN_ON_BAUD = const(300)
_MOST_BLOCK = const(65536)  # bytes without an end; the longest read-out met has 9,528
_MAX_IDENTIFICATION = const(64)  # 3 + 1 + 16 by the standard; meters print up to 30
_MAX_CRC_DIGITS = const(4)


def _hex_digit(byte):
    """0..15, -1 where `byte` is no hexadecimal digit."""
    if 0x30 <= byte <= 0x39:
        return byte - 0x30
    byte |= 0x20
    return byte - 0x57 if 0x61 <= byte <= 0x66 else -1


def identification_end(buf, at, end):
    """Where the identification line that begins with the `/` at `at` ends; 0: not seen by `end`, -1: it is none.

    / then three letters of the maker, the baud character and printable ones, no brackets among them, until LF. The
    same parity that the `/` shows (2F none, AF even) is on every character. Another / is the next identification, but
    where a \\ belongs (Holley's P1: /HLY5/D545-METER) and no maker follows.
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
            if (byte != _CR or n == 4) and (byte != _SLASH or n != 5):
                return -1
        elif n == 8 and buf[i - 3] & 0x7F == _SLASH and min(buf[i - 2] & 0x5F, buf[i - 1] & 0x5F, byte & 0x5F) > 0x40:
            return -1
    return 0 if end < at + _MAX_IDENTIFICATION else -1


class Iec62056_21(CompactingListener):
    """Listener for data blocks and pushed telegrams. Allocates per telegram a generator, per reading the Reading.

    Of the telegram in hand, besides what every listener tells: `checked` True where a BCC or CRC has held, `framed`
    where STX began it, `parity` where all of it had even parity in bit 7; `ident_flag`, `ident_baud`, `ident_id` the
    texts of its identification line, `heat` True where it is a heat meter's, `length` its bytes in the stream.
    `needs_check` is the driver's to set where it knows that a check must come, `compares_form` where it knows that one
    block need not look like the next.
    """

    NAME = "iec62056-21"
    LINES = (Line(9600, 7, "E"), Line(2400, 7, "E"), Line(115200))
    SOURCE = "IEC 62056-21:2002; DSMR P1 5.0.2"
    LARGE_BUFFER = 65536
    REASONS = ("checksum", "no checksum", "parity", "cut off", "too long", "line", "shape", "no data")

    def __init__(self, size=BUFFER_SIZE):
        CompactingListener.__init__(self, size)
        self.sets = DataSets(self._buf, self._view)
        self._policy = AcceptancePolicy()
        self.compares_form = True
        self._searched = 0  # of those not taken, how many hold no line end
        self._inside = False
        self.parity = self.framed = False
        self._crc = self._line_crc = self._bcc = self._sum = 0

    def _reset_telegram(self):
        CompactingListener._reset_telegram(self)
        self.checked = self.vouched = False
        self.length = 0

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

    def _take_sets(self, at, stop):
        sets = self.sets
        dropped = sets.n_dropped
        found = sets.take(at, stop, self.framed, self.history)
        self._staged = sets.end
        self.values_dropped += sets.n_dropped - dropped
        return found

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
        self.framed = False
        self._bcc = self._sum = 0
        self.parity = buf[at] != _SLASH
        self._crc = self._line_crc = crc16_part(self._view, at, behind, 0, TABLE)
        self.sets.begin_with(at, behind)
        self._staged = self.sets.end
        self._drop(behind - at)
        return True

    def _take_line(self):
        """Take one line, or what stands for one; None to go on, else what next_event() says."""
        buf, at, n = self._buf, self._at, self._n
        end = buf.find(b"\n", at + self._searched, n)
        stop = n if end < 0 else end + 1
        if not self.framed and not self.sets.n_sets:
            stx = buf.find(b"\x82" if self.parity else b"\x02", at, stop)
            if stx >= 0:  # what stood before it was an echo, or the switch to another rate
                self.framed = True
                self.sets.n_strays = 0
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
        elif not self.parity and (self.framed or self.sets.n_sets or buf.find(b"\x02", stop, n) < 0):
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
            self._take_sets(at, stop)
        else:
            if buf.find(b"!", at, stop) >= 0:
                ended = self._take_end(at, stop)
                if ended is not None:
                    return ended
            else:
                self._crc = crc16_part(self._view, at, stop, self._crc, TABLE)
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
        if self._buf.find(b"/KAM", 0, 4) == 0:  # the identification
            for i in range(at, stop):
                self._sum += self._buf[i]

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
        if self._bcc != sent and (not self._sum or (self._sum ^ sent) & 0x7F):  # it may be lost, and this the next's
            return self._fail("checksum", "sent %02x, computed %02x" % (sent, self._bcc), etx + 1 - at)
        self._take_sets(at, etx)
        return self._end(_BCC, etx + 2 - at)

    def _take_end(self, at, stop):
        """A line with a `!` in a telegram without STX: its end, with nothing or the CRC in up to four hex digits.

        None where the `!` belongs to a value. Sets are kept last, as that moves the bytes the CRC is over.
        """
        buf = self._buf
        bang = buf.rfind(b"!", at, stop)
        computed = crc16_part(self._view, at, bang + 1, self._crc, TABLE)
        crc = crc16_part(self._view, bang + 1, stop, computed, TABLE)
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
            return self._end(0, i - at)
        if computed != crc:
            return self._fail("checksum", "sent %04x, computed %04x" % (crc, computed), i - at)
        return self._end(_CRC, i - at)

    def _take_stream_end(self):
        """Nothing more will come: a block that has had its `!` is whole, though it lost what checks it."""
        at, n = self._at, self._n
        if self.framed and self.sets.end_seen and not bytes(self._view[at:n]).strip():
            return self._end(0, n - at)
        if not self.framed and at < n and self._restart(at, n) < 0:
            if not self.parity or self._strip_parity(at, n):
                ended = self._take_end(at, n) if self._buf.find(b"!", at, n) >= 0 else None
                if ended is not None:
                    return ended
        return self._fail("cut off", "the stream ended", n - at)

    def _end(self, check, used):
        """The block has ended, and its check of `check` bits has held (0: none): a telegram where it is believed."""
        self.length = self._since(self._at + used)
        sets, policy = self.sets, self._policy
        reason = policy.verdict(
            check,
            self.needs_check,
            self.parity,
            self.compares_form,
            self._line_crc,
            sets,
            not any(self.rejected.values()),
        )
        if reason == "shape":
            return self._fail(reason, "%d bytes, unlike the ones before, or without their end" % self.length, used)
        if reason:
            return self._fail(
                reason, "a block of %d lines that are data sets, %d that are none" % (sets.n_sets, sets.n_strays), used
            )
        self.n_values = sets.n_values
        self.checked = check > 0
        self.vouched = policy.vouched
        self.proven = self.checked or self.parity
        self.sealed = check == _CRC or self.checked and self.parity
        self._inside = False
        return self._believe(used)

    def is_reply(self, line):
        """A sign-on is answered at 300 baud; what is framed at another rate, its identification too, is pushed."""
        return self.framed and line.baud == _SIGN_ON_BAUD

    def line_as_sent(self, line):
        if self.parity:
            return Line(line.baud, 7, "E", line.stop, line.invert)
        return Line(line.baud, line.bits, line.parity, line.stop, line.invert)

    def readings(self):
        return self.sets.readings()

    def meter_id(self):
        """The number printed on the meter where a register tells it, else the identification."""
        return self.sets.meter_name() or (self.ident_flag + " " + self.ident_id).strip()

    @property
    def names_model_only(self):  # pyrefly: ignore[bad-override] - a property costs a board's heap where none is needed
        return not self.sets.meter_name()

    @property
    def heat(self):
        """Is the telegram in hand a heat meter's?"""
        return self.sets.heat

    def maker(self):
        return self.ident_flag.upper()

    def model(self):
        return self.ident_id

    @property
    def ident_flag(self):
        """The maker's three letters (the FLAG association's list)."""
        sets = self.sets
        return sets.text(1, min(4, sets.identification))

    @property
    def ident_baud(self):
        """The baud character, "" outside a telegram."""
        sets = self.sets
        return sets.text(4, min(5, sets.identification))

    @property
    def ident_id(self):
        """What stands behind the baud character, \\2 and the like included."""
        sets = self.sets
        at, end = sets.stripped(5, max(5, sets.identification))
        return sets.text(at, end)


LISTENER = Iec62056_21
