"""A static site that puts a probe onto a board from a browser, over USB.

    index.html, page.js, style.css    the page: which board, what to do before and after
    board_settings.js                 what page.js lets a board do to keep its broker's name
    esp-web-tools/                    writes the flash and sets the Wi-Fi (Improv), unchanged as its makers built it
    firmware/NAME.json                for each board a manifest: which pieces of its image go where
    firmware/SHA256.bin               a piece, without the erased places around it; boards of one chip share some
    firmware/names.json               leads the short names of a traceback back (optoprobe traceback --names)

No image holds settings: a site is for whoever opens it. The same input gives the same bytes. The page asks nothing of
any other place than its own.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from .. import __version__
from ..building.device_tree import name_map
from ..flashing import image
from ..flashing.error import FlashError
from ..flashing.stock_format import BLOCK
from ..settings import on_board
from . import index_page

PAGE_FILES = Path(__file__).parent / "page_files"
MARK = "optoprobe-site.json"  # says that a folder is a site of ours, which may be written anew
_BUILT = "dist/web/"  # of ESP Web Tools: what a page loads, with all it needs
_GAP = 64 * 1024  # of erased bytes, which is worth a piece of its own
_IMPROV_WAIT_S = 30  # for a board to start for the first time
_TYPES = {".js": "text/javascript", ".json": "application/json", ".html": "text/html; charset=utf-8"}


def build(
    folder: Path,
    boards: Mapping[str, Path],
    stock_files: Mapping[str, Path],
    tools: Mapping[str, bytes],
    say: Callable[[str], object],
) -> None:
    """Write the site for `boards` (name to board file, checked) into `folder`, whole or not at all.

    `stock_files` has MicroPython for each chip, `tools` the files of ESP Web Tools. Raises FlashError and
    device_tree.BuildError.
    """
    check_folder(folder)
    files = {name.removeprefix(_BUILT): data for name, data in tools.items() if name.startswith(_BUILT)}
    files = {f"esp-web-tools/{name}": data for name, data in files.items()}
    if "esp-web-tools/install-button.js" not in files or "LICENSE" not in tools:
        raise FlashError("ESP Web Tools lack their built files: take another version of optoprobe")
    files["esp-web-tools/LICENSE"] = tools["LICENSE"]
    rows = []
    for name, board in boards.items():
        about = json.loads(board.read_text(encoding="utf-8"))
        built = image.build_image(board, None, stock_files[about["chip"]])
        say(f"  {name}: {image.spelt(built.stock.chip)}, {len(built.files)} files, sha256 of the image {built.sha256}")
        parts: list[dict[str, object]] = []
        for offset, data in pieces(built.data):
            path = f"{hashlib.sha256(data).hexdigest()[:16]}.bin"
            files[f"firmware/{path}"] = data
            parts.append({"path": path, "offset": offset})
        files[f"firmware/{name}.json"] = _json(manifest(about.get("name", name), built.stock.chip, parts))
        rows.append(index_page.Board(name, about.get("name", name), about.get("about", ""), built.stock.chip,
                                        about.get("confirmed", False)))  # fmt: skip
    files["firmware/names.json"] = _json({"version": __version__, "names": name_map().table()})
    files["board_settings.js"] = _steps()
    for file in PAGE_FILES.iterdir():
        files[file.name] = file.read_bytes()
    files["index.html"] = index_page.html(rows).encode()
    listed = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    files[MARK] = _json({"version": __version__, "sha256": listed})
    _put(folder, files)


def check_folder(folder: Path) -> None:
    """Raises FlashError where `folder` holds what is not ours."""
    try:
        if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / MARK).is_file())):
            raise FlashError(f"{folder} holds something else than a site: name a new or an empty folder", 2)
    except OSError as error:
        raise FlashError(f"{folder} cannot be read ({error.strerror}): name another folder", 2) from error


def manifest(name: str, chip: str, parts: list[dict[str, object]]) -> dict[str, object]:
    """What ESP Web Tools reads about the board called `name`: it refuses every chip but this."""
    return {
        "name": f"optoprobe for {name}",
        "version": __version__,
        "new_install_improv_wait_time": _IMPROV_WAIT_S,
        "builds": [{"chipFamily": image.spelt(chip), "parts": parts}],
    }


def pieces(data: bytes) -> list[tuple[int, bytes]]:
    """Offset and bytes of what an image writes; what lies between is erased in it, as in a flash before it is written.

    Pieces are whole blocks, and at least _GAP apart.
    """
    erased = b"\xff" * _GAP
    found = []
    at = 0
    while at < len(data):
        if data[at : at + BLOCK] == erased[: len(data[at : at + BLOCK])]:
            at += BLOCK
            continue
        gap = data.find(erased, at)
        end = len(data) if gap < 0 else gap
        end = min(-(-end // BLOCK) * BLOCK, len(data))
        found.append((at, data[at:end]))
        at = end
    return found


def _steps() -> bytes:
    """The same MicroPython that `optoprobe config` runs on a board, for the page."""
    load = on_board.LOAD
    steps = {"begin": on_board.BEGIN, "setup_password": load + on_board.SETUP_PASSWORD}
    steps["write"] = load + on_board.WRITE
    return f"export const steps = {json.dumps(steps, indent=1)};\n".encode()


def _json(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


def _put(folder: Path, files: Mapping[str, bytes]) -> None:
    """A folder with `files` in place of the one that was there."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
            fresh = Path(scratch, "site")
            fresh.mkdir()
            for name, data in files.items():
                (fresh / name).parent.mkdir(exist_ok=True)
                (fresh / name).write_bytes(data)
            if folder.exists():
                folder.rename(Path(scratch, "earlier"))
            fresh.rename(folder)
    except OSError as error:
        raise FlashError(f"{folder} cannot be written ({error.strerror}): name another folder", 2) from error


# --- served on this machine ------------------------------------------------------------------------------------------


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | _TYPES  # not what a machine's tables say

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def list_directory(self, path: object) -> None:  # type: ignore[override]
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None: ...


def server(folder: Path, port: int) -> http.server.ThreadingHTTPServer:
    """Serves `folder` to this machine alone; port 0 takes a free one. Raises FlashError."""
    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, directory=str(folder)))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the last one is 65535"
        raise FlashError(f"port {port} cannot be had ({reason}): name another, --serve 8070", 2) from error
