"""The log that outlasts a reset: each cause once with its count, in RTC memory, over MQTT and by `monitor --log`."""

import importlib
import json
import random
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from support.virtual_time import Probe

from optoprobe import cli
from optoprobe.monitoring import probe_log
from optoprobe.virtual.broker import Broker
from optoprobe.virtual.sml_meter import SmlMeter

ORDER = "optoprobe/cellar/order/set"


class Rtc:
    """RTC memory of a chip; `kept` is what is in it."""

    def __init__(self) -> None:
        self.kept = b""

    def memory(self, data: bytes | None = None) -> bytes | None:
        if data is None:
            return self.kept
        assert len(data) <= 2048
        self.kept = bytes(data)
        return None


@pytest.fixture
def rtc(device: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    rtc = Rtc()
    for name in ("log_ring", "rtc_record"):
        module = importlib.import_module("firmware.hardware." + name)
        monkeypatch.setattr(module, "machine", SimpleNamespace(RTC=lambda: rtc))
        setattr(rtc, name, module)
    return rtc


def lines(rtc: Any) -> list[list[Any]]:
    ring = rtc.log_ring
    told = json.loads(b"".join(ring.pieces(ring.kept())))
    assert isinstance(told, list)
    return told


def test_a_cause_stands_there_once_with_its_count(rtc: Any) -> None:
    assert lines(rtc) == []
    rtc.log_ring.note("the broker at 10.0.0.1:1883 does not answer", 65)
    rtc.log_ring.note("the clock stands still", 3600)
    for uptime_s in (7200, 99_999_999):
        rtc.log_ring.note(f"the broker at 10.0.0.{uptime_s}:1 does not answer", uptime_s)
    assert lines(rtc) == [
        ["the clock stands still", 1, 0, 60],
        ["the broker at 10.0.0.99999999:1 does not answer", 3, 0, 65535],
    ]
    for _ in range(300):
        rtc.log_ring.note("the clock stands still", 0)
    assert lines(rtc)[-1] == ["the clock stands still", 255, 0, 0]


def test_the_latest_are_kept_where_there_is_no_room(rtc: Any) -> None:
    names = [chr(0x61 + k // 26) + chr(0x61 + k % 26) for k in range(90)]
    for name in names:
        rtc.log_ring.note(name, 0)
    assert [line[0] for line in lines(rtc)] == names[-40:]
    for name in names:
        rtc.log_ring.note(name + "ß" * 100, 0)
    told = [line[0] for line in lines(rtc)]
    assert 15 <= len(told) <= 40 and told == [(name + "ß" * 35) for name in names[-len(told) :]]
    rtc.log_ring.note("x" + "ß" * 100, 0)
    assert lines(rtc)[-1][0].startswith("x") and lines(rtc)[-1][0].endswith("??")  # cut within a character


def test_it_stands_beside_restarts_and_the_record(rtc: Any) -> None:
    rtc.kept = b"OPR1\x07\x01"
    rtc.log_ring.note("first", 0)
    record = rtc.rtc_record.RtcRecord()
    rtc.log_ring.note("second", 0)
    for k in range(3):
        record.write(b"%d pulses" % k)
        rtc.log_ring.note("third", 0)
        assert rtc.rtc_record.RtcRecord().data == b"%d pulses" % k
    assert [line[:3] for line in lines(rtc)] == [["first", 1, 0], ["second", 1, 0], ["third", 3, 0]]
    rtc.kept = b"OPR1\x09\x01" + rtc.kept[6:]
    record.write(b"more")
    assert rtc.kept[:6] == b"OPR1\x09\x01" and [line[2] for line in lines(rtc)] == [2, 2, 2]
    rtc.kept = rtc.kept[:646]  # of a firmware before
    record.write(b"last")
    assert rtc.rtc_record.RtcRecord().data == b"last"


def test_damage_ends_the_list_and_nothing_else(rtc: Any) -> None:
    chance = random.Random(7)
    texts = ["a", "bb" * 20, "c" * 72, "d e f"]
    for text in texts:
        rtc.log_ring.note(text, 60)
    whole = rtc.kept
    for _ in range(300):
        damaged = bytearray(whole[: chance.randrange(len(whole) + 1)])
        for _ in range(chance.randrange(4)):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        rtc.kept = bytes(damaged)
        assert all(line[0] in texts for line in lines(rtc))
        rtc.log_ring.note("new", 0)
        assert lines(rtc)[-1][0] == "new"


def test_it_is_told_over_mqtt_and_outlasts_a_reset(tmp_path: Path) -> None:
    def told(probe: Probe) -> Any:
        since_s = probe.now_s
        probe.say(ORDER, "log")
        assert probe.run_until(since_s + 30, done=lambda: probe.of("/cellar/log", since_s))
        message = probe.of("/cellar/log", since_s)[0]
        assert not message.retain
        return json.loads(message.payload)

    with Probe(tmp_path, SmlMeter(1), {"protocol": "sml"}) as probe:
        probe.run_for(130)
        probe.say(ORDER, "nonsense")
        probe.run_for(15)
        before = told(probe)
        assert before[0] == ["started: power on", 1, 0, 0]
        refused = before[-1]
        assert refused[0].startswith("an order is refused: it is none of") and refused[1:] == [1, 0, 2]
        probe.restart(power_cut=False)
        probe.run_for(15)
        again = told(probe)
        assert [line[0] for line in again] == [line[0] for line in before] + ["started: reset or crash"]
        probe.restart()
        probe.run_for(15)
        assert told(probe) == [["started: power on", 1, 0, 0]]


def test_monitor_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    log = [["the broker is gone", 3, 2, 12], ["bad\x1b[2J", 1, 1, 0], ["now", 1, 0, 5]]
    answers = ["no JSON", '[["x", true, 1, 2]]', json.dumps(log)]
    asked = threading.Event()

    def answer(client: Any, _data: Any, message: Any) -> None:
        assert message.payload == b"log" and not message.retain
        for payload in answers:
            client.publish("optoprobe/cellar/log", payload)
        asked.set()

    with Broker(tmp_path) as broker:
        stand_in = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        stand_in.on_connect = lambda client, *_: client.subscribe(ORDER, 1)
        subscribed = threading.Event()
        stand_in.on_subscribe = lambda *_: subscribed.set()
        stand_in.on_message = answer
        stand_in.connect("127.0.0.1", broker.port)
        stand_in.loop_start()
        assert subscribed.wait(60)
        arguments = ["monitor", "--broker", f"127.0.0.1:{broker.port}", "--probe", "cellar", "--log"]
        assert cli.main(arguments) == 0 and asked.is_set()
        assert capsys.readouterr().out.splitlines() == [
            "2 starts ago + 12 min  the broker is gone, 3 times",
            "the last start + 0 min  bad?[2J",
            "this start + 5 min  now",
        ]
        answers.clear()
        monkeypatch.setattr(probe_log, "_SILENT_S", 0.3)
        monkeypatch.setattr(probe_log, "_AGAIN_S", 0.2)
        assert cli.main(arguments) == 1 and "has said nothing on optoprobe/cellar/log" in capsys.readouterr().err
        stand_in.disconnect()
        stand_in.loop_stop()
