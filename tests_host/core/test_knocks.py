"""Who neither pushes nor answers a sign-on is knocked for: gently, rarely, and nothing but a check that holds counts.

A week in front of meters that live on a battery is driven here by looks two seconds apart.
"""

import random
from typing import Any

import pytest

from metering import protocols
from metering.detection import search_story
from metering.detection.candidates import Asking
from metering.detection.search_story import Detection
from metering.line import EXPECT, LISTEN, SEND, SWITCH, WAIT, WATCH
from metering.listener import NOTHING
from optoprobe.virtual import c1218_meter
from optoprobe.virtual import mbus_encoder as mbus
from optoprobe.virtual.c1218_meter import C1218Meter
from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter
from optoprobe.virtual.kmp_meter import KmpMeter
from optoprobe.virtual.mbus_meter import MbusMeter

DAY_S = 86400


class Drive:
    """Carries a search's actions out in front of nobody, or of what `answer(line, data)` says; `said` keeps what was
    sent, with its time and line. `wakes_s`: how long a battery meter is left alone."""

    look_ms = 2000

    def __init__(self, answer: Any = lambda line, data: b"", wakes_s: int = DAY_S, **asking: Any) -> None:
        self.now_ms = 0
        self.said: list[tuple[float, str, bytes]] = []
        self.lines: list[str] = []
        self._answer = answer
        self._wakes_s = wakes_s
        self._woken_s: float | None = None
        asking = Asking(wakes=self._wakes, **asking)  # type: ignore[assignment]
        self.detection = Detection(self._make, asking=asking)

    def _make(self, name: str, asked: bool) -> tuple[Any, Any]:
        listener = protocols.load(name)()
        wake_up = self.detection.asking.wake_up
        return listener, protocols.load_conversation(name)(listener, wake_up=wake_up)

    def _wakes(self) -> bool:
        now_s = self.now_ms / 1000
        if self._woken_s is not None and now_s - self._woken_s < self._wakes_s:
            return False
        self._woken_s = now_s
        return True

    def run(self, seconds: float) -> Any:
        line = answer = result = None
        actions = self.detection.run()
        while self.now_ms < seconds * 1000:
            try:
                action = actions.send(result)
            except StopIteration:
                break
            result = None
            kind = action[0]
            if kind == SWITCH:
                line = action[1]
            elif kind == SEND:
                self.said.append((self.now_ms / 1000, repr(line), action[1]))
                self.now_ms += 11000 * len(action[1]) // line.baud
                answer = self._answer(repr(line), action[1])
            elif kind == WAIT:
                self.now_ms += action[1]
            elif kind == EXPECT:
                result = answer or b""
                self.now_ms += 100 if answer else action[2]
                answer = None
            elif kind == LISTEN:
                result = action[1].next_event() or NOTHING
            elif kind == WATCH:
                result = False
                for _ in range(0, action[2], self.look_ms):
                    self.now_ms += self.look_ms
                    if self.detection.look(self.now_ms & 0x3FFFFFFF, False, b"", 0, 0):
                        result = True
                        break
        return self.detection.proven

    def times(self, begin: bytes) -> list[float]:
        return [at_s for at_s, _, data in self.said if data.startswith(begin)]


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is loaded stays: dropping it five thousand times takes minutes on a computer."""
    monkeypatch.setattr(search_story, "unload", lambda prefix: None)
    monkeypatch.setattr(protocols, "unload_protocols", lambda: None)


KMP, NKE, SNRM, SIGN_ON = b"\x80\x3f\x01", b"\x10\x40\xfe", b"\x7e\xa0", b"/?"
IDENT = bytes.fromhex("ee0000000001201310")


def test_in_a_week_no_battery_meter_is_woken_more_often_than_once_a_day() -> None:
    """By the same search; what lives on the mains may be asked every two minutes."""
    drive = Drive()
    assert drive.run(7 * DAY_S) is None
    for begin in (KMP, NKE):
        times = drive.times(begin)
        assert 6 <= len(times) <= 7 and times[0] < 30, times
        assert all(later - before >= DAY_S for before, later in zip(times, times[1:], strict=False))
    assert not any(b"\x55\x55" in data for _, _, data in drive.said)
    assert len(drive.times(SNRM)) == len(drive.times(IDENT)) == len(drive.times(SIGN_ON)) > 4000


def test_with_a_wake_up_neither() -> None:
    """Its owner wants it: zeros of IEC 62056-21 and 55 of M-Bus alike, once a day each."""
    drive = Drive(wake_up=True)
    assert drive.run(7 * DAY_S) is None
    for begin in (b"\x55\x55", b"\0\0"):
        days = {int(at_s) // 600 for at_s in drive.times(begin)}
        assert 6 <= len(days) <= 7, begin
    assert len(drive.times(KMP)) <= 7


def test_a_knock_takes_less_than_a_second_and_does_not_put_off_the_next_question() -> None:
    drive, without = Drive(), Drive(knocks=False)
    for one in (drive, without):
        one.look_ms = 20
        one.run(120)
    assert not without.times(SNRM) + without.times(KMP)
    before, after = (one.times(SIGN_ON) for one in (without, drive))
    assert len(after) == len(before) > 3
    assert all(-0.5 < later - due <= 0.1 for due, later in zip(before, after, strict=True)), (before, after)
    sent = [drive.times(begin)[0] for begin in (SNRM, KMP, NKE, IDENT)]
    assert sent == sorted(sent) and all(b - a < 1 for a, b in zip(sent, sent[1:], strict=False))


@pytest.mark.parametrize("seed", range(6))
def test_nothing_but_an_answer_whose_check_holds_is_one(seed: int) -> None:
    """Any bytes, an acknowledge among them, and good answers with a bit turned: nobody is claimed to be there."""
    draw = random.Random(seed)
    ack = b"\xe5"
    frame = mbus.frame(mbus.header(12345678, "OPT", medium=mbus.WATER) + mbus.record(0x04, "13", bytes(4)))

    def answer(line: str, data: bytes) -> bytes:
        good = {KMP: bytes.fromhex("403f01000107011acc0d"), NKE: ack, b"\x10\x7b\xfe": frame}
        good[SNRM] = bytes.fromhex("7ea00721037361be7e")
        good[IDENT] = c1218_meter.framed(bytes.fromhex("0000010000"))
        bytes_of = next((value for begin, value in good.items() if data.startswith(begin)), b"")
        if bytes_of and bytes_of != ack and draw.random() < 0.7:
            turned = bytearray(bytes_of)
            turned[draw.randrange(1, len(turned) - 1)] ^= 1 << draw.randrange(8)
            return bytes(turned)
        return draw.choice((ack, b"", draw.randbytes(draw.randrange(1, 40)) + ack))

    drive = Drive(answer, wakes_s=0)
    assert drive.run(3600) is None
    assert len(drive.times(KMP)) > 20
    assert not drive.times(b"\x80\x3f\x02") and not drive.times(b"\x10\x5b"), "nobody was read"
    assert len(drive.times(IDENT)) > 20 and not [data for _, _, data in drive.said if data[6:7] == b"\x50"]


def answers_of(meter: Any, line: str) -> Any:
    """What the simulated meter says to what is sent on `line`."""

    def answer(heard_on: str, data: bytes) -> bytes:
        if heard_on != line:
            return b""
        answer.now_s += 1
        for byte in data:
            meter.receive(byte, answer.now_s)
        said = b""
        while (sent := meter.poll(answer.now_s + 0.9, 0)) is not None:
            said += sent.data
        return said

    answer.now_s = 0.0  # type: ignore[attr-defined]
    return answer


@pytest.mark.parametrize(
    ("protocol", "meter", "line"),
    [
        ("kmp", KmpMeter("heat"), "1200 8N2"),
        ("mbus", MbusMeter("gas"), "2400 8E1"),
        ("dlms-client", AskedDlmsMeter(), "9600 8N1"),
        ("c1218", C1218Meter(), "9600 8N1"),
    ],
)
def test_who_answers_is_read_at_once(protocol: str, meter: Any, line: str) -> None:
    drive = Drive(answers_of(meter, line))
    proven = drive.run(60)
    assert proven is not None and (proven.protocol, repr(proven.line)) == (protocol, line)
    assert proven.telegram_ready and proven.conversation is not None
    assert len(drive.times(KMP)) <= 1 and len(drive.times(NKE)) <= 2
