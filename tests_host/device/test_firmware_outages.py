"""The broker goes away for 30 s and comes back; nothing the meter sent is lost and publishing resumes by itself.

The unmodified firmware on the virtual board (MicroPython, the 64 KiB heap), a simulated meter that never waits, and a
real mosquitto that keeps nothing on disk. The three outages take place side by side, two of them over TLS, the third
with the least rights at the broker that docs/security.md gives a probe.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from support.broker import (
    PASSWORD,
    Listener,
    Message,
    PausableMeter,
    closed_port,
    published,
    retained,
    users,
    wait_until,
)

from optoprobe.environment import runtime
from optoprobe.virtual.board import VirtualBoard
from optoprobe.virtual.broker import Broker
from optoprobe.virtual.optical_server import OpticalServer, Sent
from optoprobe.virtual.own_ca import OwnCa
from optoprobe.virtual.sml_meter import SmlMeter

OUTAGE_S = 30
BACK_WITHIN_S = 50  # on a busy machine; that it is 15 s is in test_network_parts.py, where time is virtual
TAIL_S = 5  # of normal life before and after
QUIET_S = 1.2  # longer than a telegram and its way
FOUND = {"protocol": "sml", "asked": False, "baud": 9600, "bits": 8, "parity": None, "heard": None, "invert": False}
FOUND |= {"seen": "SML push", "line": "9600 8N1", "slug": ""}


@dataclass
class Outage:
    """What was seen of one board before, during and after its outage."""

    probe: str = ""
    began_s: float = 0.0  # monotonic
    ended_s: float = 0.0
    sent_at_begin: int = 0
    sent_at_end: int = 0
    sent: list[Sent] = field(default_factory=list)
    diagnostics: dict = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    retained: dict[str, bytes] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)


def least_rights(folder: Path, probe: str, meter: SmlMeter) -> str:
    """Mosquitto's settings with the rules that docs/security.md gives, for this probe and its meter."""
    rules = (runtime.REPO / "docs" / "security.md").read_text().split("```")[1]
    number = published([("1-0:96.1.0*255", meter.server_id.hex(), None)])[0]["serial_number"]
    folder.mkdir(parents=True, exist_ok=True)
    files = {"acl": rules.replace("cellar", probe).replace("METER", number), "users": users("probe", "hub")}
    for name, text in files.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    return f"allow_anonymous false\nacl_file {folder / 'acl'}\npassword_file {folder / 'users'}"


Deed = Callable[[Broker], object]


def live_through(folder: Path, probe: str, begin: Deed, end: Deed) -> Outage:
    """Run a board through one outage; `begin` and `end` do it to the broker."""
    seen = Outage(probe)
    ca = OwnCa(folder / "ca") if probe != "probe_absent" else None
    sml = SmlMeter(seed=len(probe))
    hub, more = (None, None), ""
    if ca is None:
        hub, more = ("hub", PASSWORD), least_rights(folder, probe, sml)
    broker = Broker(folder / "broker", closed_port(), ca.sign("broker", "127.0.0.1") if ca else None, more)
    ca_file = ca.certificate if ca else None
    meter = PausableMeter(sml)
    settings = {"wifi_ssid": "home", "mqtt_host": "127.0.0.1", "mqtt_port": broker.port, "probe_id": probe}
    settings |= {"mqtt_tls_ca": str(ca_file)} if ca_file else {"mqtt_user": "probe", "mqtt_password": PASSWORD}
    server = OpticalServer(meter)
    board = VirtualBoard(folder / "device", settings, server.port)
    # Found before: a search tries other settings of the line, and what comes meanwhile is lost to it.
    (folder / "device" / "detected.json").write_text(json.dumps(FOUND))
    unreachable_at_start = begin is Broker.stop
    if not unreachable_at_start:
        broker.start()
    try:
        with server, board, Listener(broker.port, *hub, ca=ca_file) as listener:
            if not unreachable_at_start:
                listener.subscribed()
                listener.wait_for("/state", 15)
                time.sleep(TAIL_S)
            else:
                wait_until(lambda: server.boards == 1, 15, "the board did not start")
            begin(broker)
            seen.began_s, seen.sent_at_begin = time.monotonic(), server.telegrams_sent
            time.sleep(OUTAGE_S)
            end(broker)
            seen.ended_s, seen.sent_at_end = time.monotonic(), server.telegrams_sent
            listener.wait_for("/state", BACK_WITHIN_S, seen.ended_s)
            time.sleep(TAIL_S)
            meter.paused = True
            time.sleep(QUIET_S)
            seen.retained = retained(broker.port, 1.0, ca_file, *hub)  # before we ask: by itself
            asked_s = time.monotonic()
            listener.publish("homeassistant/status", "online")
            listener.wait_for("/device/optoprobe_" + probe + "/config", 8, asked_s)
            seen.diagnostics = listener.wait_for("/diagnostics", 8, asked_s + 1).object()
            time.sleep(1)
            assert board.running, board.log
            seen.sent = list(server.log)
            seen.messages = list(listener.messages)
    finally:
        seen.log = board.log
        broker.stop()
    assert server.telegrams_sent == len(seen.sent), "the meter went on while it was held back"
    return seen


OUTAGES = {
    "killed": (Broker.kill, Broker.start),
    "frozen": (Broker.freeze, Broker.thaw),
    "absent": (Broker.stop, Broker.start),  # not there when the board starts
}


@pytest.fixture(scope="module")
def outages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Outage]]]:
    if runtime.mosquitto() is None:
        pytest.skip("no mosquitto on this machine and none to be had")
    folder = tmp_path_factory.mktemp("outages")
    with ThreadPoolExecutor(len(OUTAGES)) as pool:
        yield {
            name: pool.submit(live_through, folder / name, "probe_" + name, begin, end)
            for name, (begin, end) in OUTAGES.items()
        }


@pytest.fixture(params=OUTAGES)
def outage(outages: dict[str, Future[Outage]], request: pytest.FixtureRequest) -> Outage:
    return outages[request.param].result()


def test_no_telegram_is_lost(outage: Outage) -> None:
    during = outage.sent_at_end - outage.sent_at_begin
    assert during >= OUTAGE_S - 2, "the meter did not send through the outage"
    diagnostics = outage.diagnostics
    assert diagnostics["telegrams"] == len(outage.sent), (diagnostics, outage.log)
    assert diagnostics["rejected"] == diagnostics["held"] == diagnostics["overruns"] == 0
    assert diagnostics["longest_stall_ms"] < 1000  # the loop that meters did not wait for the network
    assert diagnostics["notice"] == "ok"
    print(f"{outage.probe}: {during} telegrams in the outage, {len(outage.sent)} in all, all decoded")


def test_publishing_resumes_by_itself(outage: Outage) -> None:
    after = [m for m in outage.messages if m.topic.endswith("/live") and m.at_s > outage.ended_s]
    states = [m for m in outage.messages if m.topic.endswith("/state") and m.at_s > outage.ended_s]
    assert len(after) >= TAIL_S - 1, (len(after), outage.log)
    assert outage.diagnostics["mqtt_connects"] >= (1 if "absent" in outage.probe else 2)
    assert outage.diagnostics["mqtt_failures"] >= 1
    # The newest counter reading is there, and none the meter never sent.
    assert states[-1].object() == published(outage.sent[-1].expected)[0]
    print(f"{outage.probe}: publishing again {after[0].at_s - outage.ended_s:.1f} s after the broker's return")


def test_every_value_is_the_meters_and_none_goes_back(outage: Outage) -> None:
    told = [published(sent.expected) for sent in outage.sent]
    for ending, which in (("/state", 0), ("/live", 1)):
        heard = [m.object() for m in outage.messages if m.topic.endswith(ending) and not m.retained]
        assert len(heard) >= 2  # at little power a counter's last digit takes seconds
        wanted = [values[which] for values in told]
        at = 0
        for value in heard:  # each is of the same telegram as the one before or of a later one
            matching = [k for k in range(at, len(wanted)) if wanted[k] == value]
            assert matching, f"{ending}: {value} is no telegram's from the {at}th on"
            at = matching[0]
    energy = [int(m.object()["energy_import"].replace(".", "")) for m in outage.messages if m.topic.endswith("/state")]
    assert all(earlier <= later for earlier, later in pairwise(energy))


def test_a_broker_that_lost_everything_has_all_of_it_again(outage: Outage) -> None:
    state, _ = published(outage.sent[-1].expected)
    object_id = "optoprobe_" + outage.probe
    meter = state["serial_number"]
    assert sorted(outage.retained) == sorted(
        [
            f"homeassistant/device/{object_id}/config",
            f"homeassistant/device/{object_id}_{meter}/config",
            f"optoprobe/{outage.probe}/alignment",  # OFF, so that the hub knows it at once
            f"optoprobe/{outage.probe}/status",
            f"optoprobe/{outage.probe}/{meter}/state",
            f"optoprobe/{outage.probe}/{meter}/status",
        ]
    )
    assert outage.retained[f"optoprobe/{outage.probe}/status"] == b"online"
    assert outage.retained[f"optoprobe/{outage.probe}/{meter}/status"] == b"online"
    before = [m for m in outage.messages if m.topic.endswith(f"_{meter}/config") and m.at_s < outage.began_s]
    after = [m for m in outage.messages if m.topic.endswith(f"_{meter}/config") and m.at_s > outage.ended_s]
    assert before or "absent" in outage.probe
    assert len(after) >= 2, "announced after the outage by itself, and once more when the hub came back"
    assert outage.retained[f"homeassistant/device/{object_id}_{meter}/config"] == after[0].payload
    assert json.loads(outage.retained[f"optoprobe/{outage.probe}/{meter}/state"]) == state


def test_the_outage_is_named_in_one_sentence(outage: Outage) -> None:
    told = [line for line in outage.log if "the broker at 127.0.0.1" in line]
    assert 1 <= len(told) <= 4, outage.log  # said when it changes, not at each attempt
    assert not [line for line in outage.log if "Traceback" in line or "Error" in line], outage.log
    assert outage.diagnostics["mqtt_last_fault"].startswith("the broker at 127.0.0.1"), outage.diagnostics
    emitted = "\n".join(outage.log).encode() + b"".join(message.payload for message in outage.messages)
    assert PASSWORD.encode() not in emitted and b"BEGIN" not in emitted


def test_outages_took_place_side_by_side(outages: dict[str, Future[Outage]]) -> None:
    """Guards the run time of the suite."""
    spans = [future.result() for future in outages.values()]
    assert max(s.began_s for s in spans) < min(s.ended_s for s in spans)
    assert not [t for t in threading.enumerate() if t.name == "optical-server"]
