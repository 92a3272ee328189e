"""A protocol is one family and one row: by its row alone it is found, asked, decoded, masked and replayed everywhere,
and without the row it is unknown everywhere. The protocol that shows it lives in the tests only (support.toy).
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import toy
from support.virtual_time import Probe

import optoprobe
from metering import protocols
from optoprobe import cli, masking, simulated
from optoprobe.capture_file import Capture, Segment
from optoprobe.decoding import signatures
from optoprobe.masking import mask
from optoprobe.virtual.source import CaptureSource


@pytest.fixture
def known() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        toy.make_known(patch)
        yield
        protocols.unload_protocols()


def energies(probe: Probe) -> list[str]:
    return [message.object()["energy_import"] for message in probe.of("/state") if b"energy" in message.payload]


@pytest.mark.parametrize("period_s", [2.0, 0.0], ids=["pushed", "asked"])
def test_it_is_found_and_published(tmp_path: Path, known: None, period_s: float) -> None:
    with Probe(tmp_path, toy.ToyMeter(period_s), {}) as probe:
        found = probe.run_until(90, done=lambda: energies(probe))
        assert found, (probe.diagnostics(), probe.log)
        told = probe.diagnostics()
        assert (told["protocol"], told["line"]) == ("toy", "4800 8N1")
        assert energies(probe)[0].startswith("1000.0")
        probe.run_for(30)
        assert probe.diagnostics()["protocol"] == "toy" and probe.diagnostics()["rejected"] == 0


def test_it_is_decoded_and_replayed(tmp_path: Path, known: None) -> None:
    data = b"".join(toy.telegram(1_000_000 + k) for k in range(3))
    for protocol in ("toy", "auto"):
        events: Any = list(optoprobe.decode(data, protocol))
        assert [(event.protocol, event.readings[0].shown) for event in events] == [
            ("toy", "1000.000"), ("toy", "1000.001"), ("toy", "1000.002")
        ]  # fmt: skip
    with Probe(tmp_path, CaptureSource(toy.telegram(1_000_007), pause_s=1.0), {}, line=toy.ToyMeter.line) as probe:
        assert probe.run_until(60, done=lambda: energies(probe)), probe.diagnostics()
        assert energies(probe) == ["1000.007"]


def capture_of(data: bytes) -> Capture:
    return Capture(segments=[Segment(toy.ToyMeter.line, chunks=[(0, data)])], end_ms=1000)


def test_it_is_masked_by_the_file_beside_its_row(known: None) -> None:
    masked = mask(capture_of(toy.telegram(1_000_000))).readable_bytes()
    assert masked == toy.telegram(1_000_000, b"TOYS0000")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masking, "__path__", masking.__path__[:-1])
        patch.delitem(sys.modules, "optoprobe.masking.toy", raising=False)
        assert mask(capture_of(toy.telegram(1_000_000))).readable_bytes() == b""  # without it nothing leaves


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """(exit code, standard output, standard error)."""
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, err


@pytest.fixture(scope="module")
def at_once() -> Iterator[dict[str, tuple[int, str, str]]]:
    """What takes longest, side by side: by name the exit code and what was said by two readers and the demo."""
    demo = toy.start("demo", "--meter", "toy")
    played = {meter: toy.start("simulate", "--pty", "--meter", meter) for meter in ("toy", "toy-asked")}
    reading = {}
    try:
        for meter, protocol in (("toy", "auto"), ("toy-asked", "toy")):
            stdout = played[meter].stdout
            assert stdout is not None
            port = stdout.readline().strip()
            reading[meter] = toy.start("read", "--port", port, "--protocol", protocol, "--json", "--timeout", "40")
        assert demo.stdout is not None
        seen = ""
        for line in demo.stdout:
            seen += line
            if "Energy import" in line:
                demo.send_signal(signal.SIGINT)
                break
        code, _, err = ended(demo)
        yield {meter: ended(process) for meter, process in reading.items()} | {"demo": (code, seen, err)}
    finally:
        demo.kill()
        for process in (*reading.values(), *played.values()):
            process.send_signal(signal.SIGINT)
        left = [ended(process) for process in played.values()]
    assert [code for code, _, _ in left] == [0, 0], left


@pytest.mark.parametrize("meter", ["toy", "toy-asked"], ids=["pushed, found by itself", "asked"])
def test_it_is_simulated_and_read(at_once: dict[str, tuple[int, str, str]], meter: str) -> None:
    code, out, err = at_once[meter]
    assert code == 0, err
    said = json.loads(out)
    assert (said["protocol"], said["readings"][0]["name"]) == ("toy", "Energy import")


def test_the_demo_shows_it_through_the_firmware_on_the_virtual_board(at_once: dict[str, tuple[int, str, str]]) -> None:
    code, seen, err = at_once["demo"]
    assert (code, err) == (0, ""), seen
    assert "simulated toy meter" in seen and "  Energy import " in seen
    assert "1000.0" in seen.splitlines()[-1] and seen.endswith(" kWh\n")


def test_a_toy_has_its_own_quirks(known: None) -> None:
    assert simulated.meters()["toy-asked"] == "toy" and simulated.usual_meter("toy") == "toy"
    assert simulated.line_of(toy.ToyMeter(), "toy").baud == 4800
    assert simulated.heap_bytes("toy") == simulated.OTHERS_BYTES > simulated.heap_bytes("sml")
    with pytest.raises(SystemExit):
        cli.main(["demo", "--meter", "toy", "--quirk", "nonsense"])
    assert cli.main(["demo", "--meter", "toy", "--quirk", "kermit"]) == 2
    assert cli.main(["simulate", "--pty", "--protocol", "toy", "--history", "3"]) == 2


def test_without_its_row_it_is_unknown_everywhere(tmp_path: Path) -> None:
    assert "toy" not in protocols.names()
    assert signatures(toy.telegram(1)) == []
    assert not [event for event in optoprobe.decode(toy.telegram(1)) if isinstance(event, optoprobe.Telegram)]
    with pytest.raises(ValueError, match="there is no protocol toy"):
        optoprobe.decode(b"", "toy")
    assert "toy" not in simulated.meters() and "toy" not in simulated.simulated_protocols()
    with pytest.raises(KeyError):
        simulated.of("toy")
    assert simulated.heap_bytes("toy") == simulated.OTHERS_BYTES
    for command in (["simulate", "--pty", "--protocol", "toy"], ["read", "--port", "x", "--protocol", "toy"]):
        with pytest.raises(SystemExit):
            cli.main(command)
    with pytest.raises(SystemExit):
        cli.main(["demo", "--meter", "toy"])
    for period_s in (2.0, 0.0):
        with Probe(tmp_path, toy.ToyMeter(period_s), {}) as probe:
            assert not probe.run_until(60, done=lambda probe=probe: energies(probe))
            assert probe.diagnostics()["protocol"] == "searching"
