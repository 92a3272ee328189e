"""Captures of real meters, where they lie beside the clone: a test that wants them is skipped where they do not."""

from pathlib import Path

import pytest

from optoprobe.environment import runtime

CORPUS = runtime.REPO.parent / "shared" / "corpus"
NO_CORPUS = "the corpus of real captures is not beside this clone"


def recorded(pattern: str) -> list[Path]:
    """Those whose path below the corpus is such, in order."""
    found = sorted(CORPUS.glob(pattern))
    if not found:
        pytest.skip(NO_CORPUS)
    return found


def recording(name: str) -> Path:
    return recorded(name)[0]
