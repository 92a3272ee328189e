"""Fetch what the virtual board runs on into <clone>/.runtime/: nothing is installed on the system, no root is needed.

    python -m optoprobe.environment.runtime [PART...]   fetch all, or these, as far as they are missing, one line each

Away from a clone, where pip has installed this, they lie in the user's cache directory. What comes, and from where (an
environment variable can name something else):

    micropython   MicroPython's unix port, Debian's i386 build     OPTOPROBE_MICROPYTHON=<program>
    mosquitto     the machine's own, else its Debian release's     (no MQTT broker at all is not an error)
    umqtt         PyPI sdist micropython-umqtt.simple, by checksum; ESP32 images have it frozen in
    nodejs        the machine's own, else of PyPI                  (runs the web page's parts in the suite)
    webtools      npm's esp-web-tools and improv-wifi-serial-sdk, by checksum; npm is the machine's own, else of PyPI
    axe           npm's axe-core, by checksum, for tests           only where the extra `dev` is installed
    typings       MicroPython type stubs for pyrefly               only where the extra `dev` is installed
    cosem         PyPI dlms-cosem and its structlog, by checksum   only where the extra `dev` is installed
    chromium      Debian's browser without a window, for tests     only where the extra `dev` is installed, on Debian

Why i386: an ESP32 has 31-bit small ints and a tick counter that wraps at 2**30, and so has the 32-bit unix port.
A 64-bit MicroPython differs in both and its objects take twice the heap, so memory figures taken there are not the
device's. OPTOPROBE_MICROPYTHON may still name one where nothing else runs.

Every part is built in a temporary directory and renamed when it has run once: a directory of the final name is
complete. This needs only the standard library, so it also works before the virtual environment exists.
"""

import fcntl
import hashlib
import io
import json
import os
import platform
import re
import shutil
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ..source_tree import CLONE, IS_INSTALLED
from . import npm_packages
from .debian_packages import MICROPYTHON_OVERRIDE, own_architecture, own_suite, unpack, write_launcher
from .package_index import download
from .subprocesses import SetupError, exit_code, run, say
from .typeshed import make_complete

__all__ = ["RUNTIME", "SetupError", "chromium", "micropython", "mosquitto", "node", "setup", "typings", "umqtt"]
__all__ += ["axe", "cosem", "webtools"]

REPO = CLONE
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "optoprobe"
RUNTIME = _CACHE if IS_INSTALLED else CLONE / ".runtime"

# 1.25.0 is in trixie; sid is newer and is tried only where a mirror has no trixie any more.
MICROPYTHON_SUITES = ("trixie", "sid")
UMQTT_PROJECT, UMQTT_VERSION = "micropython-umqtt.simple", "1.3.4"
UMQTT_FILES = tuple(f"{name}-{UMQTT_VERSION}.tar.gz" for name in (UMQTT_PROJECT, "micropython_umqtt.simple"))
UMQTT_SHA256 = "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f"
_NPM_PACKAGES = (npm_packages.ESP_WEB_TOOLS, npm_packages.IMPROV)
# An independent DLMS client that clashes with dsmr-parser, so that .venv has an older one; for tests alone (BSL 1.1).
_COSEM = (
    ("dlms-cosem", "25.1.0", "04cc7c54d5aef3898e13db1d6ebfd97acf9a9b8443e4fe1261eee4f14353ac46"),
    ("structlog", "26.1.0", "e081a26d6c373e6d201eca24eede26d8ffab07f88f477822e679183428d3d91e"),
)
STUBS = ("micropython-esp32-stubs", "micropython-stdlib-stubs")  # their versions are pinned in pyproject.toml

_CURE = "python -m optoprobe.environment.runtime" if IS_INSTALLED else "make setup"
Echo = Callable[[str], object]


class Part(NamedTuple):
    """One directory below .runtime/."""

    name: str
    wanted: str  # what is pinned; a directory made for another text is fetched anew
    fetch: Callable[[Path], str]  # fills an empty directory, returns a one-line description; raises SetupError
    required: bool


# --- what the rest of the project asks for ---------------------------------------------------------------------------


def micropython() -> Path:
    """Return the program that starts MicroPython; raises SetupError when there is none."""
    named = os.environ.get(MICROPYTHON_OVERRIDE)
    if named:
        program = shutil.which(named)
        if program is None:
            raise SetupError(f"{MICROPYTHON_OVERRIDE}={named} is no program that can be run; correct or unset it.")
        return Path(program).absolute()
    return _present("micropython") / "micropython"


def mosquitto() -> Path | None:
    """Return the program that starts a mosquitto broker, the machine's own first, or None when there is none.

    Started as root it gives up root for the user mosquitto, or nobody: its files must be readable for that user.
    """
    return _system_mosquitto() or _launcher_or_none("mosquitto")


def umqtt() -> Path:
    """Return the directory to put on MICROPYPATH so that `import umqtt.simple` works; raises SetupError."""
    return _present("umqtt")


def node() -> Path:
    """Return the program node, which runs JavaScript, the machine's own first; raises SetupError when there is none."""
    return npm_packages.machines_own("node") or npm_packages.node_below(_present("nodejs"))


def webtools() -> Path:
    """Return the directory with the files of each package of npm's below its name, such as esp-web-tools/dist/web/.

    Raises SetupError; setup(names=("webtools",)) fetches them.
    """
    return _present("webtools")


def axe() -> Path:
    """Return the script that looks in a page for what keeps people out of it; raises SetupError."""
    return _present("axe") / npm_packages.AXE.name / "axe.min.js"


def cosem() -> Path:
    """Return the directory to put first on the path for a newer dlms-cosem than .venv has; raises SetupError."""
    return _present("cosem")


def typings() -> Path:
    """Return the directory of MicroPython's type stubs (pyrefly's typeshed-path, and on its search-path).

    Raises SetupError.
    """
    return _present("typings")


def chromium() -> Path | None:
    """Return the program that starts a browser without a window, or None when there is none."""
    return _launcher_or_none("chromium")


def setup(echo: Echo = print, names: Collection[str] = ()) -> None:
    """Fetch every part of `names`, all for none, that is missing, side by side, and say, one line each, what is where.

    A part that cannot be fetched does not stop the others; afterwards SetupError is raised with the first reason,
    unless only parts failed that can be done without (mosquitto, chromium).
    """
    failures = []

    def make(part: Part) -> None:
        try:
            echo(_line(part.name, _complete(part) or _install(part, echo)))
        except SetupError as error:
            echo(f"{part.name:<12} not available: {error}")
            if part.required:
                failures.append(error)

    with ThreadPoolExecutor() as pool:
        list(pool.map(make, [part for part in _parts(echo) if not names or part.name in names]))
    if failures:
        raise failures[0]


# --- parts -----------------------------------------------------------------------------------------------------------


def _parts(echo: Echo) -> Iterator[Part]:
    if os.environ.get(MICROPYTHON_OVERRIDE):
        echo(f"{'micropython':<12} {micropython()}, named by {MICROPYTHON_OVERRIDE}")
    else:
        yield Part("micropython", " ".join(("i386", *MICROPYTHON_SUITES)), _fetch_micropython, required=True)
    own_broker = _system_mosquitto()
    if own_broker:
        echo(f"{'mosquitto':<12} {own_broker}, the system's own")
    else:
        yield Part("mosquitto", own_suite(), _fetch_mosquitto, required=False)
    yield Part("umqtt", UMQTT_SHA256, _fetch_umqtt, required=True)
    if npm_packages.machines_own("node") is None:
        yield Part("nodejs", npm_packages.NODE_WHEEL, _fetch_node, required=False)
    packages = " ".join(package.sha256 for package in _NPM_PACKAGES)
    yield Part("webtools", packages, _fetch_webtools, required=False)
    if not IS_INSTALLED and (Path(sys.prefix) / "bin" / "pyrefly").exists():  # the extra `dev` is installed here
        yield Part("typings", " ".join(map(_pin, (*STUBS, "pyrefly"))), _fetch_typings, required=True)
        yield Part("cosem", " ".join(sha256 for _, _, sha256 in _COSEM), _fetch_cosem, required=False)
        yield Part("axe", npm_packages.AXE.sha256, _fetch_axe, required=False)
        yield Part("chromium", own_suite(), _fetch_chromium, required=False)


def _present(name: str) -> Path:
    directory = RUNTIME / name
    if not (directory / "about.json").exists():
        raise SetupError(f"{name} is not in {RUNTIME} yet; run `{_CURE}`.")
    return directory


def _launcher_or_none(name: str) -> Path | None:
    launcher = RUNTIME / name / name
    return launcher if launcher.exists() else None


def _system_mosquitto() -> Path | None:
    # A normal user's PATH on Debian has no sbin, where the package puts the broker.
    found = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")
    return Path(found) if found else None


def _complete(part: Part) -> dict | None:
    """Return what about.json says of a complete directory made for what is wanted now, else None."""
    try:
        about = json.loads((RUNTIME / part.name / "about.json").read_text())
    except FileNotFoundError:
        return None
    return about | {"seconds": None} if about["wanted"] == part.wanted else None


def _install(part: Part, echo: Echo) -> dict:
    """Fetch a part beside its place, then rename it into place; returns what about.json says."""
    RUNTIME.mkdir(parents=True, exist_ok=True)
    with (RUNTIME / f".lock-{part.name}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second set-up waits here, then finds the part complete
        about = _complete(part)
        if about:
            return about
        echo(f"{part.name:<12} fetching ...")
        for left_over in RUNTIME.glob(f".fetching-{part.name}-*"):  # of a set-up that was killed; we hold the lock
            shutil.rmtree(left_over)
        started = time.monotonic()
        prefix = f".fetching-{part.name}-"
        with tempfile.TemporaryDirectory(prefix=prefix, dir=RUNTIME, ignore_cleanup_errors=True) as scratch:
            fresh = Path(scratch) / part.name
            fresh.mkdir()
            about = {"wanted": part.wanted, "what": part.fetch(fresh), "bytes": 0, "seconds": 0.0}
            about["bytes"] = sum(f.lstat().st_size for f in fresh.rglob("*") if f.is_file() and not f.is_symlink())
            about["seconds"] = round(time.monotonic() - started, 1)
            (fresh / "about.json").write_text(json.dumps(about))
            final = RUNTIME / part.name
            if final.exists():
                final.rename(Path(scratch) / "outdated")
            fresh.rename(final)
        return about


def _line(name: str, about: dict) -> str:
    spent = "already there" if about["seconds"] is None else f"{about['seconds']:.1f} s"
    size = f"{about['bytes'] / 1e6:.1f} MB" if about["bytes"] >= 100_000 else f"{about['bytes'] / 1e3:.1f} kB"
    return f"{name:<12} {about['what']}, {size} in {RUNTIME / name} ({spent})"


def _fetch_micropython(target: Path) -> str:
    if platform.machine() not in ("x86_64", "i686", "i586", "i386"):
        raise SetupError(
            f"the 32-bit MicroPython needs an x86 machine, this is {platform.machine()}; "
            f"name a MicroPython of your own in {MICROPYTHON_OVERRIDE}."
        )
    suite = unpack(target / "root", "i386", MICROPYTHON_SUITES, "micropython")
    launcher = write_launcher(target, "micropython", "usr/bin/micropython")
    said = say(launcher, "-c", "import sys; print(*sys.implementation[1][:3], sys.maxsize)")
    version = re.fullmatch(r"(\d+) (\d+) (\d+) 2147483647\s*", said)
    if version is None:
        raise SetupError(
            f"the i386 MicroPython does not run here ({said.strip()[:200] or 'no output'}); use a kernel that runs "
            f"32-bit x86 programs or name a MicroPython of your own in {MICROPYTHON_OVERRIDE}."
        )
    return f"MicroPython {'.'.join(version.groups())} i386 of Debian {suite}"


def _fetch_mosquitto(target: Path) -> str:
    # What mosquitto is linked with are all lib* packages; the rest (adduser, perl ...) serves its installation only.
    suite = unpack(target / "root", own_architecture(), (own_suite(),), "mosquitto", ("mosquitto_", "lib"))
    launcher = write_launcher(target, "mosquitto", "usr/sbin/mosquitto")
    said = say(launcher, "-h")
    version = re.search(r"mosquitto version (\S+)", said)
    if version is None:
        raise SetupError(f"the fetched mosquitto does not run ({said.strip()[:200]}); install the package mosquitto.")
    return f"mosquitto {version[1]} of Debian {suite}"


def _fetch_chromium(target: Path) -> str:
    # It starts itself again for each page, so it runs with the machine's own libc, of the same release. Pictures are
    # made without Mesa, whose compiler is half of what would come.
    leave = ("libc6_", "libllvm", "libgl1-mesa-dri", "libz3")
    keep = ("chromium-headless-shell_", "chromium-common_", "lib", "font")
    suite = unpack(target / "root", own_architecture(), (own_suite(),), "chromium-headless-shell", keep, leave)
    for name in ("doc", "gir-1.0", "icons", "locale", "man"):
        shutil.rmtree(target / "root" / "usr" / "share" / name, ignore_errors=True)
    shared = [file for file in target.glob("**/lib*.so*") if "gconv" not in file.parts]
    libraries = {str(file.parent.relative_to(target)) for file in shared}
    launcher = target / "chromium"
    launcher.write_text(
        "#!/bin/sh\n"
        "# Written by optoprobe: starts the browser with its own libraries and fonts, wherever this stands.\n"
        'here=$(cd "${0%/*}" && pwd)\n'
        f'export LD_LIBRARY_PATH="{":".join(f"$here/{folder}" for folder in sorted(libraries))}"\n'
        'export FONTCONFIG_PATH="$here/root/etc/fonts" FONTCONFIG_SYSROOT="$here/root"\n'
        'exec "$here/root/usr/lib/chromium/chromium-headless-shell" "$@"\n'
    )
    launcher.chmod(0o755)
    said = say(launcher, "--version")
    version = re.search(r"(?:Chromium|HeadlessChrome|Chrome)\S* (\d[\d.]+)", said)
    if version is None:
        raise SetupError(f"the fetched chromium does not run ({said.strip()[:200]}); tests with a browser are skipped.")
    return f"Chromium {version[1]} of Debian {suite}"


def _fetch_umqtt(target: Path) -> str:
    archive = download(UMQTT_PROJECT, UMQTT_FILES)
    if hashlib.sha256(archive).hexdigest() != UMQTT_SHA256:
        raise SetupError(f"{UMQTT_PROJECT} {UMQTT_VERSION} has another sha256 than ours; use another package index.")
    with tarfile.open(fileobj=io.BytesIO(archive)) as sdist:
        for ending, place in (("/umqtt/simple.py", "umqtt/simple.py"), ("/PKG-INFO", "PKG-INFO")):
            member = next(m for m in sdist.getmembers() if m.name.endswith(ending))  # the checksum says they exist
            source = sdist.extractfile(member)
            assert source is not None  # a regular file, by the checksum
            (target / place).parent.mkdir(exist_ok=True)
            (target / place).write_bytes(source.read())
    return f"umqtt.simple {UMQTT_VERSION} of PyPI (MIT)"


def _fetch_cosem(target: Path) -> str:
    for project, version, sha256 in _COSEM:
        wheel = download(project, (f"{project.replace('-', '_')}-{version}-py3-none-any.whl",))
        if hashlib.sha256(wheel).hexdigest() != sha256:
            raise SetupError(f"{project} {version} has another sha256 than ours; use another package index.")
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            archive.extractall(target, [name for name in archive.namelist() if not name.startswith("tests/")])
    return " and ".join(f"{project} {version}" for project, version, _ in _COSEM) + " of PyPI (BSL 1.1, for tests)"


def _fetch_node(target: Path) -> str:
    return f"node {say(npm_packages.install_node(target), '--version').strip()} of PyPI"


def _fetch_webtools(target: Path) -> str:
    return _fetch_of_npm(_NPM_PACKAGES, target) + " of npm (Apache 2.0)"


def _fetch_axe(target: Path) -> str:
    return _fetch_of_npm((npm_packages.AXE,), target) + " of npm (MPL 2.0)"


def _fetch_of_npm(packages: tuple[npm_packages.Package, ...], target: Path) -> str:
    with tempfile.TemporaryDirectory(prefix=".fetching-npm-node-", dir=RUNTIME) as scratch:
        there = RUNTIME / "nodejs"
        npm_packages.unpack(packages, target, there if there.exists() else Path(scratch))
    return ", ".join(f"{package.name} {package.version}" for package in packages)


def _fetch_typings(target: Path) -> str:
    requirements = tuple(map(_pin, STUBS))
    command = (sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--target", str(target), *requirements)
    run(command, "the type stubs cannot be installed with pip")
    make_complete(target / "stdlib")
    return requirements[0]


# --- small helpers ---------------------------------------------------------------------------------------------------


def _pin(project: str) -> str:
    """Return the requirement `project==version` that pyproject.toml pins, the one place for versions."""
    found = re.search(rf'"({re.escape(project)}==[^"]+)"', (REPO / "pyproject.toml").read_text())
    if found is None:
        raise SetupError(f"pyproject.toml pins no {project}; add it to the extra `typings`.")
    return found[1]


def main(names: list[str]) -> int:
    """Fetch what is missing of the parts `names`, of all for none; returns the exit code."""
    known = ("micropython", "mosquitto", "umqtt", "nodejs", "webtools", "axe", "typings", "cosem", "chromium")
    if not set(names) <= set(known):
        print("usage: python -m optoprobe.environment.runtime", *(f"[{name}]" for name in known), file=sys.stderr)
        return 2
    return exit_code(lambda: setup(names=names))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
