"""The options that say where a probe, or a port's line, is: the same in `capture` and `monitor`."""

from __future__ import annotations

import argparse
import contextlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from metering.line import Line

from ..broker_client import ProbeAddress
from ..capture_file import CaptureError, line_of

_MQTT_PORT, _MQTTS_PORT = 1883, 8883
_USUAL_PREFIX = "optoprobe"


class CommandFailed(Exception):
    """The text is one sentence without its full stop, `code` the command's exit code."""

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code


def add_where(parser: Any, line_help: str) -> Any:
    """--port with --line, or --broker with what belongs to it; returns the group of which one is needed."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", help="serial port of the head, such as /dev/ttyUSB0 or COM3")
    where.add_argument("--broker", metavar="HOST[:PORT]", type=host_and_port, help="the MQTT broker of the probe")
    parser.add_argument("--line", metavar="SETTINGS", type=_line, help=line_help)
    parser.add_argument("--probe", metavar="ID", type=_probe, help="which probe")
    parser.add_argument("--prefix", type=_prefix, help=f"mqtt_prefix of its settings ({_USUAL_PREFIX})")
    parser.add_argument("--user", help="at the broker")
    parser.add_argument("--password-file", metavar="FILE", type=Path, help="its first line is the password there")
    parser.add_argument("--tls-ca", metavar="FILE", type=Path, help="over TLS; the CA of its certificate, PEM")
    return where


def check_where(args: argparse.Namespace) -> None:
    """Raises CommandFailed for options that do not belong together."""
    if not args.broker and (args.probe or args.prefix or args.user or args.password_file or args.tls_ca):
        what = "--probe, --prefix, --user, --password-file and --tls-ca"
        raise CommandFailed(f"{what} belong to --broker: leave them out", 2)
    if args.broker and not args.probe:
        raise CommandFailed("--broker needs --probe ID too: the id is the topic's second level", 2)
    if args.password_file and not args.user:
        raise CommandFailed("MQTT knows no password without a user: give --user too", 2)


def probe_of(args: argparse.Namespace) -> ProbeAddress | None:
    """The probe that is meant, None where none is. Raises CommandFailed, which never shows the password."""
    if not args.broker:
        return None
    host, port = args.broker
    broker = host, port or (_MQTTS_PORT if args.tls_ca else _MQTT_PORT)
    topic = f"{args.prefix or _USUAL_PREFIX}/{args.probe}/"
    return ProbeAddress(broker, args.user, _password(args.password_file), args.tls_ca, args.probe, topic)


def _password(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        password = file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
        raise CommandFailed(f"{file} cannot be read ({reason}): check its name and permissions", 2) from error
    if not password:
        raise CommandFailed(f"{file}: its first line is empty, write the broker's password there", 2)
    return password


def host_and_port(text: str) -> tuple[str, int]:
    """HOST, HOST:PORT or [IPv6]:PORT, as argparse wants it; port 0 where none is named."""
    with contextlib.suppress(ValueError):
        parts = urlsplit("//" + text)
        is_whole = parts.netloc == text and "@" not in text and not any(map(str.isspace, text))
        if parts.hostname and parts.port != 0 and is_whole:
            return parts.hostname, parts.port or 0
    raise argparse.ArgumentTypeError("give HOST or HOST:PORT, such as 192.168.1.5")


def _line(text: str) -> Line:
    with contextlib.suppress(CaptureError):
        line = line_of(text.upper())
        if not line.invert:
            return line
    raise argparse.ArgumentTypeError("give such as '9600 8N1' or '2400 8E1'; what is inverted needs another head")


def _probe(text: str) -> str:
    if re.fullmatch("[A-Za-z0-9_-]{1,32}", text):
        return text
    raise argparse.ArgumentTypeError("give the probe's id, letters, digits, _ and -")


def _prefix(text: str) -> str:
    if re.fullmatch("[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", text):
        return text
    raise argparse.ArgumentTypeError("give letters, digits, _ - and / inside")
