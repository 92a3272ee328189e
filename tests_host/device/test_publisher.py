"""From a telegram's readings to messages: registers that become better known, meters behind the meter, and the pace."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.announced import announced

from metering.guard import Guard
from metering.reading import Reading
from metering.register import medium
from metering.registers import describe

WATT, WATT_HOUR, CUBIC_METRE = 27, 30, 13


def code(text: str) -> bytes:
    """Six bytes of "1-0:1.8.0*255"; F = 255 unless said."""
    head, _, tail = text.partition(":")
    tail, _, last = tail.partition("*")
    return bytes([*map(int, head.split("-")), *map(int, tail.split(".")), int(last or 255)])


def reading(text: str, value: Any, exponent: int = 0, unit: int | None = None) -> Reading:
    return Reading(code(text), value, exponent, unit)


class Meter:
    """A listener with the telegram in hand that a test gives it."""

    name_may_follow = False
    names_model_only = False
    pin_needed = False
    proven = vouched = sealed = True
    name = "1OPT0014508515"

    def __init__(self, *readings: Reading) -> None:
        self.now = readings

    @property
    def n_values(self) -> int:
        return len(self.now)

    def meter_id(self) -> str:
        return self.name

    def printed_id(self) -> str:
        return self.number

    number = ""

    def published_readings(self) -> Iterator[Reading]:
        return iter(self.now)

    def assumed_energy_factor(self) -> int:
        return 0

    def maker(self) -> str:
        return ""

    model = maker


class Scene:
    """A publisher in front of such a meter, and what it hands to the outbox."""

    def __init__(self, device: Any, meter: Meter, interval_s: int = 0, percent: int = 10) -> None:
        self.device, self.meter, self.outbox = device, meter, device.outbox.Outbox()
        self.announcer = device.announcer.Announcer("optoprobe", "cellar", "Optoprobe", "homeassistant")
        pace = device.publisher.Pace(interval_s, percent)
        self.publisher = device.publisher.Publisher(meter, Guard(70_000), self.outbox, self.announcer, pace)

    def say(self, uptime_s: int, *readings: Reading) -> dict[str, Any]:
        """One telegram; returns what goes out: last level of the topic -> object."""
        self.meter.now = readings
        self.publisher.publish(uptime_s)
        messages = iter(self.outbox.pop_unsent, None)
        return {topic.decode().rpartition("/")[2]: json.loads(payload) for topic, payload, _ in messages}

    def components(self) -> dict[str, Any]:
        return announced(self.device, self.announcer, self.outbox.meter())["cmps"]


# --- meters behind the meter -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value", "key"),
    [
        ("0-1:24.2.1", "003", "gas_meter_1"),
        ("0-2:24.2.3", "03", "gas_meter_2"),
        ("0-1:24.3.0", "3", "gas_meter_1"),
        ("0-2:24.2.1", "007", "water_meter_2"),
        ("0-3:24.2.1", "004", "heat_meter_3"),
        ("0-4:24.2.1", "002", "electricity_meter_4"),
        ("0-1:24.2.1", "099", "mbus_b1"),
        ("0-1:24.2.1", "x", "mbus_b1"),
        ("0-1:24.2.1", "", "mbus_b1"),
        ("0-1:24.2.1", "12345", "mbus_b1"),
    ],
)
def test_what_a_meter_on_the_mbus_counts(text: str, value: str, key: str) -> None:
    measures = medium(reading("0-1:24.1.0", value))
    assert describe(reading(text, 12345, -3, CUBIC_METRE), measures).key == key
    assert medium(reading("0-1:24.2.1", value)) is None


def test_gas_and_water_can_be_chosen_for_the_dashboard_and_the_old_entities_go(device: Any) -> None:
    """The medium may be told behind the counter."""
    scene = Scene(device, Meter())
    counter = reading("0-1:24.2.1", 981443, -3, CUBIC_METRE)
    sent = scene.say(0, counter, reading("0-1:24.1.0", "003"), reading("0-2:24.1.0", "007"),
                     reading("0-2:24.2.1", 45409, -3, CUBIC_METRE))  # fmt: skip
    assert sent["state"]["gas_meter_1"] == "981.443" and sent["state"]["water_meter_2"] == "45.409"
    components = scene.components()
    for key, device_class in (("gas_meter_1", "gas"), ("water_meter_2", "water")):
        component = components[key]
        assert (component["dev_cla"], component["unit_of_meas"]) == (device_class, "m³")
        assert component["stat_cla"] == "total_increasing" and component.get("en", True)
    assert components["mbus_b1"] == components["mbus_b2"] == {"p": "sensor"}  # takes the entity away


def test_two_of_a_kind_stay_apart(device: Any) -> None:
    scene = Scene(device, Meter())
    both = [reading(f"0-{b}:24.1.0", "003") for b in (1, 2)]
    both += [reading(f"0-{b}:24.2.1", 1000 * b, -3, CUBIC_METRE) for b in (1, 2)]
    assert scene.say(0, *both)["state"]["gas_meter_2"] == "2.000"
    assert {"gas_meter_1", "gas_meter_2"} <= set(scene.components())


# --- what becomes better known ---------------------------------------------------------------------------------------


def test_a_text_may_turn_out_to_be_a_counter_and_is_announced_anew(device: Any) -> None:
    scene = Scene(device, Meter())
    medium = reading("0-1:24.1.0", "003")
    scene.say(0, medium, reading("0-1:24.2.1", "632525252525S"))
    assert scene.components()["obis_0_1_24_2_1_255"]["en"] is False
    sent = scene.say(10, medium, reading("0-1:24.2.1", 4321123, -3, CUBIC_METRE))
    assert sent["state"]["gas_meter_1"] == "4321.123"
    assert scene.components()["gas_meter_1"]["dev_cla"] == "gas"
    assert scene.components()["obis_0_1_24_2_1_255"] == {"p": "sensor"}


def test_a_number_never_becomes_a_text(device: Any) -> None:
    scene = Scene(device, Meter())
    scene.say(0, reading("1-0:1.8.0", 3699655, 0, WATT_HOUR))
    assert "state" not in scene.say(10, reading("1-0:1.8.0", "003699.655kWh"))
    assert list(scene.components()) == ["energy_import"]


def test_a_value_in_another_unit_is_not_told_in_the_first(device: Any) -> None:
    """A heat meter counts in GJ from one day on, one sends both, one leaves it out: 1 kWh was told as 3600 kWh."""
    scene = Scene(device, Meter())
    heat, flow = "6-0:1.0.0", "6-0:10.0.0"
    sent = scene.say(0, reading(heat, 1, 3, WATT_HOUR), reading(heat, 36, 5, 25), reading(flow, 603, -1, 9))
    assert sent == {"live": {"heat_flow_temperature": "60.3"}, "state": {"heat_energy": "1"}}
    for hour in range(1, 6):
        sent = scene.say(3600 * hour, reading(heat, 36, 5, 25), reading(flow, 3334, -1, 52), reading(flow, 603, 0))
        assert sent == {}
    assert scene.publisher._guard.held["unit"] == 16
    assert "6-0:10.0.0" in scene.publisher._guard.explanation and "unit" in scene.publisher._guard.explanation
    assert scene.say(20_000, reading(heat, 2, 3, WATT_HOUR))["state"] == {"heat_energy": "2"}


def test_a_unit_that_comes_later_is_the_registers_from_then_on(device: Any) -> None:
    """A list whose scale was not certain at first: a clock whose text becomes such a number is let be."""
    scene = Scene(device, Meter())
    clock = "1-0:0.9.1"
    assert scene.say(0, reading("1-0:32.7.0", 700), reading(clock, "120000"))["live"] == {"voltage_l1": "700"}
    assert "unit_of_meas" not in scene.components()["voltage_l1"]
    sent = scene.say(10, reading("1-0:32.7.0", 2301, -1, 35), reading(clock, 5, 0, 7))
    assert sent["live"] == {"voltage_l1": "230.1"}
    assert scene.components()["voltage_l1"]["unit_of_meas"] == "V"
    assert scene.say(20, reading("1-0:32.7.0", 700)) == {}


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "unit", "name"),
    [
        ("1-1:1.8.0", WATT_HOUR, "Energy import"),
        ("1-2:1.8.0", WATT_HOUR, "Energy import B2"),
        ("1-0:1.7.255", WATT, "Power"),
        ("1-0:1.6.0", WATT, "Power import max"),
        ("1-0:1.4.0", WATT, "Power import average"),
    ],
)
def test_names_tell_no_channel_of_the_one_meter_and_no_empty_tariff(text: str, unit: int, name: str) -> None:
    assert describe(reading(text, 1, 0, unit)).name() == name


def test_two_registers_are_named_in_full_where_one_name_would_be_both(device: Any) -> None:
    scene = Scene(device, Meter())
    scene.say(0, reading("1-0:1.8.0", 5, 0, WATT_HOUR), reading("1-1:1.8.0", 6, 0, WATT_HOUR))
    assert [c["name"] for c in scene.components().values()] == ["Energy import", "Energy import B1"]


def test_a_name_of_any_length_is_cut(device: Any) -> None:
    meter = Meter()
    meter.name = "x" * 1200
    scene = Scene(device, meter)
    scene.say(0, reading("1-0:16.7.0", 5, 0, WATT))
    assert scene.outbox.meter().slug == "x" * 64


def test_where_only_the_model_is_known_the_device_says_so(device: Any) -> None:
    """And it has no serial number; one that tells its number has."""
    meter = Meter()
    meter.name = "ABC MODEL-5"
    scene = Scene(device, meter)
    for meter.names_model_only in (True, False):
        scene.say(0, reading("1-0:1.8.0", 5, 0, WATT_HOUR))
        told = announced(device, scene.announcer, scene.outbox.meter())["dev"]
        assert told["name"] == "Meter ABC MODEL-5" + (" (model)" if meter.names_model_only else "")
        assert told.get("sn") == (None if meter.names_model_only else "ABC MODEL-5")
        scene = Scene(device, meter)


def test_the_number_printed_on_the_meter_is_its_serial_number(device: Any) -> None:
    """Its ids and topics follow what every list tells; the number may come later, or in some lists only."""
    scene = Scene(device, Meter())
    told = []
    lists = ((True, ""), (False, "3"), (True, "30000001"), (True, ""))
    for c, (scene.meter.sealed, scene.meter.number) in enumerate(lists):
        scene.say(0, reading("1-0:1.8.0", 5, 0, WATT_HOUR), reading(f"1-0:{3 + c}.7.0", 5, 0, WATT))
        payload = announced(device, scene.announcer, scene.outbox.meter())["dev"]
        assert payload["ids"] == ["optoprobe_cellar_1OPT0014508515"]
        assert payload["name"] == "Meter " + payload["sn"]
        told.append(payload["sn"])
    assert told == ["1OPT0014508515"] * 2 + ["30000001"] * 2


# --- what a fall of all counters means -------------------------------------------------------------------------------


def counters(*values: int) -> list[Reading]:
    return [reading(f"1-0:{c}.8.0", value, 0, WATT_HOUR) for c, value in zip((1, 2), values, strict=True)]


@pytest.mark.parametrize("is_model_only", [True, False])
def test_a_fall_of_all_counters_is_told_at_the_third_telegram(device: Any, is_model_only: bool) -> None:
    scene = Scene(device, Meter())
    scene.meter.names_model_only = is_model_only
    power = reading("1-0:16.7.0", 300, 0, WATT)
    for second in range(3):
        scene.say(second, *counters(5000, 600), power)
    notices = []
    for second in range(3, 7):
        assert "state" not in scene.say(second, *counters(70, 8), power)
        notices.append(scene.publisher.notice)
    assert notices[:2] == ["", ""] and notices[2] == notices[3]
    assert notices[2].startswith("all counters fell") and "restart the probe" in notices[2]
    assert ("another meter of the same model" in notices[2]) is is_model_only
    scene.say(7, *counters(5001, 600), power)  # the old one is back
    assert scene.publisher.notice == ""


def test_a_fall_of_one_counter_is_no_other_meter(device: Any) -> None:
    scene = Scene(device, Meter())
    for second in range(3):
        scene.say(second, *counters(5000, 600))
    for second in range(3, 9):
        scene.say(second, *counters(5000, 8))
    assert scene.publisher.notice == "" and scene.publisher._guard.held["went back"] == 6


def test_a_fall_beside_an_export_of_0_is_told_too(device: Any) -> None:
    scene = Scene(device, Meter())
    for at_s in (0, 60, 120, 180):
        scene.say(at_s, *counters(5000, 0))
    for second in range(181, 184):
        scene.say(second, *counters(70, 0))
    assert scene.publisher.notice.startswith("all counters fell")


# --- a meter that starts ---------------------------------------------------------------------------------------------


def test_of_a_telegram_that_is_all_0_nothing_is_told_unless_it_stays(device: Any) -> None:
    """A meter that starts says 0 of its power too; one that is new is believed after a minute."""
    scene = Scene(device, Meter())
    power = lambda watts: reading("1-0:16.7.0", watts, 0, WATT)  # noqa: E731
    assert not scene.say(0, *counters(0, 0), power(0)) and not scene.say(1, *counters(0, 0), power(0))
    assert scene.say(2, *counters(5000, 0), power(300))["live"] == {"power": "300"}
    assert not scene.say(3, *counters(0, 0), power(0))
    assert scene.publisher._guard.held["went back"] == 1
    assert scene.say(4, *counters(5000, 0), power(0))["live"] == {"power": "0"}
    new = Scene(device, Meter())
    said = [new.say(at_s, *counters(0, 0), power(0)) for at_s in (0, 30, 60)]
    assert said == [{}, {}, {"live": {"power": "0"}, "state": {"energy_import": "0.000", "energy_export": "0.000"}}]
    assert new.say(61, *counters(0, 0), power(0)) == {"live": {"power": "0"}}


# --- the time of a peak ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        ("230203174500W", "2023-02-03 17:45"),
        ("230803174500S", "2023-08-03 17:45"),
        ("1703182015", "2017-03-18 20:15"),
        ("16-02-29,18:00", "2016-02-29 18:00"),
        ("2016-02-29 18:00:00", "2016-02-29 18:00"),
        ("0000000000", ""),
        ("00-00-00,00:00", ""),
        ("1713182015", ""),  # month 13
        ("1703322015", ""),
        ("1703182515", ""),
        ("1703182060", ""),
        ("170318201", ""),
        ("002.468", ""),
        ("088*C", ""),
        ("", ""),
        ("W", ""),
        ("1" * 300, ""),
        ("17031820\u00e915", ""),
    ],
)
def test_when_a_maximum_was_reached(device: Any, printed: str, text: str) -> None:
    assert device.peak_times.peak_time(printed) == text


def companion(text: str, value: str) -> Reading:
    beside = reading(text, value)
    beside.is_companion = True
    beside.address = text
    return beside


def test_a_peak_has_its_time(device: Any) -> None:
    """As P1 prints it, the time in front of its value; only the running maximum has one, and nothing else."""
    scene = Scene(device, Meter())
    peak = companion("1-0:1.6.0", "230203174500W"), reading("1-0:1.6.0", 4329, 0, WATT)
    peak[1].address = peak[0].address
    gas = companion("0-1:24.2.3", "230203174500W"), reading("0-1:24.2.3", 981443, -3, CUBIC_METRE)
    sent = scene.say(0, *peak, *gas)
    assert sent["live"] == {"power_import_max": "4329"}
    assert sent["state"]["power_import_max_time"] == "2023-02-03 17:45"
    component = scene.components()["power_import_max_time"]
    assert component["name"] == "Power import max time" and component.get("en", True)
    assert [key for key in scene.components() if key.endswith("_time")] == ["power_import_max_time"]
    sent = scene.say(10, companion("1-0:1.6.0", "0000000000"), peak[1])  # a new month: no peak yet
    assert "state" not in sent


def test_the_time_of_a_peak_is_named_as_its_peak_is(device: Any) -> None:
    """Of a meter whose registers are all 1-1:, and of a tariff."""
    scene = Scene(device, Meter())
    peaks = [reading(f"1-1:1.6.{e}", 4329, 0, WATT) for e in (0, 1)]
    for e, peak in enumerate(peaks):
        peak.address = f"1-1:1.6.{e}"
    scene.say(0, *peaks, *(companion(peak.address, "1703182015") for peak in peaks))
    told = {key: component["name"] for key, component in scene.components().items() if "time" in key}
    assert told == {
        "power_import_max_time_b1": "Power import max time",
        "power_import_max_time_t1_b1": "Power import max time T1",
    }


# --- what the hub is offered -----------------------------------------------------------------------------------------


def test_every_entity_has_a_picture_of_its_own_or_by_its_class(device: Any) -> None:
    scene = Scene(device, Meter())
    scene.say(
        0,
        *counters(5, 6),
        reading("1-0:9.8.0", 5, 0, 31),  # kVAh, which has no class
        reading("1-0:81.7.1", 120, 0, 8),
        reading("1-0:96.1.0", b"\x01\x02"),
        reading("1-0:96.14.0", "0002"),
        reading("1-0:99.1.2", 5, 0, 24),
        companion("1-0:1.6.0", "230203174500W"),
        reading("1-0:1.6.0", 4329, 0, WATT),
    )
    blink = device.homeassistant_blink.BlinkingMeter("meter", "energy_counted", None, "energy_import", "set")
    bare = []
    for meter in (None, blink, scene.outbox.meter()):
        payload = announced(device, scene.announcer, meter)
        assert len(payload["cmps"]) >= 7
        shown = {key: component for key, component in payload["cmps"].items() if set(component) != {"p"}}
        bare += [key for key, component in shown.items() if not {"dev_cla", "ic"} & set(component)]
        for component in payload["cmps"].values():
            assert component.get("ic", "mdi:").startswith("mdi:") and not {"dev_cla", "ic"} <= set(component)
    assert bare == []


@pytest.mark.parametrize("reading_key", [None, "energy_import"])
def test_the_number_that_sets_a_reading_is_never_unknown(device: Any, reading_key: str | None) -> None:
    """Until one is set, what was counted stands for it; one that is held back for a while stays what it was."""
    blink = device.homeassistant_blink.BlinkingMeter("meter", "energy_counted", reading_key, "energy_import", "set")
    template = dict(blink.more_components("state", "live"))["set_reading"]["val_tpl"]
    other = "this.state | float('None')" if reading_key else "value_json.energy_counted"
    assert template == "{{ value_json.energy_import | default(" + other + ") | default('None') }}"


def test_tariffs_wait_disabled_where_the_total_is_there(device: Any) -> None:
    tariffs = [reading(f"1-0:1.8.{e}", 5, 0, WATT_HOUR) for e in (1, 2)]
    alone, beside = Scene(device, Meter()), Scene(device, Meter())
    alone.say(0, *tariffs)
    assert all(component.get("en", True) for component in alone.components().values())
    beside.say(0, reading("1-0:1.8.0", 10, 0, WATT_HOUR), *tariffs)
    enabled = [key for key, component in beside.components().items() if component.get("en", True)]
    assert enabled == ["energy_import"]


def test_decimals_are_shown_as_sent(device: Any) -> None:
    scene = Scene(device, Meter())
    scene.say(0, reading("1-0:1.8.0", 147981129, -1, WATT_HOUR), reading("1-0:14.7.0", 4998, -2, 44))
    components = scene.components()
    assert components["energy_import"]["sug_dsp_prc"] == 4  # 14798.1129 kWh
    assert components["frequency"]["sug_dsp_prc"] == 2


def test_a_power_factor_is_one(device: Any) -> None:
    scene = Scene(device, Meter())
    scene.say(0, reading("1-0:13.7.0", 98, -2))
    component = scene.components()["power_factor"]
    assert (component["dev_cla"], component["stat_cla"]) == ("power_factor", "measurement")
    assert "unit_of_meas" not in component


# --- the pace --------------------------------------------------------------------------------------------------------


def test_every_ten_seconds_and_the_newest_values(device: Any) -> None:
    scene = Scene(device, Meter(), interval_s=10)
    sent = {}
    for second in range(31):
        sent[second] = scene.say(second, reading("1-0:16.7.0", 5000 + second, 0, WATT),
                                 reading("1-0:1.8.0", 1000 + second, 0, WATT_HOUR))  # fmt: skip
    assert [second for second, messages in sent.items() if messages] == [0, 10, 20, 30]
    assert sent[20] == {"live": {"power": "5020"}, "state": {"energy_import": "1.020"}}


@pytest.mark.parametrize(
    ("before", "after", "at_once"),
    [
        ((500, 0), (550, 0), True),  # 10 %
        ((500, 0), (549, 0), False),
        ((500, 0), (450, 0), True),
        ((5, 0), (14, 0), False),  # 10 % of 100 W at the least
        ((5, 0), (15, 0), True),
        ((0, 0), (-10, 0), True),
        ((500, 0), (5500, -1), True),  # 550.0
        ((500, 0), (5499, -1), False),
        ((5, 2), (549, 0), False),  # 5 hundreds of W
    ],
)
def test_a_power_that_changes_goes_at_once(
    device: Any, before: tuple[int, int], after: tuple[int, int], at_once: bool
) -> None:
    scene = Scene(device, Meter(), interval_s=3600)
    assert scene.say(0, reading("1-0:16.7.0", *before, WATT))
    assert bool(scene.say(1, reading("1-0:16.7.0", *after, WATT))) is at_once


def test_0_seconds_is_every_telegram(device: Any) -> None:
    scene = Scene(device, Meter())
    assert all(scene.say(0, reading("1-0:16.7.0", 5, 0, WATT)) for _ in range(5))
