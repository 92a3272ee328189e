"""`optoprobe config`: a probe's settings over its USB port, shown, changed, copied and reset.

What is given is held against the firmware's own check before the board is touched; a password or a key is asked without
being shown, goes onto the board and is never read back.
"""

from __future__ import annotations

import argparse
import difflib
import getpass
import json
import re
import sys
from pathlib import Path
from typing import Any

from ..settings import placed_files, wcc_sheet
from ..settings.on_board import SECRETS, STATE, Board, ConfigError, Row, problems_of, schema

_KEY_COLUMN = 24


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "config",
        help="a probe's settings over USB: show, change, export, import, reset",
        description="Without anything to do it shows the settings. A secret (password or key) is written and never "
        "read back: give its name alone (--set wifi_password) and it is asked. The probe restarts afterwards.",
        epilog="Exit code 0 done, 1 when the board would not, 2 for wrong usage or a value that is not accepted.",
        allow_abbrev=False,
    )
    parser.add_argument("--port", help="serial port of the board, such as /dev/ttyACM0 or COM3")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting; KEY alone of a secret"
    )
    parser.add_argument("--unset", action="append", default=[], metavar="KEY", help="back to its default")
    parser.add_argument("--import", dest="source", type=Path, metavar="FILE", help="change what the JSON file names")
    parser.add_argument(
        "--import-wcc", action="append", default=[], type=Path, metavar="FILE",
        help="take over a meter of a WCC Lite's configuration, .xlsx or .csv (a sheet each)",
    )  # fmt: skip
    parser.add_argument("--wcc-device", default="", metavar="ALIAS", help="which one, where there are several meters")
    parser.add_argument("--export", type=Path, metavar="FILE", help="write the settings but the secrets to a JSON file")
    parser.add_argument("--factory-reset", action="store_true", help=f"remove {', '.join(STATE)} from the board")
    parser.add_argument(
        "--wipe", action="store_true", help="have the probe do so, and take what its broker keeps of it off that first"
    )
    parser.add_argument("--yes", action="store_true", help="with --factory-reset and --wipe: do not ask")
    parser.add_argument("--help-settings", action="store_true", help="show every setting and what it takes")


def run(args: argparse.Namespace) -> int:
    try:
        rows = schema()
        if args.help_settings:
            print("\n".join(_help(rows)))
            return 0
        if not args.port:
            raise ConfigError("name the board's serial port with --port, or see --help-settings", 2)
        _config(args, rows)
    except ConfigError as error:
        print(f"optoprobe config: {error}.", file=sys.stderr)
        return error.code
    return 0


def _config(args: argparse.Namespace, rows: list[Row]) -> None:
    changes = _of_gateway(args.import_wcc, args.wcc_device) if args.import_wcc else {}
    changes |= (_imported(args.source, rows) if args.source else {}) | dict(_given(text, rows) for text in args.set)
    unset = tuple(_known(key, rows).key for key in args.unset)
    files: dict[str, bytes] = {}
    try:
        changes, files = placed_files.placed(changes, Path(), is_all=False)
        problems = problems_of(changes)
    except placed_files.PlacedFileError as error:
        raise ConfigError(f"{error}; nothing was written", 2) from error
    except UnicodeEncodeError as error:
        raise ConfigError("a value holds half a character: type it anew; nothing was written", 2) from error
    if problems:
        said = "; ".join(re.sub("is not accepted, .* is used;", "is not accepted:", text[10:]) for text in problems)
        raise ConfigError(f"{said}; nothing was written", 2)
    if args.factory_reset or args.wipe:
        option = "--factory-reset" if args.factory_reset else "--wipe"
        if changes or unset or args.export or args.factory_reset and args.wipe:
            raise ConfigError(f"{option} goes alone", 2)
        _forget(args, option)
        return
    with Board(args.port) as board:
        if changes or unset:
            board.write(changes, unset, files)
        found = board.read()
    if args.export:
        _export(args.export, found, rows)
    elif not changes and not unset:
        print("\n".join(_shown(rows, found)))
    if changes or unset:
        print(f"Written: {', '.join(sorted({*changes, *unset}))}. The probe restarts with it.")


def _forget(args: argparse.Namespace, option: str) -> None:
    if not args.yes:
        if not sys.stdin.isatty():
            raise ConfigError(f"{option} forgets the settings and an LED's energy total: say --yes", 2)
        print("The probe forgets its settings, its meter and, of a meter that only blinks, the energy total.")
        if input("Type yes to go on: ").strip() != "yes":
            raise ConfigError("nothing was removed", 2)
    gone: list[str] = []
    with Board(args.port) as board:
        if args.wipe:
            board.have_wiped()
        else:
            gone = board.factory_reset()
    if args.wipe:
        print("The probe restarts, takes off its broker what that keeps of it, and forgets its settings: within two")
        print(f"minutes; optoprobe monitor --console {args.port} says what comes of it. Leave it its power.")
    else:
        print(f"Removed: {', '.join(gone) or 'nothing was there'}. The probe restarts without settings.")


def _known(key: str, rows: list[Row]) -> Row:
    for row in rows:
        if row.key == key:
            return row
    alike = difflib.get_close_matches(key, [row.key for row in rows], 1)
    meant = f"did you mean {alike[0]}?" if alike else "see --help-settings"
    raise ConfigError(f"there is no setting {key}: {meant}", 2)


def _given(text: str, rows: list[Row]) -> tuple[str, Any]:
    """Key and value of one --set."""
    key, equals, value = text.partition("=")
    row = _known(key, rows)
    if not equals:
        if key not in SECRETS:
            raise ConfigError(f"give {key}=VALUE: only a secret is asked", 2)
        if not sys.stdin.isatty():
            raise ConfigError(f"{key} is asked at a terminal: run this in one", 2)
        return key, getpass.getpass(f"{key} (not shown): ")
    if isinstance(row.default, bool):
        return key, {"true": True, "false": False}.get(value.lower(), value)
    if isinstance(row.default, int) and re.fullmatch(r"-?[0-9]{1,9}", value):
        return key, int(value)
    return key, value


def _imported(file: Path, rows: list[Row]) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror}): check its name", 2) from error
    except (ValueError, RecursionError) as error:  # its text may quote a secret
        raise ConfigError(f"{file} is not JSON: correct it", 2) from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file} holds no object of keys and values: correct it", 2)
    known = [row.key for row in rows]
    unknown = sorted(set(content) - set(known))
    for key in unknown:
        if difflib.get_close_matches(key, known, 1):
            _known(key, rows)
    if unknown:
        print(f"Left out, as this version does not know them: {', '.join(unknown)}")
    found = {key: value for key, value in content.items() if key in known}
    return {key: placed_files.beside(key, value, file.parent) if key in placed_files.FILES else value
            for key, value in found.items()}  # fmt: skip


def _of_gateway(files: list[Path], alias: str) -> dict[str, Any]:
    try:
        found = wcc_sheet.read(files, alias)
    except wcc_sheet.WccError as error:
        raise ConfigError(f"{error}; nothing was written", 2) from error
    for sentence in found.left_out:
        print(f"Left out, {sentence}")
    return found.settings


def _export(file: Path, found: dict[str, Any], rows: list[Row]) -> None:
    """Only what is known to be no secret: a misspelt key may hold one."""
    known = {row.key for row in rows} - {*SECRETS, *placed_files.FILES}
    content = {key: value for key, value in sorted(found.items()) if key in known}
    try:
        file.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file} cannot be written ({error.strerror}): choose another place", 2) from error
    left_out = sorted(key for key in found if key not in content and (key not in SECRETS or found[key]))
    print(f"{len(content)} settings in {file}" + (f"; left out: {', '.join(left_out)}" if left_out else ""))


def _shown(rows: list[Row], found: dict[str, Any]) -> list[str]:
    lines = []
    for row in rows:
        if row.key in SECRETS:
            value = "(set)" if found.get(row.key) else "(empty)"
        else:
            value = json.dumps(found.get(row.key, row.default), ensure_ascii=False)
            value += "" if row.key in found else "  (default)"
        lines.append(f"{row.key:{_KEY_COLUMN}}{value}")
    known = {row.key for row in rows}
    return lines + [f"{key:{_KEY_COLUMN}}(not known to this version)" for key in sorted(set(found) - known)]


def _help(rows: list[Row]) -> list[str]:
    lines = []
    for row in rows:
        default = "" if row.default == "" else f"; default {json.dumps(row.default)}"
        secret = "; secret" if row.key in SECRETS else ""
        lines.append(f"{row.key:{_KEY_COLUMN}}{row.words}{default}{secret}")
    return lines
