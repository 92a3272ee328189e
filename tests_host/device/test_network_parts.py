"""The network's parts by themselves: Wi-Fi, waits, sockets, mailbox, time, sentences; and a month of ticks."""

import errno
import importlib
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from support.scripted_broker import publish
from support.virtual_time import LightOnly, Probe

from optoprobe.virtual.sml_meter import SmlMeter

SETTINGS = {
    "wifi_ssid": "home",
    "wifi_password": "wifi secret",
    "mqtt_host": "broker",
    "mqtt_port": 1883,
    "mqtt_user": "",
    "mqtt_password": "",
    "discovery": "off",
    "discovery_prefix": "homeassistant",
    "ntp_host": "time",
    "mqtt_tls_ca": "",
}
DAY_S = 86400


class End(BaseException):
    """Of the thread's life."""


class Clock:
    """`s` seconds have passed; whoever sleeps passes them. The thread ends at `until_s`."""

    def __init__(self) -> None:
        self.s = 0.0
        self.until_s = 1e9

    def sleep_ms(self, ms: int) -> None:
        self.s += ms / 1000
        if self.s > self.until_s:
            raise End

    def ticks_ms(self) -> int:
        return round(self.s * 1000) % (1 << 30)

    def ticks_diff(self, later: int, earlier: int) -> int:
        return (later - earlier + (1 << 29)) % (1 << 30) - (1 << 29)


class Health:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.session_s = 0
        self.progress_s: list[float] = []

    @property
    def uptime_s(self) -> int:
        return int(self._clock.s)

    def network_progressed(self) -> None:
        self.progress_s.append(self._clock.s)


class Wlan:
    """The driver: connect() succeeds where `lets_in`; `calls` is what was asked of it."""

    lets_in = True

    def __init__(self, interface: int = 0) -> None:
        self.joined = False
        self.calls: list[str] = []

    def active(self, on: bool) -> None:
        self.calls.append("on" if on else "off")
        if not on:
            self.joined = False

    def connect(self, ssid: str, password: str) -> None:
        self.calls.append("connect")
        self.joined = self.lets_in

    def disconnect(self) -> None:
        self.calls.append("disconnect")

    def isconnected(self) -> bool:
        return self.joined

    def status(self, what: str) -> int:
        return -61


@pytest.fixture(scope="module")
def net(device: Any) -> Iterator[Any]:
    """`net.session`, `net.wifi` ...: modules of firmware/mqtt, over stand-ins for network and umqtt."""
    with pytest.MonkeyPatch.context() as patch:
        simple = ModuleType("umqtt.simple")
        simple.MQTTClient = lambda *_: None  # type: ignore[attr-defined]
        simple.MQTTException = type("MQTTException", (Exception,), {})  # type: ignore[attr-defined]
        umqtt = ModuleType("umqtt")
        umqtt.simple = simple  # type: ignore[attr-defined]
        radio = ModuleType("network")
        radio.STA_IF, radio.WLAN, radio.hostname = 0, Wlan, lambda name: None  # type: ignore[attr-defined]
        for module in (simple, umqtt, radio):
            patch.setitem(sys.modules, module.__name__, module)
        names = "wifi wifi_trial forget_topics session discovery time_sync fault_sentence session_news outbox sockets"
        modules = {name: importlib.import_module("firmware.mqtt." + name) for name in names.split()}
        yield SimpleNamespace(umqtt=simple, **modules)


@pytest.fixture
def clock(net: Any, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(net.session, "time", clock)
    return clock


@pytest.fixture
def thread(net: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A Network whose sessions are what `thread.open` does, a callable that is replaced by tests."""
    announcer = SimpleNamespace(topic=lambda *levels: "/".join(("optoprobe", "cellar", *levels)).encode())
    mailbox, outbox = net.outbox.Mailbox(), net.outbox.Outbox()
    made = net.session.Network(SETTINGS, outbox, mailbox, announcer, "cellar", Health(clock))
    made.tries_s = []

    def opened() -> None:
        made.tries_s.append(clock.s)
        made.open()

    made.session.open = opened
    made.discovery.poll = lambda: False
    return made


def run(made: Any, clock: Clock, seconds: float) -> None:
    clock.until_s = clock.s + seconds
    with pytest.raises(End):
        made._run()


def refused() -> None:
    raise OSError(errno.ECONNREFUSED)


# --- the hub hears of the probe --------------------------------------------------------------------------------------


@pytest.fixture
def hub(net: Any, device: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A DiscoveryPublisher: `hub.at(s)` is what poll() says then, `hub.told` the topics of what was announced."""

    def made(discovery: str = "device", protocol: str = "sml") -> Any:
        settings = {"discovery": discovery, "protocol": protocol}
        monkeypatch.setattr(net.discovery.time, "sleep_ms", lambda ms: None, raising=False)
        health = SimpleNamespace(uptime_s=0)
        told: list[str] = []
        session = SimpleNamespace(hub_has_started=False, say_online=lambda: told.append("online"))
        session.publish_pieces = lambda topic, size, pieces: told.append(topic.decode().split("/", 2)[2])
        announcer = device.announcer.Announcer("optoprobe", "cellar", "Optoprobe", "ha")
        outbox = device.outbox.Outbox()
        publisher = net.discovery.DiscoveryPublisher(settings, announcer, outbox, session, health)

        def at(uptime_s: int) -> Any:
            health.uptime_s = uptime_s
            return publisher.poll()

        return SimpleNamespace(at=at, told=told, outbox=outbox, session=session, publisher=publisher)

    return made


def announced_meter(device: Any, hub: Any) -> None:
    hub.outbox.announce(device.announcer.Meter("1OPT1", "1OPT1", "OPT", "", (), 60))


PROBE, METER = "optoprobe_cellar/config", "optoprobe_cellar_1OPT1/config"


def test_code_for_announcing_is_lent_for_each_announcement(hub: Any, device: Any) -> None:
    hub = hub()
    announced_meter(device, hub)
    hub.publisher.begin()
    for told in ([PROBE], [PROBE, METER]):
        assert not hub.publisher.lend()  # nothing is loaded before it is wanted
        assert hub.at(1) and hub.at(1) and hub.publisher.wants_code()  # messages wait
        assert hub.publisher.lend() and not hub.publisher.wants_code()
        hub.at(1)
        assert hub.told == told and hub.publisher._lent is None  # and it is dropped
    assert hub.at(2) and hub.publisher.announcements == 1
    assert not hub.at(3) and hub.told == [PROBE, METER]


def test_where_no_code_comes_messages_go_out_unannounced_after_a_while(hub: Any) -> None:
    hub = hub()
    hub.publisher.begin()
    assert hub.at(5) and hub.at(14)
    assert not hub.at(15) and hub.told == []
    hub.publisher.lend()
    hub.at(16)
    assert hub.told == [PROBE]


def test_a_shortage_of_memory_leaves_the_loop_to_tell_of_it(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = hub()
    hub.publisher.begin()
    assert hub.at(5)

    def short(of_meter: bool) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(hub.publisher, "_load", short)
        assert not hub.publisher.lend() and not hub.publisher.wants_code()  # not again at once
    assert hub.at(9) and not hub.publisher.lend()
    assert hub.at(10) and hub.publisher.wants_code() and hub.publisher.lend()


def test_what_is_lent_goes_with_the_session_and_with_another_subject(hub: Any, device: Any) -> None:
    hub = hub()
    announced_meter(device, hub)
    hub.at(1)
    assert hub.publisher.lend()  # for the meter,
    hub.session.hub_has_started = True
    hub.publisher._due_s = 1  # when the hub starts: the probe comes first
    assert hub.at(1) and hub.told == ["online"] and hub.publisher.lend()
    hub.at(1)
    assert hub.told == ["online", PROBE]
    assert hub.at(1) and hub.publisher.lend()
    hub.publisher.end()
    assert hub.publisher._lent is None and not hub.publisher.lend()


def test_a_probe_that_looks_for_its_meter_is_lent_it_as_any_other(hub: Any) -> None:
    hub = hub(protocol="auto")
    hub.publisher.begin()
    assert hub.at(1) and hub.publisher._lent is None and hub.publisher.wants_code()  # nothing stands beside the search


def test_what_there_is_no_memory_to_announce_is_put_off_and_messages_go_on(
    hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = hub()
    hub.publisher.begin()
    announce = hub.session.publish_pieces

    def short(*_: Any) -> None:
        raise MemoryError

    hub.session.publish_pieces = short
    assert hub.at(1) and hub.publisher.lend()
    with pytest.raises(MemoryError):
        hub.at(1)
    hub.publisher.end()
    hub.session.publish_pieces = announce
    assert not hub.at(2) and not hub.at(60) and not hub.publisher.wants_code()
    assert hub.at(61) and hub.publisher.lend() and hub.at(61)
    assert hub.told == [PROBE]


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_session_outlives_a_shortage_of_announcing_unless_a_packet_was_cut(
    thread: Any, clock: Clock, is_cut: bool
) -> None:
    published = []

    def poll() -> bool:
        thread.session.is_cut = is_cut
        raise MemoryError

    thread.open = lambda: None
    thread.discovery.poll = poll
    session = thread.session
    session.listen = session.keep_alive = session.publish_large = lambda: None
    session.publish = published.append
    thread.wifi.is_joined = lambda: True
    run(thread, clock, 5)
    assert thread.failures > 0 and isinstance(thread.fault[0], MemoryError) and thread.has_news
    assert (len(thread.tries_s) > 1) is is_cut and bool(published) is not is_cut


def test_without_discovery_nothing_is_lent(hub: Any, device: Any) -> None:
    hub = hub("off")
    announced_meter(device, hub)
    hub.publisher.begin()
    assert hub.at(1) and hub.at(1) and hub.at(1) and not hub.at(1)
    assert hub.publisher.announcements == 1 and not hub.publisher.lend() and hub.told == []


# --- Wi-Fi and waits -------------------------------------------------------------------------------------------------


def test_the_waits_double_to_seven_seconds_and_are_jittered(thread: Any, clock: Clock) -> None:
    thread.open = refused
    run(thread, clock, 400)
    waits = [later - earlier for earlier, later in zip(thread.tries_s, thread.tries_s[1:], strict=False)]
    least = [1, 2, 4, 7, 7, 7]
    assert all(low <= wait < 1.5 * low + 1 for low, wait in zip(least, waits, strict=False)), waits
    assert all(7 <= wait < 12 for wait in waits[5:]) and len({round(wait, 3) for wait in waits[5:]}) > 1
    assert thread.failures == len(thread.tries_s)
    progress_s = thread._health.progress_s
    assert max(later - earlier for earlier, later in zip(progress_s, progress_s[1:], strict=False)) < 1.1


@pytest.mark.parametrize("silent_s", [0, 4, 10], ids=["refuses", "no host", "frozen"])
def test_a_broker_that_is_back_has_us_within_15_s(thread: Any, clock: Clock, silent_s: float) -> None:
    """Whenever it comes back: a stopped one refuses at once, and a frozen one answers what it was sent meanwhile.

    A host that was away hears the next SYN: its distances double, and beyond the fourth a connect() has 4 s at most.
    """
    for away_s in range(20, 60):
        back_s, at_s = clock.s + away_s, []

        def tried(back_s: float = back_s, at_s: list[float] = at_s) -> None:
            until_s = clock.s + silent_s
            while clock.s < until_s and not (clock.s >= back_s and silent_s > 4):
                clock.sleep_ms(100)
            if clock.s < back_s:
                raise OSError(errno.ETIMEDOUT)
            at_s.append(clock.s)
            raise End

        thread.open = tried
        run(thread, clock, 1000)
        assert 0 <= at_s[0] - back_s <= 15, (away_s, at_s[0] - back_s)


def test_a_session_of_a_minute_begins_the_waits_anew(net: Any) -> None:
    backoff = net.session.Backoff()
    for _ in range(10):
        backoff.next_ms(0)
    assert backoff.next_ms(60) >= 7000
    assert backoff.next_ms(61) < 1500 and backoff.next_ms(0) < 3000


def test_the_wifi_is_left_and_joined_anew_behind_every_twentieth_failure(thread: Any, clock: Clock) -> None:
    thread.open = refused
    run(thread, clock, 600)
    calls = " ".join(thread.wifi._wlan.calls)
    before, *tries = calls.split("off")
    assert not before and "on" in tries[0]  # what a soft reset has left joined is not to be trusted
    assert [part.split().count("on") for part in tries[:2]] == [19, 20], calls
    assert all("connect" in part for part in tries)  # after it was left it is joined again


def does(wlan: Wlan) -> None: ...


def fails(wlan: Wlan) -> None:
    raise RuntimeError("Wifi Unknown Error 0x0102")


@pytest.mark.parametrize("driver", [does, fails])
def test_a_wifi_that_lets_nobody_in_is_named_and_tried_again(
    net: Any,
    thread: Any,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    driver: Any,
) -> None:
    monkeypatch.setattr(Wlan, "lets_in", False)
    thread.open = lambda: None
    monkeypatch.setattr(Wlan, "disconnect", driver)
    run(thread, clock, 100)
    assert 2 <= thread.failures <= (5 if driver is does else 20) and not thread.tries_s
    net.session_news.explain(thread)
    assert thread.last_fault == "the Wi-Fi home cannot be joined: check its name and password"
    assert "wifi secret" not in capsys.readouterr().out


def test_a_wifi_that_is_lost_ends_the_session(net: Any, thread: Any, clock: Clock) -> None:
    def lost() -> None:
        thread.wifi._wlan.joined = False

    thread.open = lost
    for name in ("listen", "keep_alive"):
        setattr(thread.session, name, lambda: None)
    run(thread, clock, 2)
    net.session_news.explain(thread)
    assert thread.last_fault == "the Wi-Fi home was lost"


class Trying(Wlan):
    """A driver that is told to connect is joined after `joins_s` seconds, None: never. `reason` is status() before, and
    what is in `reasons`, (second, reason), from then on: the last failure's, until it is joined (network_wlan.c).
    """

    joins_s: int | None = None
    reason = 1000
    reasons: tuple[tuple[int, int], ...] = ()
    found: tuple[list[Any], ...] = ()
    began_s: float | None = None

    def connect(self, ssid: str, password: str) -> None:
        Trying.began_s = self.clock.s

    def isconnected(self) -> bool:
        return None not in (self.began_s, self.joins_s) and self.clock.s - self.began_s >= self.joins_s

    def status(self, what: str = "") -> int:
        if self.began_s is not None:
            for s, reason in self.reasons:
                if self.clock.s - self.began_s >= s:
                    Trying.reason = reason
        return 1010 if self.isconnected() else self.reason

    def config(self, reconnects: int) -> None: ...

    def scan(self) -> list[Any]:
        Trying.found, rows = self.found[1:], self.found[0]
        return rows


@pytest.fixture
def try_wifi(net: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Called with Trying's fields: the WifiTrial that has been done."""

    def tried(given: Any = ("home", "secret"), **fields: Any) -> Any:
        for name, value in {"began_s": None, "reasons": (), "joins_s": None, "clock": clock, **fields}.items():
            monkeypatch.setattr(Trying, name, value, raising=False)
        trial = net.wifi_trial.WifiTrial(SimpleNamespace(settings={"wifi_ssid": ""}, wifi=wifi), None, given)
        trial._run()
        return trial

    wifi = SimpleNamespace(is_joined=lambda: False, hurries=False, hostname="cellar")
    monkeypatch.setattr(net.wifi_trial, "time", clock)
    for module in (net.wifi_trial.chip_network, net.wifi.network):
        monkeypatch.setattr(module, "WLAN", Trying)
    return tried


@pytest.mark.parametrize(
    ("before", "reasons", "joins_s", "until_s"),
    [
        (1000, (), 2, 3),
        (201, (), 8, 9),  # of another Wi-Fi that was not there
        (202, ((5, 15),), None, 8),
        (1000, ((2, 201),), 4, 5),  # not seen at the first try
        (1000, ((2, 202),), None, 5),
        (202, (), None, 20),
        (202, ((3, 1001), (4, 202)), None, 7),  # once more, and not of before: another came between
    ],
)
def test_a_trial_heeds_why_its_own_try_has_failed_and_lets_it_be_tried_again(
    try_wifi: Any, clock: Clock, before: int, reasons: Any, joins_s: int | None, until_s: int
) -> None:
    trial = try_wifi(reason=before, reasons=reasons, joins_s=joins_s)
    assert trial.is_done and trial.is_joined is (joins_s is not None)
    assert clock.s <= until_s


def test_a_busy_driver_that_finds_no_networks_is_asked_once_more(try_wifi: Any) -> None:
    assert try_wifi(None, found=([], [(b"home", b"", 1, -60, 3, False)])).networks == [(b"home", -60, True)]
    assert try_wifi(None, found=([], [])).networks == []


def test_who_wants_a_session_before_gets_it_again_where_it_fails(net: Any, thread: Any, clock: Clock) -> None:
    tries = []

    def before(client: Any) -> None:
        tries.append(clock.s)
        if len(tries) < 3:
            raise OSError(errno.ECONNRESET)

    session = net.session.MqttSession.__new__(net.session.MqttSession)
    session.__dict__.update(thread.session.__dict__)
    session._mailbox.before_session = before
    net.umqtt.MQTTClient = lambda *_: SimpleNamespace(set_callback=None)
    for _ in range(2):
        with pytest.raises(OSError):
            net.session.MqttSession.open(session)
        assert session._mailbox.before_session is before
    with pytest.raises(TypeError):  # the stand-in can no more
        net.session.MqttSession.open(session)
    assert session._mailbox.before_session is None and len(tries) == 3


# --- sentences -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "was_session", "words"),
    [
        (OSError(errno.ECONNREFUSED), False, "broker:1883 refuses or has closed the connection"),
        (OSError(-1), True, "has closed the connection"),
        (OSError(errno.ETIMEDOUT), True, "does not answer any more"),
        (OSError(errno.ETIMEDOUT), False, "cannot be reached or does not answer"),
        (OSError(-202), False, "the broker's name broker is not resolved"),
        (OSError(errno.EINVAL), True, "a packet too long"),
        (OSError(errno.ENOTCONN), True, "broker:1883 has closed the connection"),  # lwIP's, behind a reset
        (AssertionError(), False, "answers oddly (AssertionError)"),
        (MemoryError(), True, "no memory left"),
        (ValueError("wifi secret"), True, "answers oddly (ValueError)"),
    ],
)
def test_a_fault_has_a_sentence(net: Any, error: Exception, was_session: bool, words: str) -> None:
    said = net.fault_sentence.sentence_of(error, was_session, SETTINGS)
    assert words in said and "secret" not in said


@pytest.mark.parametrize(("code", "words"), [(1, "protocol version"), (4, "user or password"), (9, "answers oddly")])
def test_a_refusal_has_a_sentence(net: Any, code: int, words: str) -> None:
    assert words in net.fault_sentence.sentence_of(net.umqtt.MQTTException(code), False, SETTINGS)


def test_a_fault_is_printed_once_and_nothing_when_it_is_over(
    net: Any, thread: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        thread._note_failure(OSError(errno.ECONNREFUSED))
        net.session_news.explain(thread)
    thread.has_news = True  # a session has begun
    net.session_news.explain(thread)
    assert capsys.readouterr().out == "optoprobe: the broker at broker:1883 refuses or has closed the connection\n"
    assert thread.last_fault and not thread.notice
    thread.opened_s = 7
    net.session_news.explain(thread)
    said = capsys.readouterr().out
    assert said.startswith("optoprobe: connected: the Wi-Fi ") and said.endswith(", the broker at broker:1883\n")


def test_two_probes_of_one_id_are_told_after_three_short_sessions_and_no_more_after_a_long_one(
    net: Any, thread: Any
) -> None:
    for n in range(3):
        assert not thread.notice, n
        thread.opened_s = 0
        thread._note_failure(OSError(-1))
        net.session_news.explain(thread)
    assert "another probe or program has the probe_id cellar" in thread.notice
    thread.ended_early = 0  # as a session of a minute does
    net.session_news.explain(thread)
    assert not thread.notice
    for error in (OSError(-1), OSError(errno.ETIMEDOUT), OSError(-1), OSError(-1)):  # not three in a row
        thread._note_failure(error)
        net.session_news.explain(thread)
    assert not thread.notice


# --- mailbox ---------------------------------------------------------------------------------------------------------

SET = b"optoprobe/cellar/alignment/set"


def test_commands_come_in_their_order_and_none_is_lost(net: Any) -> None:
    mailbox = net.outbox.Mailbox()
    mailbox.subscribe(SET, "alignment", 10)
    mailbox.subscribe(b"c", "capture", 120)
    mailbox.put_command(SET, b"ON", False, 100, 1)
    mailbox.put_command(b"c", b"", False, 100, 1)
    mailbox.put_command(SET, b"OFF", False, 100, 2)
    assert mailbox.pop_command("reading") is None
    taken = [mailbox.pop_command("alignment", "capture") for _ in range(4)]
    assert taken == [("alignment", b"ON", 1), ("capture", b"", 1), ("alignment", b"OFF", 2), None]
    assert not any(mailbox.ignored.values())


@pytest.mark.parametrize(
    ("topic", "payload", "retained", "reason"),
    [
        (SET, b"ON", True, "retained"),
        (SET, None, False, "too long"),
        (b"\xff", b"ON", False, "unknown topic"),
        (None, b"ON", False, "unknown topic"),  # a topic that was too long
    ],
)
def test_what_is_no_command_is_counted(net: Any, topic: Any, payload: Any, retained: bool, reason: str) -> None:
    mailbox = net.outbox.Mailbox()
    mailbox.subscribe(SET, "alignment", 10)
    mailbox.put_command(topic, payload, retained, 100, 1)
    assert mailbox.pop_command("alignment") is None
    assert {key for key, n in mailbox.ignored.items() if n} == {reason}


def test_what_others_have_left_below_our_topics_does_not_end_a_wipe(net: Any) -> None:
    """A topic longer than is taken, one that is no text, a payload too long: what is ours goes all the same."""
    gone: list[bytes] = []
    names = "optoprobe", "cellar", "homeassistant"
    forgotten = net.forget_topics.TopicsForgotten(None, net.forget_topics.WIPE, names)
    forgotten._client = SimpleNamespace(publish=lambda topic, payload, retain: gone.append(topic))
    for topic in (None, b"optoprobe/cellar/\xff", b""):
        forgotten._heard(topic, b"1")
    forgotten._heard(b"optoprobe/cellar/OLD/state", None)
    assert gone == [b"optoprobe/cellar/OLD/state"] and forgotten._slugs == ["OLD"]


@pytest.mark.parametrize("rest_s", [2, 10, 120])
def test_a_topic_has_a_rate(net: Any, rest_s: int) -> None:
    """Ten a second for an hour: a few at once, and then one in each rest."""
    mailbox = net.outbox.Mailbox()
    mailbox.subscribe(SET, "alignment", rest_s)
    taken = 0
    for tenth in range(36000):
        mailbox.put_command(SET, b"ON", False, 1000 + tenth // 10, 1)
        if tenth % 5 == 0:
            taken += mailbox.pop_command("alignment") is not None
    assert 3600 // rest_s <= taken <= 3600 // rest_s + 4
    assert mailbox.ignored["too often"] == 36000 - taken
    mailbox.put_command(SET, b"OFF", False, 4600, 1)  # what ends something is never too often
    assert mailbox.pop_command("alignment") == ("alignment", b"OFF", 1)


def test_of_what_a_broker_keeps_only_what_was_asked_for_is_held(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker of ill will, or a wildcard's messages that follow from an older session."""
    kept = importlib.import_module("firmware.mqtt.retained")
    monkeypatch.setattr(kept.time, "sleep_ms", lambda ms: None, raising=False)
    held: list[int] = []

    class Client:
        sock = SimpleNamespace(close=lambda: None)

        def set_callback(self, heard: Any) -> None:
            self._heard = heard

        def connect(self) -> None: ...

        def subscribe(self, topic: bytes) -> None: ...

        def check_msg(self) -> None:
            held.append(0)
            self._heard(b"other/%d" % len(held), b"x" * 4096)
            self._heard(None, b"too long a topic")
            if len(held) == 150:
                self._heard(b"a/state", b"1")

    assert kept.retained(Client(), (b"a/state", b"a/status")) == [b"1", None]
    assert len(held) == 200, "others' messages were taken for ours"


def test_a_queue_that_nobody_empties_is_bounded_and_unsubscribing_empties_it(net: Any) -> None:
    mailbox = net.outbox.Mailbox()
    mailbox.subscribe(SET, "alignment", 1)
    for second in range(1000):
        mailbox.put_command(SET, b"OFF", False, second, 1)
    assert mailbox.ignored["too often"] == 992
    mailbox.unsubscribe(SET)
    assert mailbox.pop_command("alignment") is None and mailbox.topics() == []


def test_subscriptions_may_be_added_while_the_thread_reads_them(net: Any) -> None:
    mailbox = net.outbox.Mailbox()
    stop = False

    def read() -> None:
        while not stop:
            for topic in mailbox.topics():
                assert topic

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(2000):
        mailbox.subscribe(b"%d" % n, "alignment", 1)
    stop = True
    reader.join()
    assert len(mailbox.topics()) == mailbox.changes == 2000


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(net: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """When the time server was asked; `answer` of ntptime tells what it does."""
    asked: list[int] = []
    monkeypatch.setattr(net.time_sync, "ntptime", SimpleNamespace(settime=lambda: None))
    return asked


@pytest.mark.parametrize(
    "error", [OSError(110), ValueError("buffer too small"), IndexError(), OverflowError(), TypeError()]
)
def test_whatever_a_time_server_answers_it_is_asked_later_and_later(net: Any, asked: Any, error: Exception) -> None:
    sync = net.time_sync.TimeSync()
    now_s = 0

    def settime() -> None:
        asked.append(now_s)
        raise error

    net.time_sync.ntptime.settime = settime
    for now_s in range(0, 2 * DAY_S, 30):
        sync.poll("time", now_s)
    pauses = [later - earlier for earlier, later in zip(asked, asked[1:], strict=False)]
    assert pauses[:5] == [60, 120, 240, 480, 960] and max(pauses) == 14400 and not sync.known


@pytest.mark.parametrize(("year", "known"), [(2026, True), (2000, False), (2036, False), (2023, False)])
def test_a_kiss_of_death_is_no_time(
    net: Any, asked: Any, monkeypatch: pytest.MonkeyPatch, year: int, known: bool
) -> None:
    """A transmit time of 0 sets the clock to 2036, and 1900 to nonsense."""
    sync = net.time_sync.TimeSync()
    monkeypatch.setattr(net.time_sync, "time", SimpleNamespace(time=lambda: 0.0, gmtime=lambda _: (year, 1, 1)))
    sync.poll("time", 0)
    assert sync.known is known
    calls: list[int] = []
    net.time_sync.ntptime.settime = lambda: calls.append(1)
    sync.poll("time", 61)
    assert bool(calls) is not known
    sync.poll("", 10 * DAY_S)  # no host
    assert len(calls) <= 1


# --- sockets ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(net: Any) -> Iterator[tuple[Any, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = net.sockets.MqttSocket(0.5)
        ours.connect(server.getsockname())
        theirs, _ = server.accept()
        with theirs:
            yield ours, theirs
        ours.close()


def read_packet(ours: Any) -> tuple[bytes, bytes]:
    """As umqtt's wait_msg() does: (topic, payload) of a PUBLISH."""
    ours.setblocking(False)
    while ours.read(1) is None:
        time.sleep(0.01)
    ours.setblocking(True)
    n = shift = 0
    while True:
        byte = ours.read(1)[0]
        n |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    topic = ours.read(int.from_bytes(ours.read(2), "big"))
    return topic, ours.read(n - 2 - len(topic))


def test_the_retain_bit_is_that_of_the_packet_that_came_last(pair: Any) -> None:
    ours, theirs = pair
    for topic, payload, retain in ((b"a", b"b", True), (b"a", b"\x30", False), (b"\x31", b"1", True), (b"ab", b"", 0)):
        theirs.send(publish(topic, payload, bool(retain)))
        assert read_packet(ours) == (topic, payload) and ours.retained is bool(retain)


def test_a_step_has_a_limit_as_a_whole_however_it_is_dripped(pair: Any) -> None:
    ours, theirs = pair
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(0.1):  # each byte well within the time of a single wait
            theirs.send(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    ours.step_at, ours.step_ms = time.ticks_ms(), 1000  # type: ignore[attr-defined]
    began_s = time.monotonic()
    with pytest.raises(OSError) as raised:
        ours.read(100)
    stop.set()
    dripping.join()
    assert raised.value.args[0] == errno.ETIMEDOUT and 0.9 < time.monotonic() - began_s < 2


def test_a_length_that_does_not_end_is_refused(pair: Any) -> None:
    ours, theirs = pair
    theirs.send(b"\x80" * 100)
    ours.setblocking(True)
    with pytest.raises(OSError) as raised:
        for _ in range(100):
            ours.read(1)
    assert raised.value.args[0] == errno.EINVAL


class Connection:
    """A socket that keeps what is written, and fails at the `fails_at`th byte."""

    def __init__(self, fails_at: int = 1 << 30) -> None:
        self.written = bytearray()
        self._fails_at = fails_at

    def write(self, data: bytes) -> None:
        self.written += data
        if len(self.written) > self._fails_at:
            raise OSError(errno.ECONNRESET)

    def flush(self) -> None: ...


def on_connection(thread: Any, connection: Connection) -> Any:
    session = thread.session
    session._client = SimpleNamespace(sock=connection)
    session._sockets.last = connection
    return session


def test_a_large_message_begins_anew_and_is_given_up_at_the_third_cut(thread: Any, clock: Clock) -> None:
    mailbox = thread.mailbox
    made: list[int] = []

    def pieces() -> Iterator[bytes]:
        made.append(1)
        yield b"a" * 256
        yield b"b" * 44

    mailbox.large_message = b"t", 300, pieces
    for _ in range(2):
        with pytest.raises(OSError):
            on_connection(thread, Connection(fails_at=200)).publish_large()
    connection = Connection()
    on_connection(thread, connection).publish_large()
    assert bytes(connection.written) == publish("t", b"a" * 256 + b"b" * 44) and len(made) == 3
    assert mailbox.large_message is None and mailbox.given_up == 0
    mailbox.large_message = b"t", 300, pieces
    for _ in range(3):
        with pytest.raises(OSError):
            on_connection(thread, Connection(fails_at=200)).publish_large()
    connection = Connection()
    on_connection(thread, connection).publish_large()
    assert mailbox.large_message is None and mailbox.given_up == 1 and not connection.written


@pytest.mark.parametrize(("retain", "header"), [(False, b"\x30"), (True, b"\x31")])
def test_a_message_in_pieces_is_one_packet(thread: Any, clock: Clock, retain: bool, header: bytes) -> None:
    connection = Connection()
    on_connection(thread, connection).publish((b"t", [b"a" * 200, bytearray(b"b" * 4)], retain))
    assert bytes(connection.written) == header + publish("t", b"a" * 200 + b"b" * 4)[1:]


@pytest.mark.parametrize("size", [299, 301])
def test_a_large_message_of_another_size_ends_the_session(thread: Any, clock: Clock, size: int) -> None:
    """The file has changed: what follows would be taken for its rest, or its rest for packets."""
    thread.mailbox.large_message = b"t", size, lambda: iter((b"a" * 300,))
    with pytest.raises(ValueError):
        on_connection(thread, Connection()).publish_large()


@pytest.mark.parametrize(
    ("received_s", "sent_s", "pinged_s", "answer"),
    [
        (100, 100, 90, ""),
        (91, 91, 80, "ping"),
        (100, 91, 80, "ping"),  # it talks, but hears nothing from us
        (91, 100, 80, "ping"),
        (90, 100, 95, ""),  # the answer may still come
        (80, 100, 87, "gone"),
    ],
)
def test_the_keep_alive_looks_both_ways(
    thread: Any, clock: Clock, received_s: int, sent_s: int, pinged_s: int, answer: str
) -> None:
    clock.s = 100.0
    pings: list[int] = []
    session = thread.session
    session._client = SimpleNamespace(ping=lambda: pings.append(1))
    session._sockets.last = SimpleNamespace(received_at=received_s * 1000, sent_at=sent_s * 1000)
    session._pinged_at = pinged_s * 1000
    if answer == "gone":
        with pytest.raises(OSError):
            session.keep_alive()
    else:
        session.keep_alive()
    assert bool(pings) is (answer == "ping")


def test_a_packet_nobody_has_asked_for_ends_the_session(thread: Any, clock: Clock) -> None:
    session = on_connection(thread, Connection())
    for first, is_well in ((None, True), (0x30, True), (0x33, True), (0x40, False), (0x90, False)):
        session._client.check_msg = lambda first=first: first
        if is_well:
            session.listen()
        else:
            with pytest.raises(ValueError):
                session.listen()


# --- a month ---------------------------------------------------------------------------------------------------------


def pass_time(probe: Probe, seconds: float) -> None:
    """Three hours at a stroke, each with a second in which everybody has a turn."""
    until_s = probe.now_s + seconds
    while probe.now_s < until_s:
        probe.tasks.now_ms += 10_800_000
        probe.chip.fed_ms = probe.tasks.now_ms
        probe.run_for(1)


def month(tmp_path: Path, settings: dict[str, Any], command: Callable[[Probe, int], bool]) -> list[float]:
    """The days on which `command` was not heard, every twelve hours of 30 days; ticks go round every 12.4 days."""
    deaf = []
    with Probe(tmp_path, LightOnly(()), settings) as probe:
        probe.run_for(5)
        for n in range(20):
            pass_time(probe, 36 * 3600)
            if not command(probe, n):
                deaf.append(round(probe.now_s / DAY_S, 2))
        assert probe.now_s > 30 * DAY_S
        assert probe.app.services.network.connects == 1  # one session all the while
    return deaf


def test_the_owner_and_the_hub_are_heard_for_a_month(tmp_path: Path) -> None:
    def command(probe: Probe, n: int) -> bool:
        heard = []
        for mode in ("ON", "OFF"):
            since_s = probe.now_s
            probe.say("optoprobe/cellar/alignment/set", mode)
            probe.run_for(3)
            heard.append(any(said.object()["mode"] == mode for said in probe.of("/alignment", since_s)))
        since_s = probe.now_s
        probe.say("homeassistant/status", "online")
        probe.run_for(8)
        return all(heard) and bool(probe.of("/config", since_s)) and bool(probe.of("/diagnostics", since_s))

    assert month(tmp_path, {"protocol": "sml"}, command) == []


def test_a_reading_that_is_typed_is_heard_for_a_month(tmp_path: Path) -> None:
    def command(probe: Probe, n: int) -> bool:
        since_s = probe.now_s
        probe.say("optoprobe/cellar/meter/reading/set", f"{1000 + n}.5")
        probe.run_for(5)
        return any(b"%d.5" % (1000 + n) in said.payload for said in probe.of("/state", since_s))

    assert month(tmp_path, {"protocol": "blink"}, command) == []


def test_the_diagnostics_come_twice_behind_an_announcement(tmp_path: Path) -> None:
    """A busy hub subscribes late, and its entities would be unavailable for a minute."""
    with Probe(tmp_path, LightOnly(()), {"protocol": "sml"}) as probe:
        probe.run_for(30)
        probe.say("homeassistant/status", "online")
        assert probe.run_for(10, done=lambda: probe.of("cellar/config", 30))
        announced_s = probe.now_s
        probe.run_for(50)
        told_s = [round(message.at_s - announced_s) for message in probe.of("/diagnostics", announced_s)]
        assert len(told_s) == 2 and told_s[0] <= 1 and 9 <= told_s[1] <= 12, told_s


def test_a_meters_first_values_wait_until_the_hub_has_subscribed(tmp_path: Path) -> None:
    """A heat meter's next ones come in an hour."""
    with Probe(tmp_path, SmlMeter(1), {"protocol": "sml"}) as probe:
        probe.run_for(5)
        config = next(message for message in probe.of("/config") if message.topic.count("_") > 1)
        assert "optoprobe_cellar_" in config.topic
        assert probe.of("/live")[0].at_s - config.at_s >= 0.5


def test_a_flood_of_the_hub_puts_the_announcement_off_no_more(tmp_path: Path) -> None:
    with Probe(tmp_path, LightOnly(()), {"protocol": "sml"}) as probe:
        probe.run_for(5)
        since_s = probe.now_s
        for _ in range(100):
            probe.say("homeassistant/status", "online")
            probe.run_for(1)
        assert 3 <= len(probe.of("cellar/config", since_s)) <= 4


def test_on_and_capture_within_half_a_second_are_both_obeyed(tmp_path: Path) -> None:
    with Probe(tmp_path, LightOnly(()), {"protocol": "sml"}) as probe:
        probe.run_for(5)
        probe.say("optoprobe/cellar/alignment/set", "ON")
        probe.say("optoprobe/cellar/capture/set", "3")
        assert probe.run_for(20, done=lambda: probe.of("/capture"))
        modes = [json.loads(said.payload)["mode"] for said in probe.of("/alignment")]
        assert modes[-1] == "OFF" and probe.of("/alignment")


def test_the_led_blinks_by_itself_while_the_network_fails_and_else_with_values(tmp_path: Path) -> None:
    with Probe(tmp_path, SmlMeter(1), {"protocol": "sml"}) as probe:
        seen: list[float] = []
        probe.app._led = SimpleNamespace(value=lambda *on: bool(seen.append(probe.now_s)) if on else False)
        probe.run_until(20)
        assert 15 <= len(seen) <= 40  # a value or two a telegram
        probe.app.services.network.failed_in_a_row = 1  # as after a fault, up to the next session
        before, at_s = len(seen), probe.now_s
        probe.run_for(10)
        waits = [round(later - earlier, 1) for earlier, later in zip(seen[before:], seen[before + 1 :], strict=False)]
        assert len(seen) - before in (19, 20, 21) and set(waits) <= {0.4, 0.5, 0.6}, (waits, at_s)
        probe.app._tool_runs = True  # alignment has it for itself
        before = len(seen)
        probe.run_for(5)
        assert len(seen) == before
