"""The matrix of the search: every protocol and framing, at its lines, and what one cell of it is run for and gives.

The unmodified firmware in virtual time, with no setting but a key. Used by the suite (test_detection) and by
detection_table, which prints the table of the docs.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from support.broker import published
from support.expected_messages import shown_of_battery_meter, shown_of_codes, shown_of_objects, shown_of_prints
from support.virtual_time import MS, Message, Probe

from metering.line import Line
from optoprobe.virtual.blink_meter import BlinkMeter
from optoprobe.virtual.c1218_meter import C1218Meter
from optoprobe.virtual.channel import Noise
from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.kmp_meter import KmpMeter
from optoprobe.virtual.mbus_meter import MbusMeter
from optoprobe.virtual.sml_meter import SmlMeter
from optoprobe.virtual.uart import NS

MORE_S = 5.0  # a cell goes on for so long behind its first reading: what follows has to be right, too
LEARNT_S = 30.0  # until the width of flashes longer than usual is known, and they are counted
ASKED_S = 12.0  # of darkness at the most before a meter is asked


# --- the meters ------------------------------------------------------------------------------------------------------


class SteadyLoad:
    """A household that always takes the same."""

    def __init__(self, watt: int) -> None:
        self._watt = watt

    def phases_dw(self, second: int) -> tuple[int, int, int]:
        return self._watt * 10, 0, 0


class OldP1Meter(IecMeter):
    """P1 up to DSMR 3: 9600 7E1, every 10 s, with nothing behind its "!"."""

    def __init__(self, seed: int) -> None:
        super().__init__("P1", seed=seed, period_s=10.0, line=Line(9600, 7, "E"))

    def rows(self, now_s: float) -> Any:
        return [row for row in super().rows(now_s) if row[0] != "1-3:0.2.8"]  # the version of those with a CRC

    def telegram(self, now_s: float) -> bytes:
        text = super().telegram(now_s)
        return text[: text.rindex(b"!") + 1] + b"\r\n"


@dataclass
class Row:
    """A meter as it comes: `make(seed)` gives it, `line` is what the probe should say of its line.

    `period_s` between two telegrams; 0: it is asked. `kind` chooses how its readings are compared.
    """

    kind: str
    line: str
    make: Callable[[int], Any]
    period_s: float = 0.0
    settings: Callable[[Any], dict[str, Any]] = field(default=lambda meter: {})
    limit_s: float = 120.0
    burst_ms: int = 20  # a disturbance is so long, and a hundred times as long apart
    vouched: bool = True  # has each telegram a check?
    sealed: bool = True  # has each telegram a strong one?
    asked_by: bytes = b"/?"  # how what it is asked by begins, less parity bits
    asked_s: float = ASKED_S  # of darkness at the most until then

    @property
    def telegrams_to_read(self) -> int:
        """How many must come until one is published: a DLMS list without any check twice."""
        return 2 if self.protocol == "dlms" and not self.vouched else 1

    @property
    def protocol(self) -> str:
        return self.kind.split(",")[0]


def keys(meter: DlmsMeter) -> dict[str, Any]:
    return {"meter_key": meter.key.hex(), "meter_auth_key": meter.auth_key.hex()}


def mode_d(line: str, **options: Any) -> Row:
    return Row("iec62056-21", line, lambda seed: IecMeter("D", seed=seed, **options), 2, vouched=False, sealed=False)


def dlms(line: str, kind: str, period_s: float, key: bool = True, sealed: bool = True, **options: Any) -> Row:
    """A DLMS meter on `line`, such as "2400 8E1"."""
    baud, framing = line.split()
    its_line = Line(int(baud), 8, None if framing[1] == "N" else framing[1])

    def make(seed: int) -> DlmsMeter:
        return DlmsMeter(kind, seed=seed, line=its_line, period_s=period_s, **options)

    settings = keys if key else lambda meter: {}
    vouched = options.get("framing") != "raw" or options.get("security") is not None
    return Row("dlms" if key else "dlms, no key", line, make, period_s, settings, sealed=sealed, vouched=vouched)


def blink(width_ms: float, watt: int = 3600, pulses_per_kwh: int = 1000) -> Row:
    def make(seed: int) -> BlinkMeter:
        household: Any = SteadyLoad(watt)
        return BlinkMeter(pulses_per_kwh, width_ms, seed=seed, household=household)

    def keys_of(meter: BlinkMeter) -> dict[str, Any]:
        return {"pulses_per_kwh": pulses_per_kwh}

    return Row("blink", "", make, 3_600_000 / watt / pulses_per_kwh, keys_of, burst_ms=100)


def knocked(kind: str, line: str, asked_by: bytes, make: Callable[[int], Any], **more: Any) -> Row:
    """A meter that is knocked for: behind a sign-on that nobody answers."""
    return Row(kind, line, make, burst_ms=100, asked_by=asked_by, asked_s=18.0, **more)


ROWS = {
    "sml": Row("sml", "9600 8N1", SmlMeter, 1),
    "sml-4s": Row("sml", "9600 8N1", lambda seed: SmlMeter(seed, period_s=4), 4),
    "iec-D-2400": mode_d("2400 7E1"),
    "iec-D-9600": mode_d("9600 7E1", baud=9600),
    "p1-1s": Row("iec62056-21", "115200 8N1", lambda seed: IecMeter("P1", seed=seed), 1),
    "p1-10s": Row("iec62056-21", "115200 8N1", lambda seed: IecMeter("P1", seed=seed, period_s=10.0), 10),
    "p1-old": Row("iec62056-21", "9600 7E1", OldP1Meter, 10, vouched=False, sealed=False),
    "iec-A": Row("iec62056-21", "300 7E1", lambda seed: IecMeter("A", seed=seed), burst_ms=400),
    "iec-B": Row("iec62056-21", "300 7E1", lambda seed: IecMeter("B", seed=seed), burst_ms=100),
    "iec-C": Row("iec62056-21", "300 7E1", lambda seed: IecMeter("C", seed=seed, full=True), burst_ms=100),
    "dlms-vienna": dlms("9600 8N1", "optical", 1),
    "dlms-vienna-no-key": dlms("9600 8N1", "optical", 1, key=False),
    "dlms-hdlc-8E1": dlms("2400 8E1", "hdlc", 10),
    "dlms-hdlc-8N1": dlms("2400 8N1", "hdlc", 10),
    "dlms-mbus-8E1": dlms("2400 8E1", "mbus", 5, sealed=False),
    "dlms-mbus-8N1": dlms("2400 8N1", "mbus", 5, sealed=False),
    "dlms-gbt": dlms("2400 8E1", "gbt", 5),
    "dlms-115200": dlms("115200 8N1", "hdlc", 10),
    "dlms-wrapper": dlms("9600 8N1", "hdlc", 5, framing="wrapper", sealed=False),
    "dlms-bare": dlms("9600 8N1", "hdlc", 5, framing="raw", sealed=False),
    "dlms-bare-sealed": dlms("9600 8N1", "hdlc", 5, framing="raw", security=0x30),
    "dlms-p1-inside": dlms("115200 8N1", "optical", 10, framing="raw", layout="p1", security=0x30),
    "kmp": knocked("kmp", "1200 8N2", b"\x00\x3f\x01", lambda seed: KmpMeter(seed=seed)),
    "mbus": knocked("mbus", "2400 8E1", b"\x10\x40\x7e", lambda seed: MbusMeter(seed=seed), sealed=False),
    "mbus-asleep": knocked(
        "mbus",
        "2400 8E1",
        b"\x10\x40\x7e",
        lambda seed: MbusMeter("water", seed=seed, quirks=["sleepy"]),
        sealed=False,
        settings=lambda meter: {"wake_up": True},
    ),
    "dlms-ask": knocked("dlms-client", "9600 8N1", b"\x7e\x20\x07", lambda seed: AskedDlmsMeter(seed=seed)),
    "dlms-ask-e": knocked("dlms-client", "300 7E1", b"/?", lambda seed: AskedDlmsMeter(seed=seed, sign_on=True)),
    "c1218": knocked("c1218", "9600 8N1", b"\x6e\0\0", lambda seed: C1218Meter(seed=seed)),
    "blink-2.5ms": blink(2.5),
    "blink-30ms": blink(30),
}

CONDITIONS: dict[str, dict[str, Any]] = {
    "clean": {},
    "disturbed": {},  # 1 % of the time
    "echo": {"echo": True},
    "fast-clock": {"clock_ppm": 30_000},
}


KNOCKED_CELLS = [(False, "echo"), (True, "disturbed")]


# --- what has been published -----------------------------------------------------------------------------------------


def readings(probe: Probe, since_s: float = 0.0) -> list[Message]:
    """Every message of a meter."""
    return [m for m in probe.published if m.at_s >= since_s and m.topic.endswith(("/state", "/live"))]


def is_counter(key: str) -> bool:
    return "energy" in key or "volume" in key


def may_wait(key: str, text: str, vouched: bool) -> bool:
    """May this counter be missing in a meter's first state? A first 0 waits for a minute, and any first counter that
    no check vouches for for a second telegram."""
    return is_counter(key) and (not vouched or is_zero(text))


def is_zero(text: str) -> bool:
    return not text.strip("0.")


def said_by(row: Row, message: Message, telegrams: list[Any], is_first: bool = False) -> bool:
    """Is every value of this message what the simulated meter says in `telegrams`, the newest three at the most?

    All of it in one of them and nothing missing but what may wait, where a strong check covers them; else each value in
    one of them (metering.middle_of_three). `is_first`: is this the first state since the meter is followed?
    """
    if row.sealed:
        return any(_said_by_one(row, message, expected, is_first) for expected in telegrams)
    wants = [_want(row, message, expected) for expected in telegrams]
    told = {key: text for key, text in _told(row, message).items() if any(key in want for want in wants)}
    return bool(told) and all(any(want.get(key) == text for want in wants) for key, text in told.items())


def _said_by_one(row: Row, message: Message, expected: Any, is_first: bool) -> bool:
    want, told = _want(row, message, expected), _told(row, message)
    if row.protocol not in ("sml", "iec62056-21"):
        told = {key: number for key, number in told.items() if key in want}
        return bool(told) and told.items() <= want.items()
    missing = want.keys() - told.keys()
    for key in missing:
        if not (is_first and may_wait(key, want[key], row.vouched) or is_counter(key) and is_zero(want[key])):
            return False
    want = {key: text for key, text in want.items() if key not in missing}
    return told == want if row.protocol == "sml" else bool(want) and told.items() >= want.items()


def _want(row: Row, message: Message, expected: Any) -> dict[str, Any]:
    live = message.topic.endswith("/live")
    if row.protocol == "sml":
        return published(expected)[live]
    if row.protocol == "iec62056-21":
        return shown_of_prints([(address.removesuffix("*255"), value, unit) for address, value, unit in expected])[live]
    if row.protocol == "dlms-client":
        return shown_of_objects(expected)
    return shown_of_codes(expected) if row.protocol in ("dlms", "c1218") else shown_of_battery_meter(expected)


def _told(row: Row, message: Message) -> dict[str, Any]:
    told = message.object()
    if row.protocol in ("sml", "iec62056-21"):
        return told
    return {key: Decimal(text) for key, text in told.items() if re.fullmatch(r"-?\d{1,12}(\.\d+)?", text)}


def check_readings(row: Row, probe: Probe, messages: list[Message], since_s: float = -60.0) -> None:
    """Everything in `messages`, the first state of them the first since the meter is followed, was said by the meter,
    there since `since_s`, in the newest telegrams ended by then."""
    probe.run_for(0.05)  # a telegram may be read half a bit before it ends
    if row.kind == "blink":
        check_pulses(probe, messages, max(since_s, 0))
        return
    assert len({message.topic.rsplit("/", 1)[0] for message in messages}) <= 1
    states = [message for message in messages if message.topic.endswith("/state")]
    firsts = states[:1] + [message for message in states if message.at_s >= probe.started_s][:1]
    for message in messages:
        before = [sent for sent in probe.sent if since_s < sent.end_s <= message.at_s + 0.002 and sent.expected]
        before = [sent for sent in before if not isinstance(sent.expected, int)]  # what blinked before
        telegrams = [sent.expected for sent in before[-3:]]
        assert said_by(row, message, telegrams, message in firsts), (message, telegrams[-1:])


def pulses(probe: Probe, message: Message, since_s: float) -> tuple[int, int]:
    """(how many a state counts, how many the meter has made by then)."""
    counted = round(Decimal(message.object()["energy_counted"]) * probe.line.source.pulses_per_kwh)
    return counted, sum(since_s < sent.end_s <= message.at_s for sent in probe.sent)


def check_pulses(probe: Probe, messages: list[Message], since_s: float) -> None:
    """Never more than there were, and the steady load they make; once their width is known hardly one is missing.

    A flash that falls together with a disturbance is not counted, and seems to halve the load.
    """
    quiet = probe.line.channel.noise == Noise()
    states = [message for message in messages if message.topic.endswith("/state")]
    for message in messages:
        if message in states:
            counted, there = pulses(probe, message, since_s)
            assert counted <= there, (message, there)
        elif "power" in message.object():
            watt = probe.line.source._household.phases_dw(0)[0] // 10
            told = int(message.object()["power"])
            assert watt * (19 if quiet else 5) // 20 <= told <= watt * 21 // 20, message
    settled = [message for message in states if message.at_s >= states[0].at_s + LEARNT_S]
    if settled:
        (first, there_first), (last, there_last) = (pulses(probe, settled[k], since_s) for k in (0, -1))
        missing = (there_last - there_first) - (last - first)
        assert abs(missing) <= (2 if quiet else 2 + (there_last - there_first) // 10), (settled[0], settled[-1])
        if quiet:
            assert there_last - 4 <= last, (settled[-1], there_last)


def state_of(probe: Probe) -> tuple[str, str, str, str]:
    told = probe.diagnostics()
    return told["protocol"], told.get("line", ""), told.get("seen", ""), told["notice"]


# --- the matrix ------------------------------------------------------------------------------------------------------


@dataclass
class Cell:
    """What one run of the matrix gave."""

    row: str
    condition: str
    first_s: float | None = None
    asked_s: float | None = None  # when the sign-on was sent that the meter answered
    third_s: float | None = None  # end of the third pulse


def cells(phases: int) -> list[tuple[str, bool, str, int]]:
    """(row, inverted, condition, phase) of every cell, the meter at so many moments of its period; of those that are
    knocked for two."""
    return [
        (row, inverted, condition, phase)
        for row in ROWS
        for inverted in (False, True)
        for condition in CONDITIONS
        for phase in range(phases)
        if ROWS[row].asked_s == ASKED_S or phases > 1 or (inverted, condition) in KNOCKED_CELLS
    ]


def run_cell(folder: Path, name: str, inverted: bool, condition: str, phase: int) -> Cell:
    """Finds the meter of row `name`, and asserts: the right protocol and line, a first reading that is right, nothing
    wrong before and after it."""
    row = ROWS[name]
    draw = random.Random(f"{name} {inverted} {condition} {phase}")
    meter = row.make(draw.randrange(1, 1000))
    options = dict(CONDITIONS[condition])
    if condition == "disturbed":
        options["noise"] = Noise(burst_hz=10 / row.burst_ms, burst_ns=row.burst_ms * MS, seed=draw.randrange(1000))
    phase_s = draw.uniform(0, row.period_s or 1)
    cell = Cell(name, condition)
    with Probe(folder, meter, row.settings(meter), invert=inverted, phase_s=phase_s, **options) as probe:
        if row.kind == "dlms, no key":
            asks = probe.run_until(row.limit_s, done=lambda: "key needed" in state_of(probe)[2] + state_of(probe)[3])
            assert asks, state_of(probe)
            cell.first_s = probe.now_s
            probe.run_for(MORE_S)
            assert not readings(probe)
        else:
            found = probe.run_until(row.limit_s, done=lambda: any(is_reading(m) for m in probe.published))
            assert found, state_of(probe)
            cell.first_s = next(m.at_s for m in probe.published if is_reading(m))
            probe.run_for(2 * LEARNT_S if row.kind == "blink" else MORE_S)
            check_readings(row, probe, readings(probe))
        protocol, line, seen, notice = state_of(probe)
        assert protocol == row.protocol, (protocol, seen)
        wanted = (row.line + " inverted" if inverted else row.line) if row.line else ""
        assert line == wanted, (line, seen)
        assert seen
        assert row.kind == "dlms, no key" or notice == "ok"
        if row.kind == "blink":
            cell.third_s = [sent.end_s for sent in probe.sent if sent.end_s > 0][2]
        if not row.period_s:
            end_s = probe.sent[0].end_s - (1 if row.asked_s == ASKED_S else 0)
            cell.asked_s = max(at_s for at_s, data in said(probe) if data.startswith(row.asked_by) and at_s < end_s)
    return cell


def is_reading(message: Message) -> bool:
    """Does it hold a value of the meter? What a blinking one's light is, is none; its total comes first."""
    return message.topic.endswith("/state") or (message.topic.endswith("/live") and b'"light"' not in message.payload)


def said(probe: Probe) -> list[tuple[float, bytes]]:
    """What the head has sent and when, without parity bits."""
    return [(ns / NS, bytes(byte & 0x7F for byte in data)) for ns, data in probe.line.said]
