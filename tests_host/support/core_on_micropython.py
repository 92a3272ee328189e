"""Runs the scripts of tests_host/micropython/on_micropython with the core as a board has it, and on CPython."""

import os
import subprocess
import sys
from pathlib import Path

from optoprobe import device_tree, runtime

SCRIPTS = runtime.REPO / "tests_host" / "micropython" / "on_micropython"
HEAP = "64k"


def install(root: Path) -> Path:
    """Put the core into `root` as bytecode; returns `root`, which then belongs into MICROPYPATH."""
    lib = runtime.REPO / "lib"
    for source in sorted((lib / "metering").rglob("*.py")):
        folder = root / source.relative_to(lib).parent
        folder.mkdir(parents=True, exist_ok=True)
        device_tree.install(source, folder)
    return root


def micropython(core: Path, script: str, *arguments: object, heap: str = HEAP) -> tuple[int, str, str]:
    """Run one of the scripts; returns (exit code, output, errors). The script itself is compiled on the small heap."""
    command = [runtime.micropython(), "-X", f"heapsize={heap}", SCRIPTS / script, *arguments]
    environment = os.environ | {"MICROPYPATH": f"{core}:.frozen"}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode() + done.stdout.decode()[-2000:]


def printed(core: Path, script: str, *arguments: object, heap: str = HEAP) -> str:
    """What the script prints there; it must end well."""
    code, out, errors = micropython(core, script, *arguments, heap=heap)
    assert code == 0, errors
    return out


def printed_by_cpython(script: str, *arguments: object) -> str:
    """What the script prints on this computer's Python; it must end well."""
    command = [sys.executable, SCRIPTS / script, *arguments]
    environment = os.environ | {"PYTHONPATH": str(runtime.REPO / "lib")}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
