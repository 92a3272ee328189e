"""Python's heap on an ESP32: the second area has the size chosen, and what grows behind the start is noticed.

On a fake of the chip's memory (support.chip_heap), whose figures are an emulated classic ESP32's.
"""

import contextlib
import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.chip_heap import CLASSIC_AREA, CLASSIC_REGIONS, ChipHeap

from optoprobe.virtual.board import granted_bytes

BOARD = {"name": "mine", "uart": {"id": 1, "rx": 16, "tx": 17}}


@pytest.fixture
def start(device: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """start(chip, settings, board) is what boot.py does: the list [areas, bytes] that it keeps."""
    monkeypatch.chdir(tmp_path)

    def started(chip: ChipHeap, settings: object, board: object = BOARD, file: str = "probe/heap_area.mpy") -> Any:
        for name, content in (("settings.json", settings), ("board.json", board)):
            (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
        for name, fake in chip.modules().items():
            monkeypatch.setitem(sys.modules, name, fake)
        monkeypatch.setattr(sys.modules["machine"], "UART", chip.uart())
        sys.modules.pop("firmware.hardware.memory_figures", None)
        heap_area = importlib.import_module("firmware.hardware.heap_area")
        monkeypatch.setattr(heap_area, "__file__", file)
        monkeypatch.setattr(heap_area, "bytearray", chip.bytearray_of(), raising=False)
        monkeypatch.setattr(heap_area, "_list_of", chip.list_of)
        found = heap_area.grow()
        assert not chip.held  # whatever came of it
        assert {number for number, _, _ in chip.pins} <= {1, 2}  # 0 may be the console's
        return found

    yield started
    for name in ("firmware.hardware.heap_area", "firmware.hardware.memory_figures"):
        sys.modules.pop(name, None)


def figures(chip: ChipHeap) -> Any:
    sys.modules.pop("firmware.hardware.memory_figures", None)
    return importlib.import_module("firmware.hardware.memory_figures")


def take(chip: ChipHeap, size: int) -> None:
    """Many small objects, as of a program."""
    for _ in range(size // 256):
        chip.take(256)


def needed(protocol: str) -> int:
    return 1024 * int(sys.modules["firmware.hardware.heap_area"]._NEEDED_KIB[protocol])


@pytest.mark.parametrize(("machine", "uarts"), [("ESP32C6 module with ESP32-C6", {1}), ("module with ESP32", {1, 2})])
def test_a_c6s_uart_of_low_power_is_left_alone(
    start: Any, monkeypatch: pytest.MonkeyPatch, machine: str, uarts: set[int]
) -> None:
    """It has pins of its own: given others it keeps its buffer, given 4 and 5 they stay its (ESP-IDF, uart_set_pin)."""
    monkeypatch.setattr(sys.implementation, "_machine", machine, raising=False)
    chip = ChipHeap()
    start(chip, {"protocol": "sml"})
    assert {number for number, _, _ in chip.pins} == uarts


def test_what_is_run_from_romfs_needs_no_second_area_for_sml_and_a_smaller_one_else(start: Any) -> None:
    sizes = {}
    for protocol in ("sml", "dlms"):
        chip = ChipHeap()
        start(chip, {"protocol": protocol}, file="/rom/probe/heap_area.mpy")
        sizes[protocol] = chip.sizes[1:]
    assert sizes["sml"] == []
    wanted = needed("dlms") - 38 * 1024 - CLASSIC_AREA
    assert wanted <= sizes["dlms"][0] <= max(wanted + 2048, CLASSIC_REGIONS[1])


@pytest.mark.parametrize("protocol", ["sml", "iec62056-21", "dlms", "auto"])
def test_the_second_area_has_the_size_chosen(start: Any, protocol: str) -> None:
    chip = ChipHeap()
    free_before = sum(chip.free)
    heap = start(chip, {"protocol": protocol})
    wanted = needed(protocol) - CLASSIC_AREA
    assert len(chip.sizes) == 2 and wanted <= chip.sizes[1] <= max(wanted + 2048, CLASSIC_REGIONS[1])
    assert heap == [2, sum(chip.sizes)]
    assert sum(chip.free) == free_before - chip.sizes[1]  # nothing else is held
    assert {(rx, tx) for _, rx, tx in chip.pins} == {(16, 17)}
    chip.collect()
    assert len(chip.sizes) == 2  # the list holds it,
    take(chip, needed(protocol) - 16384)
    assert len(chip.sizes) == 2  # and the app fits
    chip.wifi()
    assert chip.largest > 12288  # with the doubling 12,452 were left in all


@pytest.mark.parametrize("protocol", ["sml", "blink"])
@pytest.mark.parametrize("first_area", [CLASSIC_AREA, 64 * 1024])
def test_what_the_virtual_boards_show_to_do_fits_into_the_areas(start: Any, protocol: str, first_area: int) -> None:
    """Every test with a virtual board runs in these bytes, in two areas; here a chip's doubling waits behind them."""
    granted = granted_bytes(protocol)
    chip = ChipHeap(first_area)
    start(chip, {"protocol": protocol})
    assert granted <= needed(protocol) and len(chip.sizes) == 2
    take(chip, granted - 7400 - 512)  # all of it, but for boot.py and what is left over at an area's end
    assert len(chip.sizes) == 2
    chip.wifi()
    assert chip.largest > 12288
    take(chip, sum(chip.sizes) - granted + 8192)  # and what passes them brings the third
    assert len(chip.sizes) == 3


def test_without_the_list_the_area_would_go_again(start: Any) -> None:
    chip = ChipHeap()
    heap = start(chip, {"protocol": "dlms"})
    assert len(chip.sizes) == 2
    del heap
    chip.collect()
    assert len(chip.sizes) == 1


@pytest.mark.parametrize(
    ("settings", "board", "why"),
    [
        ({"protocol": "martian"}, BOARD, "a protocol that is not known"),
        ({"protocol": ["dlms"]}, BOARD, "no text"),
        ({"protocol": "dlms"}, {"uart": {"id": 1, "rx": 16, "tx": None}}, "the driver would drive a pin of its own"),
        ({"protocol": "dlms"}, {"uart": {"id": 1, "tx": 16}}, "likewise"),
        ({"protocol": "dlms"}, {"uart": "none"}, "no uart"),
        ({"protocol": "dlms"}, "[1", "a torn board file"),
    ],
)
def test_it_does_nothing(start: Any, settings: object, board: object, why: str) -> None:
    chip = ChipHeap()
    assert start(chip, settings, board) == [1, CLASSIC_AREA], why
    assert chip.sizes == [CLASSIC_AREA] and not chip.pins


@pytest.mark.parametrize(
    ("chip", "why"),
    [
        (ChipHeap(65536, (188_352,), (1,)), "one UART holds too little: the area would be the doubling"),
        (ChipHeap(uarts=()), "no UART is free"),
        (ChipHeap(regions=(30_000,)), "the largest block is smaller than what is wanted"),
        (ChipHeap(200_000), "it fits already"),
    ],
)
def test_it_never_makes_things_worse(start: Any, chip: ChipHeap, why: str) -> None:
    before = list(chip.free)
    assert start(chip, {"protocol": "auto"}) == [1, chip.sizes[0]], why
    assert len(chip.sizes) == 1 and chip.free == before


def test_unusable_settings_are_taken_for_auto(start: Any) -> None:
    chip = ChipHeap()
    assert start(chip, '{"protocol": "dl')[0] == 2
    assert chip.sizes[1] >= needed("auto") - CLASSIC_AREA


def test_a_board_without_a_heap_of_the_chips_own_is_left_alone(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = ChipHeap()
    fakes = chip.modules()
    monkeypatch.setattr(chip, "modules", lambda: {"gc": fakes["gc"], "esp32": None})
    assert start(chip, {"protocol": "dlms"}) == [0, 0]
    assert not chip.pins and len(chip.sizes) == 1


# --- behind the start ------------------------------------------------------------------------------------------------


def test_growth_behind_the_start_is_noticed(start: Any) -> None:
    chip = ChipHeap()
    heap = start(chip, {"protocol": "sml"})
    chip.wifi()
    counts: dict[str, int] = {}
    assert figures(chip).count_into(counts, heap) == ""
    assert counts["heap_areas"] == 2 and counts["heap_bytes"] == sum(chip.sizes)
    assert counts["idf_free_bytes"] == sum(chip.free) and counts["idf_largest_block_bytes"] == chip.largest
    take(chip, counts["free_heap_bytes"])
    chip.take(1024)
    sentence = figures(chip).count_into(counts, heap)
    assert len(chip.sizes) == 3 and counts["heap_areas"] == 3
    left = sum(chip.free)
    assert sentence == f"memory: Python's heap has grown to {sum(chip.sizes)} bytes, {left} are left for Wi-Fi"
    assert figures(chip).count_into(counts, heap) == ""  # said once


def test_beyond_the_doubling_no_block_is_left_and_the_probe_restarts(start: Any, monkeypatch: Any) -> None:
    chip = ChipHeap()
    start(chip, {"protocol": "martian"})  # the way without any of this
    take(chip, CLASSIC_AREA - 8192)
    chip.take(2048)
    assert chip.sizes == [CLASSIC_AREA, CLASSIC_AREA]  # doubled
    chip.wifi()
    restarts = importlib.import_module("firmware.hardware.restarts")
    causes: list[int] = []
    monkeypatch.setattr(restarts, "restart", causes.append)
    figures(chip).restart_without_wifi_memory()
    assert not causes and chip.largest > 2048
    take(chip, CLASSIC_AREA - 8192)
    chip.take(8000)
    assert len(chip.sizes) == 3 and chip.largest < 15_000
    for region in range(len(chip.free)):
        chip.free[region] = min(chip.free[region], 340)  # the blocks that were left, one after the other
    with pytest.raises(OSError):
        chip.wifi()
    figures(chip).restart_without_wifi_memory()
    assert causes == [restarts.OUT_OF_WIFI_MEMORY]


@pytest.mark.parametrize(
    ("regions", "spare"),
    [((14_000,), False), ((60_000,), False), ((75_000,), True)],  # a classic with Wi-Fi joined; an S3
)
def test_room_counts_an_area_that_wifi_can_spare(start: Any, regions: tuple[int, ...], spare: bool) -> None:
    chip = ChipHeap(regions=regions)
    start(chip, {"protocol": "martian"})
    own = CLASSIC_AREA - 7400
    assert figures(chip).room() == own + (CLASSIC_AREA if spare else 0)


@pytest.mark.parametrize(("name", "payload", "fits"), [("alignment", b"ON", 8704), ("capture", b"5", 6144)])
def test_a_tool_is_refused_before_python_would_take_wifis_memory(
    start: Any, device: Any, name: str, payload: bytes, fits: int
) -> None:
    """What it needs is free in the two areas, or 16 bytes are lacking: then no third area comes, and it says so."""
    chip = ChipHeap()
    start(chip, {"protocol": "sml"})
    take(chip, needed("sml") - 20_000)
    chip.wifi()
    chip.areas[1].used += figures(chip).own_free() - fits
    told: list[str] = []
    begun: list[str] = []
    services = SimpleNamespace(
        network=SimpleNamespace(mailbox=SimpleNamespace(large_message=None, pop_command=lambda *_: None)),
        outbox=device.outbox.Outbox(),
        announcer=SimpleNamespace(topic=str.encode),
    )
    meter = SimpleNamespace(spares_battery=lambda: False)
    commands = device.owner_commands.OwnerCommands(services, meter, None, "mine", told.append)
    commands._load = lambda name, _: begun.append(name)  # its code, which nobody runs here
    for lacking in (16, 0):
        before, chip_free = chip.sizes, list(chip.free)
        chip.areas[1].used += lacking
        told.clear()
        with contextlib.suppress(AttributeError):  # of None, the tool that was loaded
            commands.step((name, payload, 1))
        assert bool(begun) is not bool(lacking)
        assert not lacking or told[0].startswith(f"{name} is refused: 4080 bytes of memory would be left, too few")
        assert chip.sizes == before and chip.free == chip_free
        chip.areas[1].used -= lacking
