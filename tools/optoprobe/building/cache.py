"""What was computed before from the same input by the same code, in the folder that OPTOPROBE_BUILD_CACHE names.

The suite names one for its own run, as some fifty of its processes build the same device tree (7 s of computing each).
Nobody else has one: without the variable nothing is kept. A file is called by the hash of all that its content follows
from, so what is there is right or is not found; what cannot be read is computed, by one thread of one process while the
others that want the same wait for it.
"""

import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

VARIABLE = "OPTOPROBE_BUILD_CACHE"
_PACKAGE = Path(__file__).resolve().parents[1]
_MAKERS = (
    "source_tree.py",
    "building/device_tree.py",
    "building/flat_layout.py",
    "building/lean_source.py",
    "building/name_mapping.py",
    "building/stock_names.txt",
)


def kept(make: Callable[[], Any], inputs: Iterable[str]) -> Any:
    """What make() returns (texts, numbers, lists and dicts of these), which must follow from `inputs` alone."""
    named = os.environ.get(VARIABLE)
    if not named:
        return make()
    file = Path(named) / _key(inputs)
    with contextlib.suppress(OSError, ValueError):
        return _read(file)
    with _alone(file):
        with contextlib.suppress(OSError, ValueError):
            return _read(file)
        made = make()
        with contextlib.suppress(OSError):
            with tempfile.NamedTemporaryFile("w", dir=named, delete=False, encoding="utf-8") as scratch:
                json.dump(made, scratch)
            os.replace(scratch.name, file)  # whole or not at all, whoever else writes it
    return made


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Nobody else makes `file` meanwhile; where a folder takes no lock each makes it for itself."""
    import fcntl  # where there is a cache there is one

    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            lock = held.enter_context(file.with_suffix(".lock").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _key(inputs: Iterable[str]) -> str:
    hashed = hashlib.sha256(sys.version.encode())
    for text in (*((_PACKAGE / name).read_text(encoding="utf-8") for name in _MAKERS), *inputs):
        data = text.encode()
        hashed.update(len(data).to_bytes(8, "big") + data)
    return hashed.hexdigest()
