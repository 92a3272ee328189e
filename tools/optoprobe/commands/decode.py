"""`optoprobe decode FILE...`: the telegrams in captures, as lines for people or as JSON for programs."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from metering import protocols

from .. import capture_file, decoding, sessions, transcript
from ..capture_file import counted
from ..decoding import Rejected, Telegram
from ..virtual import publishing

STDIN = "-"
_MOST_PERIOD_S = 86_400
_MOST_NAME = 0xFFFF


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "decode",
        help="telegrams in captures -> readings",
        description="Prints every telegram in the given captures and the exact readings in it.",
        epilog="Exit code 0 if any telegram came out, 1 if none, 2 for wrong usage or an unreadable file.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--protocol", choices=decoding.protocol_names(), default=decoding.AUTO, help="what the meter speaks (auto)"
    )
    parser.add_argument("--key", metavar="HEX", help="key of encrypted telegrams, 32 hexadecimal digits")
    parser.add_argument("--auth-key", metavar="HEX", help="their authentication key, 32 hexadecimal digits")
    parser.add_argument(
        "--short-name",
        metavar="NAME=CODE",
        type=_short_name,
        action="append",
        help="a register's base name in a recorded session without the object list, such as 160=1-0:1.8.0*255",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object a telegram, a line each")
    form.add_argument(
        "--mqtt", action="store_true", help="the messages a probe would publish of it, one JSON object a line each"
    )
    parser.add_argument("--settings", metavar="FILE", type=Path, help="a probe's settings.json, for --mqtt")
    parser.add_argument(
        "--period", metavar="S", type=_seconds, default=10, help="seconds between two telegrams, for --mqtt (10)"
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="raw bytes; *.hex: hex text; a capture file; a transcript (lines of < from the meter, > to it, with hex);"
        " -: standard input",
    )


def _seconds(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= _MOST_PERIOD_S:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of seconds from 1 to {_MOST_PERIOD_S:,}")
    return int(text)


def _short_name(text: str) -> tuple[int, bytes]:
    found = re.fullmatch(r"(\d{1,5})=(\d{1,3})-(\d{1,3}):(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:\*(\d{1,3}))?", text)
    numbers = [int(number or 255) for number in found.groups()] if found else [_MOST_NAME + 1]
    if numbers[0] > _MOST_NAME or max(numbers[1:]) > 255:
        raise argparse.ArgumentTypeError(f"{text!r} is no base name and code, such as 160=1-0:1.8.0*255")
    return numbers[0], bytes(numbers[1:])


class Unreadable(Exception):
    """A file could not be read; the text is one sentence with the cure."""


@dataclass
class _Outcome:
    """What came of one file of `n_bytes`."""

    file: str
    n_bytes: int
    is_conversation: bool = False
    telegrams: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


def run(args: argparse.Namespace) -> int:
    try:
        for option, key in (("--key", args.key), ("--auth-key", args.auth_key)):
            decoding.clean_key(option, key)
    except ValueError as error:
        print(f"optoprobe decode: {error}.", file=sys.stderr)
        return 2
    outcomes = []
    unreadable = False
    for file in args.files:
        try:
            content = read(file)
            bursts = _conversation(content, args)
            parts = [] if bursts else parts_of(file, content)
        except Unreadable as error:
            unreadable = True
            print(f"optoprobe decode: {error}.", file=sys.stderr)
            continue
        n_bytes = sum(len(data) for data, _ in parts) + sum(len(burst.data) for burst in bursts)
        outcome = _Outcome(file, n_bytes, bool(bursts))
        outcomes.append(outcome)
        if args.mqtt:
            try:
                outcome.telegrams = _print_messages(parts, args)
            except publishing.SettingsError as error:
                print(f"optoprobe decode: {args.settings}: {error}.", file=sys.stderr)
                return 2
            if not outcome.telegrams:  # the messages do not say why
                outcome.rejected.update(e.reason for e in _events(parts, args) if isinstance(e, Rejected))
            continue
        for event in _events_of_session(file, content, bursts, args) if bursts else _events(parts, args):
            if isinstance(event, Telegram):
                outcome.telegrams += 1
            else:
                outcome.rejected[event.reason] += 1
            if args.json:
                print(json.dumps(as_object(file, event)))
            elif isinstance(event, Telegram):
                print("\n".join(as_lines(file, event)))
        if not args.json:
            print(_summary(outcome))
    nothing = not any(outcome.telegrams for outcome in outcomes)
    if nothing and outcomes:
        print(f"optoprobe decode: {_why_nothing(outcomes, args.protocol)}.", file=sys.stderr)
    return 2 if unreadable else 1 if nothing else 0


def _print_messages(parts: list[tuple[bytes, list[int]]], args: argparse.Namespace) -> int:
    """Print what would be published of one file; returns how many telegrams were good. Raises SettingsError."""
    keys = decoding.clean_key("--key", args.key), decoding.clean_key("--auth-key", args.auth_key)
    protocol = None if args.protocol == decoding.AUTO else args.protocol
    messages, summary = publishing.published(parts, protocol, keys, args.settings, args.period)
    for message in messages:
        print(json.dumps(message._asdict(), ensure_ascii=False))
    print(json.dumps({"summary": summary._asdict()}, ensure_ascii=False))
    return summary.good


def _conversation(content: bytes, args: argparse.Namespace) -> list[transcript.Burst]:
    """What both said where `content` may be a recorded conversation, else []."""
    if args.mqtt or args.protocol not in (decoding.AUTO, *sessions.names()) or not transcript.is_transcript(content):
        return []
    bursts = transcript.parse(content)
    return bursts if transcript.is_conversation(bursts) else []


def _events_of_session(
    file: str, content: bytes, bursts: list[transcript.Burst], args: argparse.Namespace
) -> list[Telegram | Rejected]:
    """What a conversation gives; where it is of no protocol that is known so, what a listener hears of it."""
    keys = decoding.clean_key("--key", args.key), decoding.clean_key("--auth-key", args.auth_key)
    events: list[Telegram | Rejected] = []
    for name in sessions.names() if args.protocol == decoding.AUTO else [args.protocol]:
        events = list(sessions.reader(name)(bursts, *keys, dict(args.short_name or ()))) or events
        if any(isinstance(event, Telegram) for event in events):
            break
    if args.protocol == decoding.AUTO and not any(isinstance(event, Telegram) for event in events):
        try:
            heard = list(_events(parts_of(file, content), args))
        except Unreadable:
            return events
        if any(isinstance(event, Telegram) for event in heard):
            return heard
    return events


def _events(parts: list[tuple[bytes, list[int]]], args: argparse.Namespace) -> Iterator[Telegram | Rejected]:
    before = 0
    for data, pauses in parts:
        for event in decoding.decode(data, args.protocol, args.key, args.auth_key, pauses):
            yield replace(event, offset=before + event.offset) if before else event
        before += len(data)


def parts_of(file: str, data: bytes) -> list[tuple[bytes, list[int]]]:
    """What read() has brought, as bytes to be decoded by themselves and the offsets of pauses in them. A capture file's
    are apart where the line's settings changed; of a transcript it is what the meter said. Raises Unreadable.
    """
    if transcript.is_transcript(data):
        try:
            return [transcript.of_meter(data)]
        except ValueError as error:
            raise Unreadable(f"{file} is a damaged transcript: {error}") from error
    if not capture_file.is_capture(data):
        return [(data, [])]
    try:
        return [(part.data, part.pauses) for part in capture_file.parse(data).parts()]
    except capture_file.CaptureError as error:
        raise Unreadable(f"{file} is a damaged capture file: {error}") from error


def read(file: str) -> bytes:
    """The bytes of `file` as named in the call: raw, a *.hex file's hex text, or standard input for "-"; of a capture
    file or a recorded session, whatever its name, the text.

    Raises Unreadable.
    """
    try:
        data = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Unreadable(f"{file} cannot be read ({reason}): check its name and its permissions") from error
    if not file.lower().endswith(".hex") or capture_file.is_capture(data) or transcript.is_transcript(data):
        return data
    try:
        return bytes_of_hex_text(data)
    except ValueError as error:
        raise Unreadable(f"{file} is not hex text ({error}): correct it, or rename it if it holds raw bytes") from error


def bytes_of_hex_text(text: bytes) -> bytes:
    """The bytes that hex digits spell; blanks, line ends, 0x, colons, commas, hyphens and comments (# ; //) are let be.

    Raises ValueError that says what is wrong in which line.
    """
    digits = []
    for number, line in enumerate(text.decode("utf-8-sig", "replace").splitlines(), 1):
        for word in re.split(r"[\s:,\-]+", re.sub(r"(#|;|//).*", "", line)):
            plain = word[2:] if word[:2] in ("0x", "0X") else word
            if plain != word and len(plain) == 1:  # 0x1
                plain = "0" + plain
            if re.search(r"[^0-9A-Fa-f]", plain):
                raise ValueError(f"line {number} holds {ascii(word[:20])}")
            digits.append(plain)
    joined = "".join(digits)
    if len(joined) % 2:
        raise ValueError(f"{len(joined):,} digits, an odd number")
    return bytes.fromhex(joined)


def as_object(file: str, event: Telegram | Rejected) -> dict[str, object]:
    """The JSON object of an event; the keys are part of the command's contract."""
    if isinstance(event, Rejected):
        refused = {"file": file, "offset": event.offset, "rejected": event.reason, "detail": event.detail}
        return {**refused, **(asdict(event.cipher) if event.cipher else {})}
    found: dict[str, object] = {
        "file": file,
        "protocol": event.protocol,
        "offset": event.offset,
        "meter_id": event.meter_id,
        "timestamp": event.timestamp,
        "readings": [
            {"obis": r.obis, "name": r.name, "value": r.value, "unit": r.unit} | (asdict(r.place) if r.place else {})
            for r in event.readings
        ],
    }
    if event.ident is not None:
        found["ident"] = asdict(event.ident)
        found["checked"] = event.checked
    if event.cipher is not None:
        found |= asdict(event.cipher)
    if event.apdu is not None:
        found["apdu"] = event.apdu
    if event.seconds_index is not None:
        found["seconds_index"] = event.seconds_index
    if event.notice is not None:
        found["notice"] = event.notice
    return found


def as_lines(file: str, telegram: Telegram) -> list[str]:
    """A telegram for people: where and whose, then a line a register, names, values and units under each other."""
    about = [f"{file}: {telegram.protocol} telegram at byte {telegram.offset:,}"]
    about += [f"meter {telegram.meter_id}"] if telegram.meter_id else []
    about += [telegram.timestamp] if telegram.timestamp else []
    about += [f"{telegram.seconds_index} s in operation"] if telegram.seconds_index is not None else []
    lines = [", ".join(about)]
    if telegram.notice:
        lines.append(f"  {telegram.notice}")
    rows = [("" if r.name == r.obis else r.name, r.obis, r.shown, r.shown_unit or "") for r in telegram.readings]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    for name, obis, shown, unit in rows:
        lines.append(f"  {name:{widths[0]}}  {obis:{widths[1]}}  {shown:>{min(widths[2], 24)}} {unit}".rstrip())
    return lines


def _reasons(rejected: Counter[str]) -> str:
    return ", ".join(f"{reason} {n:,}" for reason, n in rejected.most_common())


def _summary(outcome: _Outcome) -> str:
    text = f"{outcome.file}: {counted(outcome.n_bytes, 'byte')}, {counted(outcome.telegrams, 'telegram')}"
    if outcome.rejected:
        text += f", {outcome.rejected.total():,} rejected ({_reasons(outcome.rejected)})"
    return text


def _why_nothing(outcomes: list[_Outcome], protocol: str) -> str:
    """Why not one telegram came out, in one sentence."""
    where = outcomes[0].file if len(outcomes) == 1 else counted(len(outcomes), "file")
    size = counted(sum(outcome.n_bytes for outcome in outcomes), "byte")
    rejected = sum((outcome.rejected for outcome in outcomes), Counter[str]())
    if rejected:
        candidates = counted(rejected.total(), "candidate")
        return f"no telegram in {where}: {size}, {candidates}, all rejected: {_reasons(rejected)}"
    if all(outcome.is_conversation for outcome in outcomes):
        return f"no telegram in {where}: {size} of a conversation in which no value is read"
    names = protocols.searched() if protocol == decoding.AUTO else [protocol]
    return f"no telegram in {where}: {size}, no start sequence of {' or '.join(names)} found"
