"""The invocation counter of this computer's user, for DLMS meters that are asked with keys: none is used twice."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

STEP = 256  # counters reserved at once: a handful of sessions; those left over are never used
_NAME = "own_counter"


def system_title() -> bytes:
    """Ours: OPT and five bytes of what tells this computer from others."""
    return b"OPT" + hashlib.sha256(platform.node().encode()).digest()[:5]


def _file() -> Path:
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "optoprobe"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / _NAME


def reserve(least: int) -> int:
    """The first of STEP counters that nobody has used, none below `least`; 0 where it cannot be kept."""
    try:
        file = _file()
        with file.with_suffix(".lock").open("a") as lock:
            _lock(lock.fileno())
            kept = file.read_text(encoding="ascii").strip() if file.exists() else ""
            first = max(least, 1, int(kept) if kept.isdigit() else 0)
            written = file.with_suffix(".new")
            with written.open("w", encoding="ascii") as new:
                new.write(f"{first + STEP}\n")
                new.flush()
                os.fsync(new.fileno())
            written.replace(file)
            return first
    except OSError:
        return 0


def _lock(number: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows: two at once are the user's to avoid
        return
    fcntl.flock(number, fcntl.LOCK_EX)
