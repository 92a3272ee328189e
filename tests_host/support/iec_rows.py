"""Telegrams of IEC 62056-21 with what a listener has to make of them, and a listener driven over any stream.

A row is (name, bytes, expected readings, checked). Expected are (address, value, unit) as printed, one a bracket group.
"""

import functools

from support import listener_harness as hearing
from support.listener_harness import in_pieces

from metering.characters import with_parity
from metering.checksum import ARC, crc16, crc_table
from metering.iec62056_21.data_block import BUFFER_SIZE, Iec62056_21
from optoprobe.virtual.iec62056_21_meter import IecMeter

STX, ETX = b"\x02", b"\x03"
IDENT = b"/OPT5X1\r\n"


# --- driving the listener --------------------------------------------------------------------------------------------


def triple(reading):
    return reading.address, reading.printed, reading.printed_unit


def make(size=BUFFER_SIZE, history=True, needs_check=False):
    listener = Iec62056_21(size)
    listener.history = history
    listener.needs_check = needs_check
    return listener


class Heard(hearing.Heard):
    """What a listener, a new one unless given, made of a stream; beside the telegrams what else they say."""

    def __init__(self, chunks, finish=False, listener=None):
        self.checked, self.idents, self.lengths = [], [], []
        hearing.Heard.__init__(self, listener or make(), chunks, triple, finish)

    def note(self):
        listener = self.listener
        self.lengths.append(listener.length)
        self.checked.append(listener.checked)
        self.idents.append((listener.ident_flag, listener.ident_baud, listener.ident_id))
        hearing.Heard.note(self)


def hear(data, step=None, finish=False, **options):
    return Heard(in_pieces(data, step), finish, make(**options))


# --- the rows --------------------------------------------------------------------------------------------------------


def framed(body, ident=IDENT, between=b""):
    """Asked: identification line, STX, body, ETX, BCC."""
    block = body + ETX
    return ident + between + STX + block + bytes((functools.reduce(int.__xor__, block),))


def crc_of(data):
    return crc16(data, 0, crc_table(ARC))


def p1(lines, ident=IDENT, digits="%04X", end=b"\r\n"):
    data = ident + b"\r\n" + lines + b"!"
    return data + (digits % crc_of(data)).encode() + end


def pushed(lines, ident=IDENT, end=b"\r\n"):
    """No check at all."""
    return ident + b"\r\n" + lines + b"!" + end


def meter_row(name, mode="C", **options):
    meter = IecMeter(mode, seed=5, **options)
    if mode in ("D", "P1"):
        data = meter.telegram(7)
        return name, data, meter.expected(), mode == "P1"
    block, expected = meter.block(7)
    return name, meter.identification() + block, expected, True


def unpadded(digits):
    """A P1 telegram whose CRC begins with a zero, which is not printed."""
    for n in range(1 << 16):
        lines = b"1-0:1.8.0(%06d.5*kWh)\r\n" % n
        if 0x100 <= crc_of(IDENT + b"\r\n" + lines + b"!") < 0x1000:
            return p1(lines, digits=digits), [("1-0:1.8.0", f"{n:06d}.5", "kWh")]
    raise AssertionError("no such CRC")


ENERGY = [("1.8.0", "0012.345", "kWh")]
GAS = [("0-1:24.3.0", text, None) for text in "121030140000 00 60 1 0-1:24.2.1 m3 00024.123".split()]
LINES = b"1.8.0(0012.345*kWh)\r\n"
END = b"!\r\n"
HEX_TEXT = b"3031203C3D3E3F" * 73  # a P1 text message near its longest, 1,024 digits

QUIRK_ROWS = [
    ("CRC without leading zero", *unpadded("%X"), True),
    ("CRC without leading zero, lower case", *unpadded("%x"), True),
    ("CRC lower case", p1(LINES, digits="%04x"), ENERGY, True),
    ("CRC, then nothing but LF", p1(LINES, end=b"\n"), ENERGY, True),
    ("parity bits, framed", with_parity(framed(LINES + b"F.F(00000000)\r\n" + END)),
     [*ENERGY, ("F.F", "00000000", None)], True),
    ("parity bits, pushed", with_parity(pushed(LINES + b"0.0.0(123)\r\n")), [*ENERGY, ("0.0.0", "123", None)], False),
    (
        "several sets a line, end behind the last",
        framed(b"6.8(0326.062*MWh)6.26(07939.56*m3)9.21(66935074)\r\n6.26*01(07843.48*m3)F(0)!\r\n"),
        [("6.8", "0326.062", "MWh"), ("6.26", "07939.56", "m3"), ("9.21", "66935074", None),
         ("6.26*01", "07843.48", "m3"), ("F", "0", None)],
        True,
    ),
    (
        "several sets a line, no check",
        pushed(b"1.8.0(1.5*kWh)2.8.0(2.5*kWh)\r\n16.7.0(-000073.69*W)"),
        [("1.8.0", "1.5", "kWh"), ("2.8.0", "2.5", "kWh"), ("16.7.0", "-000073.69", "W")],
        False,
    ),
    (
        "two brackets",
        framed(b"1.6.1(09.48*kW)(16-03-14,18:45)\r\n1-0:1.6.0*255(02.468*kW)(1703100930)\r\n" + END),
        [("1.6.1", "09.48", "kW"), ("1.6.1", "16-03-14,18:45", None),
         ("1-0:1.6.0*255", "02.468", "kW"), ("1-0:1.6.0*255", "1703100930", None)],
        True,
    ),
    (
        "nameless groups",
        p1(b"0-1:24.3.0(121030140000)(00)(60)(1)(0-1:24.2.1)(m3)\r\n(00024.123)\r\n" + LINES),
        GAS + ENERGY,
        True,
    ),
    (
        "nameless groups, no check",
        pushed(b"0-1:24.3.0(121030140000)(00)(60)(1)(0-1:24.2.1)(m3)\r\n(00024.123)\r\n"),
        GAS,
        False,
    ),
    (
        "former values",
        framed(b"1.8.0*01(0011.1*kWh)\r\n1.8.0&02(0010.1*kWh)\r\n1.6.0*01(1.5*kW)(2601010000)\r\n0.1.0(3)\r\n" + LINES),
        [("1.8.0*01", "0011.1", "kWh"), ("1.8.0&02", "0010.1", "kWh"), ("1.6.0*01", "1.5", "kW"),
         ("1.6.0*01", "2601010000", None), ("0.1.0", "3", None), *ENERGY],
        True,
    ),
    (
        "letters",
        framed(b"F.F(00000000)\r\nC.1.0(1234)\r\nL.1(x)\r\nP.01(y)\r\nFF(0)\r\nC.90.1(9)\r\n0-0:F.F.0*255(1)\r\n!"),
        [("F.F", "00000000", None), ("C.1.0", "1234", None), ("L.1", "x", None), ("P.01", "y", None), ("FF", "0", None),
         ("C.90.1", "9", None), ("0-0:F.F.0*255", "1", None)],
        True,
    ),
    (
        "letters, no check",
        pushed(b"F.F(00000000)\r\nC.1.0(1234)\r\nL.1(x)\r\nP.01(y)\r\n1-0:99:97.0()\r\n"),
        [("F.F", "00000000", None), ("C.1.0", "1234", None), ("L.1", "x", None), ("P.01", "y", None),
         ("1-0:99:97.0", "", None)],
        False,
    ),
    (
        "a unit after a blank",
        framed(b"1.8.0(007206.0 kWh)\r\n1.8.1(007206.0 x)\r\n0.9.1(12 30 15)\r\n" + END),
        [("1.8.0", "007206.0", "kWh"), ("1.8.1", "007206.0 x", None), ("0.9.1", "12 30 15", None)],
        True,
    ),
    (
        "units with a slash or digits",
        framed(b"0.3.0(1000*Imp/kWh)\r\n6.33(000.840*m3ph)\r\n6.34(1.5*m3/h)\r\n0.3.1(500/kWh)\r\n" + END),
        [("0.3.0", "1000", "Imp/kWh"), ("6.33", "000.840", "m3ph"), ("6.34", "1.5", "m3/h"),
         ("0.3.1", "500/kWh", None)],
        True,
    ),
    ("LF", framed(LINES.replace(b"\r", b"") + b"!\n", b"/OPT5X1\n"), ENERGY, True),
    ("LF LF", framed(b"1.8.0(0012.345*kWh)\n\n!\n\n", b"/OPT5X1\n\n"), ENERGY, True),
    ("LF LF, no check", pushed(b"1.8.0(0012.345*kWh)\n\n", b"/OPT5X1\n\n", b"\n\n"), ENERGY, False),
    ("LF, CRC", p1(b"1.8.0(0012.345*kWh)\n", b"/OPT5X1\n", end=b"\n"), ENERGY, True),
    ("echo of the sign-on", b"/?!\r\n" + framed(LINES + END), ENERGY, True),
    ("echo with an address", b"/?12345678!\r\n" + framed(LINES + END), ENERGY, True),
    ("echo of the acknowledge", framed(LINES + END, between=b"\x06050\r\n"), ENERGY, True),
    ("junk before STX", framed(LINES + END, between=b"\x00\x10?U\x7f"), ENERGY, True),
    ("junk and line ends before STX", framed(LINES + END, between=b"\xff\n(\x06050\r\n)?\r\n\x7f"), ENERGY, True),
    ("began in the middle", b"45*kWh)\r\n2.8.0(0*kWh)\r\n!\r\n\x03\x55" + framed(LINES + END), ENERGY, True),
    (
        "blanks",
        framed(
            b"0.0.0(       18438636)\r\n  81.7.1 (  80*Deg)\r\n1.8.0( 0012.345 * kWh )\r\n C.1.0()\r\n" + END,
            b"/OPT5X1   \r\n",
        ),
        [("0.0.0", "18438636", None), ("81.7.1", "80", "Deg"), *ENERGY, ("C.1.0", "", None)],
        True,
    ),
    ("two stars", framed(b"9.4(088*C&082*C)\r\n6.36(01-01&00:00)\r\n" + END),
     [("9.4", "088*C&082*C", None), ("6.36", "01-01&00:00", None)], True),
    ("two stars, no check", pushed(b"9.4(088*C&082*C)\r\n"), [("9.4", "088*C&082*C", None)], False),
    ("no end mark, as registers are answered", framed(b"1.8.0(0012.345*kWh)"), ENERGY, True),
    (
        "a load profile",
        framed(b"P.01(2601010000)(08)(15)(2)(1.5)(kW)(2.5)(kW)\r\n(0.1)(0.2)\r\n(0.3)(0.4)\r\n"),
        [("P.01", text, None) for text in "2601010000 08 15 2 1.5 kW 2.5 kW 0.1 0.2 0.3 0.4".split()],
        True,
    ),
    ("end behind the last set", pushed(b"1.8.0(0012.345*kWh)"), ENERGY, False),
    ("end behind the last set, CRC", p1(b"1.8.0(0012.345*kWh)"), ENERGY, True),
    ("an empty unit", framed(b"1.8.0(013925.5*)\r\n" + END), [("1.8.0", "013925.5", None)], True),
    ("the same address twice", framed(LINES + LINES + END), ENERGY * 2, True),
    ("end marks in values", p1(b"0-0:96.13.0(!)\r\n0-0:96.13.1(a!b)\r\n" + LINES),
     [("0-0:96.13.0", "!", None), ("0-0:96.13.1", "a!b", None), *ENERGY], True),
    ("end marks in values, framed", framed(b"0-0:96.13.0(!)\r\n0-0:96.13.1(a!b)\r\n" + LINES + END),
     [("0-0:96.13.0", "!", None), ("0-0:96.13.1", "a!b", None), *ENERGY], True),
    ("mode E offered", framed(LINES + END, b"/OPT5\\2X1\r\n"), ENERGY, True),
    ("a blank for baud character", framed(LINES + END, b"/OPT X1\r\n"), ENERGY, True),
    ("P1 codes", p1(b"1-0:99.97.0(1)(0-0:96.7.19)(240111093500W)(0000000240*s)\r\n1-0:99:97.0()\r\n0-0:96.13.0()\r\n"),
     [("1-0:99.97.0", "1", None), ("1-0:99.97.0", "0-0:96.7.19", None), ("1-0:99.97.0", "240111093500W", None),
      ("1-0:99.97.0", "0000000240", "s"), ("1-0:99:97.0", "", None), ("0-0:96.13.0", "", None)], True),
    ("values of all sorts",
     framed(b"0.9.1(23:16:43)\r\n0.9.2(3260528)\r\n0.2.0(1.03,1.04)\r\n0.2.1(??)\r\n1.7.0(+00026*W)\r\n" + END),
     [("0.9.1", "23:16:43", None), ("0.9.2", "3260528", None), ("0.2.0", "1.03,1.04", None), ("0.2.1", "??", None),
      ("1.7.0", "+00026", "W")], True),
]  # fmt: skip
ROWS = [
    meter_row("A", "A"),
    meter_row("B", "B"),
    meter_row("C"),
    meter_row("C full", full=True, pv_peak_w=9000),
    meter_row("C with history", history=1),
    meter_row("C, LF", quirks=["lf_only"]),
    meter_row("heat", "B", battery=True),
    meter_row("D", "D"),
    meter_row("P1", "P1"),
    *QUIRK_ROWS,
]
LONG_ROW = ("a long text", p1(b"0-0:96.13.0(" + HEX_TEXT + b")\r\n" + LINES),
            [("0-0:96.13.0", HEX_TEXT.decode(), None), *ENERGY], True)  # fmt: skip
NAMES = [row[0] for row in ROWS]
BY_NAME = {row[0]: row[1:] for row in ROWS}
NEXT_TELEGRAM = framed(b"0.0.0(778)\r\n16.7.0(-0.25*kW)\r\n!\r\n", b"/OPT5NEXT\r\n")
NEXT_EXPECTED = [("0.0.0", "778", None), ("16.7.0", "-0.25", "kW")]


def begin_of(data):
    """Where the identification line begins."""
    return data.find(b"/OPT" if b"/OPT" in data else with_parity(b"/OPT"))


def end_mark_of(data):
    """Where the last end mark is; the end of the data where there is none."""
    at = data.rfind(b"!" if b"/OPT" in data else with_parity(b"!"))
    return at if at >= 0 else len(data)


def wanted_of(telegram):
    return [(r["address"], v["value"].strip(), v["unit"]) for r in telegram["readings"] for v in r["values"]]
