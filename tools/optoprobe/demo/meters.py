"""What stands in front of the demo's virtual board: a simulated meter, or a capture played again and again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from metering import protocols
from metering.line import Line

from .. import capture_file, decoding, simulated, transcript

AUTO = decoding.AUTO


@dataclass
class Played:
    """A source of the optical server and the line it begins with; `protocol` as in the settings, which `settings` adds
    to. `about` is what it is, in words; `note` what its owner must know."""

    protocol: str
    source: Any
    line: Line
    about: str
    settings: dict[str, object] = field(default_factory=dict)
    note: str = ""

    @property
    def is_blinking(self) -> bool:
        return self.protocol == protocols.BLINK

    @property
    def is_being_read(self) -> bool:
        """Does the meter answer somebody just now?"""
        return getattr(self.source, "is_being_read", False)


class NothingToPlay(Exception):
    """The text is one sentence without its full stop."""


def played(name: str, quirks: list[str]) -> Played:
    """The simulated meter that is called `name`, one of simulated.meters(). Raises NothingToPlay."""
    protocol = simulated.meters()[name]
    module = simulated.of(protocol)
    about = f"simulated {module.METERS[name]} meter" + (f" ({', '.join(quirks)})" if quirks else "")
    try:
        source = module.make(name, quirks)
    except ValueError as error:
        raise NothingToPlay(str(error)) from error
    settings = module.settings(source) if hasattr(module, "settings") else {}
    return Played(protocol, source, simulated.line_of(source, protocol), about, settings)


def name_of(meter: str) -> str:
    """What the meter called `meter` is, in words."""
    return simulated.of(simulated.meters()[meter]).METERS[meter]


def quirks_of(name: str) -> dict[str, str]:
    """The quirks that the meter called `name` may have, and what each is."""
    return getattr(simulated.of(simulated.meters()[name]), "QUIRKS", {})


def replayed(file: str, capture: bytes, key: str | None, auth_key: str | None) -> Played:
    """A capture, played as what its first telegram speaks; what no decoder takes is played all the same.

    Of a transcript it is what the meter said, of a capture file the part that speaks, or the longest. A read-out that
    was asked for is asked for again. Raises NothingToPlay.
    """
    from ..virtual.source import CaptureSource

    if transcript.is_transcript(capture):
        capture = transcript.of_meter(capture)[0]
    is_timed = capture_file.is_capture(capture)
    whole = capture_file.Segment(Line(9600), chunks=[(0, capture)] if capture else [])
    parts = capture_file.parse(capture).parts() if is_timed else [capture_file.Part([whole])]
    parts = sorted((part for part in parts if part.data), key=lambda part: len(part.data), reverse=True)
    if not parts:
        raise NothingToPlay(f"there are no bytes in {file}: name another file")
    about = f"capture {file}, again and again"
    keys: dict[str, object] = {"meter_key": key or "", "meter_auth_key": auth_key or ""}
    refused: dict[str, int] = {}
    for part in parts:
        for event in decoding.decode(part.data, key=key, auth_key=auth_key, pauses=part.pauses):
            if isinstance(event, decoding.Rejected):
                refused[event.reason] = refused.get(event.reason, 0) + 1
                continue
            recorded = getattr(simulated.of(event.protocol), "recorded", None)
            asked = recorded(part.data[event.offset :]) if recorded else None
            if asked is not None:
                return Played(event.protocol, asked, asked.line, about)
            if is_timed:
                return _timed(part, event.protocol, about, keys)
            line = Line(protocols.load(event.protocol).LINES[0].baud)
            return Played(event.protocol, CaptureSource(capture), line, about, keys)
    found = ", ".join(f"{reason} {n:,}" for reason, n in refused.items()) or "no start sequence found"
    n_bytes = sum(len(part.data) for part in parts)
    note = f"No telegram in {file} ({n_bytes:,} bytes, {found}): it is played all the same."
    if "key needed" in refused:
        note += " Give its --key, as your network operator sent it."
    if is_timed:
        return _timed(parts[0], AUTO, about, keys, note)
    return Played(AUTO, CaptureSource(capture), Line(9600), about, keys, note)


def _timed(part: capture_file.Part, protocol: str, about: str, keys: dict[str, object], note: str = "") -> Played:
    source = capture_file.Replay(part)
    line = {"line": _settings_text(source.line)} if protocol != AUTO else {}
    return Played(protocol, source, source.line, about, {**keys, **line}, note)


def _settings_text(line: Line) -> str:
    return f"{line.baud} {line.bits}{line.parity or 'N'}{line.stop}"
