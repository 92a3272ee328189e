"""Runs the scripts of tests_host/micropython/on_micropython with the core as a board has it, and on CPython."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from optoprobe import source_tree
from optoprobe.building import device_tree
from optoprobe.environment import runtime

SCRIPTS = runtime.REPO / "tests_host" / "micropython" / "on_micropython"
HEAP = "64k"


def install(root: Path) -> Path:
    """Put the core into `root` as bytecode; returns `root`, which then belongs into MICROPYPATH."""
    for name in source_tree.device_modules():
        if name.is_relative_to(source_tree.CORE):
            folder = root / name.relative_to("lib").parent
            folder.mkdir(parents=True, exist_ok=True)
            device_tree.install(source_tree.source(name), folder)
    return root


def micropython(core: Path, script: str | Path, *arguments: object, heap: str = HEAP) -> tuple[int, str, str]:
    """Run one of the scripts; returns (exit code, output, errors). The script itself is compiled on the small heap.

    It runs in a folder of its own with all it needs beside it, files among `arguments` too. So every path is a short
    name, and no figure depends on where a temporary folder lies: MicroPython keeps the paths of modules and arguments.
    """
    with tempfile.TemporaryDirectory() as name:
        beside = Path(name)
        files = [one for one in arguments if isinstance(one, Path)]
        keys = [one.with_name(one.name + ".keys") for one in files]
        ours = [core / "metering", SCRIPTS / "on_both.py", SCRIPTS / script]
        for path in [*ours, *files, *(key for key in keys if key.exists())]:
            (beside / path.name).symlink_to(path.resolve())
        words = [one.name if isinstance(one, Path) else str(one) for one in arguments]
        command = [str(runtime.micropython()), "-X", f"heapsize={heap}", Path(script).name, *words]
        environment = os.environ | {"MICROPYPATH": "::.frozen"}
        done = subprocess.run(command, cwd=beside, env=environment, capture_output=True, timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode() + done.stdout.decode()[-2000:]


def printed(core: Path, script: str | Path, *arguments: object, heap: str = HEAP) -> str:
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
