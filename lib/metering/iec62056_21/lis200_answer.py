"""Answers of a gas volume corrector that speaks LIS-200 (Elster and Honeywell EK2xx, DL2xx, TC2xx): single values.

LIS-200 is the programming mode of IEC 62056-21 with addresses of its own. Its text is the maker's; what stands here is
what three public programs that read an EK270, and the library iec62056-21 0.0.2 (PyPI), agree on. No recording of a
meter has been seen.

    /Els6EK270 CR LF                            who it is
    SOH P0 STX (1234567) ETX BCC                a challenge, which nobody answers
    STX 7-2:302.2(260.63*m3) ETX BCC            a value: <archive>-<instance>:<number>.<index of the value>
    STX (#0018) ETX BCC                         a refusal

The answers of one session are one telegram. It ends where its reader says so, with the next identification, or with
the stream.
"""

from metering.characters import latin_text, without_parity
from metering.compat import const
from metering.iec62056_21.iec_probe import is_corrector
from metering.iec62056_21.printed import decimals, unit_code
from metering.iec62056_21.programming_answers import block_check
from metering.line import Line
from metering.listener import NOTHING, Listener
from metering.reading import Reading
from metering.register import lookup

_SOH = const(0x01)
_STX = const(0x02)
_ETX = const(0x03)
_EOT = const(0x04)
_SLASH = const(0x2F)
_LF = const(0x0A)
_MOST_BYTES = const(250)  # of a frame; a value has some 30
_MOST_ADDRESS = const(16)
_MOST_TEXT = const(24)
_MOST_CODE = const(4)  # digits of a refusal
_MOST_REFUSALS = const(4)  # kinds of them in one session
_CELSIUS = const(9)
_KELVIN = const(52)
_TEXT = const(0)  # in place of a unit
_NO_UNIT = const(255)

# <instance>:<number> -> A.C.D of the code (IEC 62056-6-1, gas: 13 and 43 of the converter, D 2 at base conditions) and
# the unit it must have; 0 a text, 255 a number without one
_REGISTERS = (
    " 1:180=0.96.1/0 2:302=7.13.2/13 4:302=7.13.0/13 2:310=7.43.2/15 4:310=7.43.0/15 7:310=7.42.0/24 6:310_1=7.41.0/9"
    " 5:310=7.52.0/255 8:310=7.53.0/255 1:400=0.1.0/0 2:190=0.0.2/0 "
)
_SERIAL_NUMBER = "1:180"


def address_of_answer(body):
    """The address in an answer, as it is asked for: "2:302" of b"7-2:0302.2(260.63*m3)"; "" for none."""
    end = body.find(b"(")
    if not 0 < end <= _MOST_ADDRESS:
        return ""
    text = latin_text(body[:end])
    text = text[text.find("-") + 1 :]
    instance, _, number = text.partition(":")
    number = number.partition(".")[0]
    while len(number) > 1 and number[:1] == "0":
        number = number[1:]
    return instance + ":" + number


def refusal_of(body):
    """The number of the refusal in an answer, "18" of b"(#0018)"; "" where it is none."""
    at = body.find(b"(#")
    if at < 0 or body[-1:] != b")":
        return ""
    digits = body[at + 2 : -1]
    if not 0 < len(digits) <= _MOST_CODE or not digits.isdigit():
        return ""
    return str(int(digits))


class Lis200Answer(Listener):
    """Hears the answers. A value without its unit, with another one, or that is no number, is left out and counted.

    `identification` is the line heard last; `refusals` the numbers of those that the session in hand has had.
    """

    NAME = "lis200"
    LINES = (Line(300, 7, "E"), Line(9600, 7, "E"), Line(19200, 7, "E"))
    SOURCE = "iec62056-21 0.0.2 (PyPI)"
    REASONS = ("checksum", "parity", "length", "form")

    def __init__(self, size=_MOST_BYTES):
        Listener.__init__(self, size)
        self.identification = b""
        self._values = {}  # address -> printed value, of the session in hand
        self._is_complete = False
        self._is_told = False
        self._begun_at = 0  # in the stream: the session, or what of it has not been told
        self.refusals = []

    # -- for who asks

    def begin(self, identification, parity):
        """A session with the meter that says so; `parity`: had its characters parity bits?"""
        self._release()
        self._skip_noise(self._n)
        self._begun_at = self._position
        self.identification = bytes([byte & 0x7F for byte in identification])
        self._values = {}
        self.refusals = []
        self._is_told = self._is_complete = False
        self.sealed = parity
        self._reset_telegram()

    def take(self, body):
        """An answer whose check has held, without STX and ETX. Returns its address, "" where it holds no value."""
        refusal = refusal_of(body)
        if refusal:
            if refusal not in self.refusals and len(self.refusals) < _MOST_REFUSALS:
                self.refusals.append(refusal)
            return ""
        address = address_of_answer(body)
        opened = body.find(b"(")
        if not address or body[-1:] != b")" or body.find(b"(", opened + 1) >= 0:
            return ""
        printed = body[opened + 1 : -1]
        if len(printed) > _MOST_TEXT or lookup(_REGISTERS, address) is None:
            self.values_dropped += 1
            return address
        self._values[address] = bytes(printed)
        return address

    def complete(self):
        """The session has ended: what has come is the next event, where anything has."""
        self._is_complete = True

    # -- for whoever listens

    def _judge(self):
        if self._is_complete and self._has_telegram():
            return self._tell(0)
        self._is_complete = False
        buf = self._buf
        while True:
            at = 0
            while at < self._n and buf[at] & 0x7F not in (_SLASH, _SOH, _STX):
                at += 1
            if at:
                self._skip_noise(at)
            if not self._n:
                break
            first = buf[0] & 0x7F
            end = self._identification_end() if first == _SLASH else self._frame_end()
            if not end:
                if self._n > _MOST_BYTES or self._n == len(buf):
                    return self._reject("length", "no end", 1)
                if self._ended:
                    self._skip_noise(self._n)
                break
            if first == _SLASH and self._has_telegram():
                return self._tell(0)
            event = self._take_line(end) if first == _SLASH else self._take_frame(end)
            if event != NOTHING:
                return event
        return self._tell(0) if self._ended and self._has_telegram() else NOTHING

    def _identification_end(self):
        for i in range(self._n):
            if self._buf[i] & 0x7F == _LF:
                return i + 1
        return 0

    def _frame_end(self):
        for i in range(1, self._n - 1):
            if self._buf[i] & 0x7F in (_ETX, _EOT):
                return i + 2
        return 0

    def _plain(self, end):
        """The first `end` bytes without parity bits; None where one of them is wrong."""
        data = bytes(self._view[:end])
        return without_parity(data) if data[0] & 0x80 else data if max(data) < 0x80 else None

    def _take_line(self, end):
        parity = self._buf[0] > 0x7F
        line = self._plain(end)
        if line is None or not is_corrector(line):
            self._skip_noise(1)
            return NOTHING
        n = self._n
        self._n = 0  # begin() is for bytes that have gone
        self.begin(line, parity)
        self._n = n
        self._skip_noise(end)
        return NOTHING

    def _take_frame(self, end):
        frame = self._plain(end)
        if frame is None:
            return self._reject("parity", "", 1)
        if block_check(frame[1:]):
            return self._reject("checksum", "", 1)
        body = frame[1:-2]
        if frame[0] == _STX:
            if self._is_told:
                self._values = {}
            self._is_told = False
            self.sealed = self._buf[0] > 0x7F
            if not self.take(body) and not refusal_of(body):
                return self._reject("form", "%d bytes" % len(frame), end)
        elif body[:2] == b"P0" and self._has_telegram():  # another session
            return self._tell(end)
        self._skip_noise(end)
        return NOTHING

    def _has_telegram(self):
        if self._is_told or not self.identification:
            return False
        for _ in self.readings():
            return True
        return False

    def _tell(self, used):
        self._is_told = True
        self._is_complete = False
        self._reset_telegram()
        for _ in self.readings():
            self.n_values += 1
        self.values_dropped += len(self._values) - self.n_values
        event = self._accept(used)
        self.offset, self._begun_at = self._begun_at, self._position + used
        return event

    # -- the telegram in hand

    def readings(self):
        for row in _REGISTERS.split():
            address, _, meaning = row.partition("=")
            printed = self._values.get(address)
            reading = None if printed is None else self._reading(printed, meaning)
            if reading is not None:
                yield reading

    @staticmethod
    def _reading(printed, meaning):
        """The Reading of a value, None where what was printed is not what `meaning`, of _REGISTERS, says."""
        code, _, unit = meaning.partition("/")
        a, c, d = code.split(".")
        obis = bytes((int(a), 0, int(c), int(d), 0, 255))
        unit = int(unit)
        if unit == _TEXT:
            text = latin_text(printed).strip()
            return Reading(obis, text) if text else None
        star = printed.find(b"*")
        end = len(printed) if star < 0 else star
        n_decimals = decimals(printed, 0, end)
        if n_decimals < 0 or (star < 0) != (unit == _NO_UNIT):
            return None
        power = 0
        if star >= 0:
            name = printed[star + 1 :]
            if unit == _CELSIUS and len(name) == 2:  # no 7-bit code has a degree sign: what stands for it differs
                name = name[1:]
            sent, power = unit_code(name)
            if sent == _KELVIN and unit == _CELSIUS:
                unit = sent
            if sent != unit:
                return None
        value = int(latin_text(printed[:end]).replace(".", ""))
        return Reading(obis, value, power - n_decimals, None if unit == _NO_UNIT else unit)

    def meter_id(self):
        """The serial number; where the meter does not tell it, its model."""
        return latin_text(self._values.get(_SERIAL_NUMBER, b"")).strip() or ("ELS " + self.model()).strip()

    @property
    def names_model_only(self):  # pyrefly: ignore[bad-override] - a property costs a board's heap where none is needed
        return not self._values.get(_SERIAL_NUMBER, b"").strip()

    def maker(self):
        return "Elster" if self.identification else ""

    def model(self):
        return latin_text(self.identification[5:]).strip()


LISTENER = Lis200Answer
