"""Fetch what the virtual board runs on into <clone>/.runtime/: nothing is installed on the system, no root is needed.

    python -m optoprobe.runtime             fetch all that is missing, one line each; instant when all is there
    python -m optoprobe.runtime venv DIR    make a virtual environment, also where Debian's python3-venv is missing

What comes, and from where (an environment variable can name something else):

    micropython   MicroPython's unix port, Debian's i386 build     OPTOPROBE_MICROPYTHON=<program>
    mosquitto     the machine's own, else its Debian release's     (no MQTT broker at all is not an error)
    umqtt         PyPI sdist micropython-umqtt.simple, by checksum; ESP32 images have it frozen in
    typings       MicroPython type stubs for pyright               only where the extra `dev` is installed

Why i386: an ESP32 has 31-bit small ints and a tick counter that wraps at 2**30, and so has the 32-bit unix port.
A 64-bit MicroPython differs in both and its objects take twice the heap, so memory figures taken there are not the
device's. OPTOPROBE_MICROPYTHON may still name one where nothing else runs.

Debian packages come from the mirror in the machine's own apt sources through a private apt root (own lists, own
empty dpkg status) and are unpacked with dpkg-deb; a launcher starts each program through its own ld.so, so the
machine's libc does not matter. Every part is built in a temporary directory and renamed when it has run once:
a directory of the final name is complete. This module needs only the standard library until umqtt is fetched
(pypi-simple), so it also works before the virtual environment exists.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parents[2]
RUNTIME = REPO / ".runtime"

MICROPYTHON_OVERRIDE = "OPTOPROBE_MICROPYTHON"
# 1.25.0 is in trixie; sid is newer and is tried only where a mirror has no trixie any more.
MICROPYTHON_SUITES = ("trixie", "sid")
UMQTT_PROJECT, UMQTT_VERSION = "micropython-umqtt.simple", "1.3.4"
UMQTT_SHA256 = "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f"
STUBS = ("micropython-esp32-stubs", "micropython-stdlib-stubs")  # their versions are pinned in pyproject.toml
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DOWNLOAD_TIMEOUT_S = 300

Echo = Callable[[str], object]


class SetupError(RuntimeError):
    """Something could not be fetched or found; the message is one sentence with the cure."""


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


def typings() -> Path:
    """Return the directory of MicroPython's type stubs (pyright's stubPath and typeshedPath); raises SetupError."""
    return _present("typings")


def setup(echo: Echo = print) -> None:
    """Fetch every part that is missing and say, one line each, what is where.

    A part that cannot be fetched does not stop the others; afterwards SetupError is raised with the first reason,
    unless only parts failed that can be done without (mosquitto).
    """
    failures = []
    for part in _parts(echo):
        try:
            echo(_line(part.name, _complete(part) or _install(part, echo)))
        except SetupError as error:
            echo(f"{part.name:<12} not available: {error}")
            if part.required:
                failures.append(error)
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
        yield Part("mosquitto", _own_suite(), _fetch_mosquitto, required=False)
    yield Part("umqtt", UMQTT_SHA256, _fetch_umqtt, required=True)
    if (Path(sys.prefix) / "bin" / "pyright").exists():  # the extra `dev` is installed here
        yield Part("typings", " ".join(map(_pin, STUBS)), _fetch_typings, required=True)


def _present(name: str) -> Path:
    directory = RUNTIME / name
    if not (directory / "about.json").exists():
        raise SetupError(f"{name} is not in {RUNTIME} yet; run `make setup` in the clone.")
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
    RUNTIME.mkdir(exist_ok=True)
    with (RUNTIME / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second set-up waits here, then finds the part complete
        about = _complete(part)
        if about:
            return about
        echo(f"{part.name:<12} fetching ...")
        for left_over in RUNTIME.glob(".fetching-*"):  # of a set-up that was killed; we hold the lock
            shutil.rmtree(left_over)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=RUNTIME, ignore_cleanup_errors=True) as scratch:
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
    suite = _unpack_debian(target / "root", "i386", MICROPYTHON_SUITES, "micropython")
    launcher = _write_launcher(target, "micropython", "usr/bin/micropython")
    said = _say(launcher, "-c", "import sys; print(*sys.implementation[1][:3], sys.maxsize)")
    version = re.fullmatch(r"(\d+) (\d+) (\d+) 2147483647\s*", said)
    if version is None:
        raise SetupError(
            f"the i386 MicroPython does not run here ({said.strip()[:200] or 'no output'}); use a kernel that runs "
            f"32-bit x86 programs or name a MicroPython of your own in {MICROPYTHON_OVERRIDE}."
        )
    return f"MicroPython {'.'.join(version.groups())} i386 of Debian {suite}"


def _fetch_mosquitto(target: Path) -> str:
    # What mosquitto is linked with are all lib* packages; the rest (adduser, perl ...) serves its installation only.
    suite = _unpack_debian(target / "root", _own_architecture(), (_own_suite(),), "mosquitto", ("mosquitto_", "lib"))
    launcher = _write_launcher(target, "mosquitto", "usr/sbin/mosquitto")
    said = _say(launcher, "-h")
    version = re.search(r"mosquitto version (\S+)", said)
    if version is None:
        raise SetupError(f"the fetched mosquitto does not run ({said.strip()[:200]}); install the package mosquitto.")
    return f"mosquitto {version[1]} of Debian {suite}"


def _fetch_umqtt(target: Path) -> str:
    import requests  # what pypi-simple is built on
    from pypi_simple import NoSuchProjectError, PyPISimple

    pip = _pip_settings()
    indexes = [u for u in (*pip.get("index-url", []), *pip.get("extra-index-url", [])) if u.startswith("http")]
    archive = target / "sdist.tar.gz"
    reasons = []
    for endpoint in indexes or [None]:
        with PyPISimple(endpoint) if endpoint else PyPISimple() as client:
            if "cert" in pip:
                client.s.verify = pip["cert"][0]
            try:
                page = client.get_project_page(UMQTT_PROJECT, timeout=DOWNLOAD_TIMEOUT_S)
                for package in page.packages:
                    if package.version == UMQTT_VERSION and package.package_type == "sdist":
                        client.download_package(package, path=archive, verify=False, timeout=DOWNLOAD_TIMEOUT_S)
            except (NoSuchProjectError, requests.RequestException) as error:
                reasons.append(type(error).__name__)  # not its text: the address may hold a password
        if archive.exists():
            break
    if not archive.exists():
        raise SetupError(
            f"{UMQTT_PROJECT} {UMQTT_VERSION} cannot be had from pip's index ({', '.join(reasons) or 'not listed'}); "
            "check the network or pip's index-url and run the set-up again."
        )
    if hashlib.sha256(archive.read_bytes()).hexdigest() != UMQTT_SHA256:
        raise SetupError(f"{UMQTT_PROJECT} {UMQTT_VERSION} has another sha256 than ours; use another package index.")
    with tarfile.open(archive) as sdist:
        for ending, place in (("/umqtt/simple.py", "umqtt/simple.py"), ("/PKG-INFO", "PKG-INFO")):
            member = next(m for m in sdist.getmembers() if m.name.endswith(ending))  # the checksum says they exist
            source = sdist.extractfile(member)
            assert source is not None  # a regular file, by the checksum
            (target / place).parent.mkdir(exist_ok=True)
            (target / place).write_bytes(source.read())
    archive.unlink()
    return f"umqtt.simple {UMQTT_VERSION} of PyPI (MIT)"


def _fetch_typings(target: Path) -> str:
    requirements = tuple(map(_pin, STUBS))
    command = (sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--target", str(target), *requirements)
    _run(command, "the type stubs cannot be installed with pip")
    return requirements[0]


# --- Debian packages without installing them -------------------------------------------------------------------------


def _unpack_debian(root: Path, arch: str, suites: tuple[str, ...], package: str, keep: tuple[str, ...] = ("",)) -> str:
    """Unpack a Debian package and all it depends on into root; returns the suite it came from.

    arch is Debian's name of the architecture; the suites are tried in order; of the packages only those are unpacked
    whose file name starts with one of keep. Raises SetupError.
    """
    for tool in ("apt-get", "apt-config", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise SetupError(
                f"{package} comes from Debian and there is no {tool} here; install {package} yourself"
                + (f" and name it in {MICROPYTHON_OVERRIDE}." if package == "micropython" else ".")
            )
    if not KEYRING.exists():
        raise SetupError(f"{KEYRING} is missing; install Debian's package debian-archive-keyring.")
    root.mkdir(parents=True)
    failure = None
    for mirror in _mirrors():
        for suite in suites:
            with tempfile.TemporaryDirectory(prefix="apt-", dir=root.parent.parent) as apt:
                try:
                    archives = _download_debian(Path(apt), mirror, suite, arch, package)
                except SetupError as error:
                    failure = failure or error
                    continue
                for archive in archives:
                    if archive.name.startswith(keep):
                        _run(("dpkg-deb", "-x", str(archive), str(root)), f"{archive.name} cannot be unpacked")
                return suite
    raise failure or SetupError(f"apt knows no Debian mirror to fetch {package} from; see /etc/apt/sources.list.")


def _mirrors() -> list[str]:
    """Return the Debian mirrors in the machine's apt sources, likeliest first; works before any `apt-get update`.

    A mirror is one that serves this machine's own release, or whose address ends in /debian as mirrors' do.
    """
    printed = _run(("apt-get", "update", "--print-uris"), "apt cannot list its sources")
    sources = re.findall(r"^'(.+)/dists/([^/']+)/InRelease'", printed, re.MULTILINE)
    own = [uri for uri, suite in sources if suite == _own_suite()]
    like = [uri for uri, _ in sources if uri.rstrip("/").endswith("/debian")]
    return list(dict.fromkeys(own + like))


def _download_debian(apt: Path, mirror: str, suite: str, arch: str, package: str) -> list[Path]:
    """Download a package with its dependencies through a private apt root in the directory apt."""
    for directory in ("state/lists/partial", "cache/archives/partial"):
        (apt / directory).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb [arch={arch} signed-by={KEYRING}] {mirror} {suite} main\n")
    # How this machine reaches its mirror (proxy, certificates) is kept; hooks and everything else is not.
    dump = _run(("apt-config", "dump", "--format", '%F "%v";%n'), "apt-config cannot say its settings")
    reach = [line for line in dump.splitlines() if re.match(r"Acquire::(https?|Retries|ForceIPv)", line)]
    settings = {
        "Dir::State": "state",
        "Dir::State::status": str(apt / "status"),
        "Dir::Cache": "cache",
        "Dir::Etc::sourcelist": str(apt / "sources.list"),
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::main": "/dev/null",
        "Dir::Etc::parts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::Log": "log",
        "APT::Architecture": arch,
        "APT::Sandbox::User": "",  # the user _apt could not write here
        "APT::Install-Recommends": "false",
        "APT::Update::Error-Mode": "any",  # a mirror that is not reached is an error, not a warning
        "Acquire::Languages": "none",
        "Acquire::Check-Valid-Until": "false",  # a machine's clock or a frozen mirror; signatures still count
    }
    lines = [f'Dir "{apt}";', f'APT::Architectures {{ "{arch}"; }};', *reach]
    (apt / "apt.conf").write_text("\n".join(lines + [f'{key} "{value}";' for key, value in settings.items()]) + "\n")
    where = {"APT_CONFIG": str(apt / "apt.conf")}
    reason = f"{package} for {arch} cannot be downloaded from Debian {suite}"
    _run(("apt-get", "update"), reason, where)
    _run(("apt-get", "install", "--yes", "--download-only", package), reason, where)
    return sorted((apt / "cache" / "archives").glob("*.deb"))


def _write_launcher(target: Path, name: str, program: str) -> Path:
    """Write the script target/name which starts target/root/program with the libraries beside it; returns it."""
    root = target / "root"
    loader = next((p for p in sorted(root.glob("**/ld-linux*.so.*")) if p.is_file()), None)
    if loader is None:
        raise SetupError(f"the packages of {name} hold no dynamic loader; report this with your Debian release.")
    libraries = sorted({str(p.parent.relative_to(root)) for p in root.glob("**/lib*.so*") if "lib" in p.parts})
    path = ":".join(f"$here/{directory}" for directory in libraries)
    launcher = target / name
    launcher.write_text(
        "#!/bin/sh\n"
        "# Written by optoprobe.runtime: starts the program with its own loader and libraries, wherever this stands.\n"
        'here="${0%/*}/root"\n'
        f'exec "$here/{loader.relative_to(root)}" --library-path "{path}" "$here/{program}" "$@"\n'
    )
    launcher.chmod(0o755)
    return launcher


def _own_suite() -> str:
    """Return the machine's Debian release by code name, or an empty text where there is none."""
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    return ""


def _own_architecture() -> str:
    return _run(("dpkg", "--print-architecture"), "dpkg cannot name this machine's architecture").strip()


# --- small helpers ---------------------------------------------------------------------------------------------------


def _pin(project: str) -> str:
    """Return the requirement `project==version` that pyproject.toml pins, the one place for versions."""
    found = re.search(rf'"({re.escape(project)}==[^"]+)"', (REPO / "pyproject.toml").read_text())
    if found is None:
        raise SetupError(f"pyproject.toml pins no {project}; add it to the extra `typings`.")
    return found[1]


def _pip_settings() -> dict[str, list[str]]:
    """Return pip's own settings by name (index-url, cert ...), the strongest source last as pip lists them."""
    listed = _run((sys.executable, "-m", "pip", "config", "list"), "pip cannot list its settings")
    found = re.findall(r"^(global|install|:env:)\.\.?([\w-]+)='(.*)'$", listed, re.MULTILINE)
    rank = {"global": 0, "install": 1, ":env:": 2}
    return {name: value.split() for _, name, value in sorted(found, key=lambda row: rank[row[0]])}


def _run(command: tuple[str, ...], reason: str, environment: dict[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed; raises SetupError with the reason and its last error."""
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"LC_ALL": "C.UTF-8"} | (environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{reason} ({error}); check the network and run the set-up again.") from error
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        telling = [line for line in lines if line.startswith(("E:", "ERROR"))] or lines or ["no message"]
        raise SetupError(f"{reason} ({telling[0].strip()}); check the network and run the set-up again.")
    return done.stdout


def _say(*command: str | Path) -> str:
    """Return what a program prints on both outputs, whatever its exit code; an error's text if it cannot start."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout + done.stderr


def make_environment(directory: Path, echo: Echo = print) -> None:
    """Make a virtual environment with pip at directory; where ensurepip is missing, with Debian's own pip wheel.

    Debian splits ensurepip off into the package python3-venv; its pip wheel is fetched like the other packages.
    """
    import venv

    try:
        venv.create(directory, clear=True, symlinks=True, with_pip=True)
        return
    except subprocess.CalledProcessError:
        echo("python3-venv is not installed: fetching pip's wheel from Debian instead.")
    try:
        venv.create(directory, clear=True, symlinks=True)
        with tempfile.TemporaryDirectory(prefix="pip-", dir=directory) as scratch:
            root = Path(scratch) / "pip" / "root"
            _unpack_debian(root, _own_architecture(), (_own_suite(),), "python3-pip-whl", ("python3-pip-whl_",))
            wheel = str(next(root.glob("usr/share/python-wheels/pip-*.whl")))
            command = (str(directory / "bin" / "python"), wheel + "/pip", "install", "--quiet", "--no-index", wheel)
            _run(command, "pip cannot be installed from its wheel")
    except SetupError as error:
        shutil.rmtree(directory)
        raise SetupError(f"{error} Or install Debian's package python3-venv.") from error


def main(arguments: list[str]) -> int:
    """Run the set-up (no argument) or make an environment (`venv DIR`); returns the exit code."""
    try:
        if not arguments:
            setup()
        elif len(arguments) == 2 and arguments[0] == "venv":
            make_environment(Path(arguments[1]).absolute())
        else:
            print("usage: python -m optoprobe.runtime [venv DIR]", file=sys.stderr)
            return 2
    except SetupError as error:
        print(f"optoprobe set-up: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
