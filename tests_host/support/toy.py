"""A protocol that lives in the tests only: its family, its meter, and the one row that makes it known."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support import command_line
from support.virtual_time import modules

import metering
from metering import protocols
from metering.line import Line
from optoprobe import cli, masking, simulated
from optoprobe.virtual.source import Transmission

ROW = "toy toy.toy_listener toy.toy_poll toy.toy_probe -"
FOLDER = Path(__file__).parent / "toy_protocol"


def telegram(wh: int, meter: bytes = b"TOYS7654") -> bytes:
    body = meter + wh.to_bytes(4, "big")
    return b"\xa5\x5a" + body + bytes([sum(body) & 0xFF])


class ToyMeter:
    """Pushes every `period_s`; 0: answers a5 3f."""

    line = Line(4800)

    def __init__(self, period_s: float = 2.0) -> None:
        self.period_s = period_s
        self._heard = b""
        self._due: list[float] = []
        self._next_s = 0.5

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        if self.period_s and now_s >= self._next_s:
            self._next_s += self.period_s
            return Transmission(self._next_s - self.period_s, telegram(int(1_000_000 + now_s)), telegram)
        if self._due and now_s >= self._due[0]:
            return Transmission(self._due.pop(0), telegram(int(1_000_000 + now_s)), telegram)
        return None

    def receive(self, value: int, at_s: float) -> None:
        self._heard = (self._heard + bytes([value]))[-2:]
        if not self.period_s and self._heard == b"\xa5?":
            self._due.append(at_s + 0.05)

    def wake_s(self) -> float | None:
        return min([*self._due[:1], *([self._next_s] if self.period_s else [])], default=None)


def make_known(patch: pytest.MonkeyPatch) -> None:
    """The row stands in the registry until `patch` is undone, on the computer and on the device in virtual time."""
    patch.setattr(protocols, "ROWS", protocols.ROWS + "\n" + ROW)
    patch.setattr(metering, "__path__", [*metering.__path__, str(FOLDER)])
    patch.setattr(masking, "__path__", [*masking.__path__, str(FOLDER / "masking")])
    patch.setattr(simulated, "__path__", [*simulated.__path__, str(FOLDER / "simulated")])
    core = modules.PACKAGES["metering"]
    registry = core / "protocols.py"
    text = registry.read_text(encoding="utf-8") + f"\nROWS += {chr(10) + ROW!r}\n"
    patch.setitem(modules.CODE, registry, compile(text, str(registry), "exec", dont_inherit=True))
    patch.setitem(modules.CODE, core / "toy.py", compile("", "toy", "exec"))
    for source in (FOLDER / "toy").glob("*.py"):
        code = compile(source.read_text(encoding="utf-8"), str(source), "exec", dont_inherit=True)
        patch.setitem(modules.CODE, core / "toy" / source.name, code)


def start(*arguments: str) -> subprocess.Popen[str]:
    """`optoprobe ...` in a process of its own, where the row stands in the registry, on a board that it builds too."""
    path = str(Path(__file__).parents[1])
    return command_line.start(*arguments, program=("-c", "from support import toy; toy.main()"), PYTHONPATH=path)


def main() -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="optoprobe-toy-") as folder:
        make_known(patch)
        core = Path(folder, "metering")
        shutil.copytree(metering.__path__[0], core, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(FOLDER / "toy", core / "toy", ignore=shutil.ignore_patterns("__pycache__"))
        with (core / "protocols.py").open("a", encoding="utf-8") as registry:
            registry.write(f"\nROWS += {chr(10) + ROW!r}\n")
        patch.setattr(metering, "__path__", [str(core), *metering.__path__])
        sys.exit(cli.main(sys.argv[1:]))
