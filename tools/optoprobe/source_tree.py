"""Where the device's sources and the descriptions of boards lie: in the clone, or where pip has put them.

A wheel holds boot.py, main.py, firmware/ and board_configs/ as data of this package (see setup.py); the core is the
installed package `metering` itself, so that a board gets the very files that decode here.
"""

from pathlib import Path

import metering

CLONE = Path(__file__).resolve().parents[2]
CORE = "lib/metering"
PACKAGES = ("firmware", CORE)  # wholly ours: what else lies there on a device is an earlier version's
STARTERS = ("boot.py", "main.py")
# Types, which only the checker reads; what computes faster where memory is plenty.
NOT_DEPLOYED = (Path("firmware/contracts.py"), Path(CORE, "on_computer"))

_PACKED = Path(__file__).resolve().parent / "device_files"
IS_INSTALLED = _PACKED.is_dir()  # away from any clone
ROOT = _PACKED if IS_INSTALLED else CLONE


def source(name: str | Path) -> Path:
    """The file or folder that is `name` on the device, such as "boot.py" or "lib/metering/sml.py"."""
    name = Path(name)
    if name.is_relative_to(CORE):
        return Path(metering.__path__[0]) / name.relative_to(CORE)
    return ROOT / name


def device_modules() -> list[Path]:
    """The names on the device, sorted by package, of every module that is copied there."""
    found = []
    for package in PACKAGES:
        folder = source(package)
        found += [Path(package) / file.relative_to(folder) for file in sorted(folder.rglob("*.py"))]
    return list(filter(is_deployed, found))


def is_deployed(name: Path) -> bool:
    """Does the module of this name go onto a device?"""
    return not any(map(name.is_relative_to, NOT_DEPLOYED))


def board_files() -> dict[str, Path]:
    """The descriptions of boards by their names."""
    return _json_files("board_configs")


def modbus_maps() -> dict[str, Path]:
    """The register maps of Modbus meters by their names (metering.modbus.modbus_map)."""
    return _json_files("modbus_maps")


def _json_files(folder: str) -> dict[str, Path]:
    return {path.stem: path for path in sorted((ROOT / folder).glob("*.json"))}
