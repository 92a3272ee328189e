"""Debian packages unpacked without installing them, from the mirror in the machine's own apt sources.

They come through a private apt root (own lists, own empty dpkg status) and are unpacked with dpkg-deb; a launcher
starts each program through its own ld.so, so the machine's libc does not matter. Standard library only.
"""

import contextlib
import platform
import re
import shutil
import tempfile
from pathlib import Path

from .subprocesses import SetupError, run

MICROPYTHON_OVERRIDE = "OPTOPROBE_MICROPYTHON"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def unpack(
    root: Path,
    arch: str,
    suites: tuple[str, ...],
    package: str,
    keep: tuple[str, ...] = ("",),
    leave: tuple[str, ...] = (),
) -> str:
    """Unpack a Debian package and all it depends on into root; returns the suite it came from.

    arch is Debian's name of the architecture; the suites are tried in order; of the packages only those are unpacked
    whose file name starts with one of keep and with none of leave. Raises SetupError.
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
                    if archive.name.startswith(keep) and not archive.name.startswith(leave):
                        run(("dpkg-deb", "-x", str(archive), str(root)), f"{archive.name} cannot be unpacked")
                return suite
    raise failure or SetupError(f"apt knows no Debian mirror to fetch {package} from; see /etc/apt/sources.list.")


def _mirrors() -> list[str]:
    """Return the Debian mirrors in the machine's apt sources, likeliest first; works before any `apt-get update`.

    A mirror is one that serves this machine's own release, or whose address ends in /debian as mirrors' do.
    """
    printed = run(("apt-get", "update", "--print-uris"), "apt cannot list its sources")
    sources = re.findall(r"^'(.+)/dists/([^/']+)/InRelease'", printed, re.MULTILINE)
    own = [uri for uri, suite in sources if suite == own_suite()]
    like = [uri for uri, _ in sources if uri.rstrip("/").endswith("/debian")]
    return list(dict.fromkeys(own + like))


def _download_debian(apt: Path, mirror: str, suite: str, arch: str, package: str) -> list[Path]:
    """Download a package with its dependencies through a private apt root in the directory apt."""
    for directory in ("state/lists/partial", "cache/archives/partial"):
        (apt / directory).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb [arch={arch} signed-by={KEYRING}] {mirror} {suite} main\n")
    # How this machine reaches its mirror (proxy, certificates) is kept; hooks and everything else is not.
    dump = run(("apt-config", "dump", "--format", '%F "%v";%n'), "apt-config cannot say its settings")
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
    run(("apt-get", "update"), reason, where)
    run(("apt-get", "install", "--yes", "--download-only", package), reason, where)
    return sorted((apt / "cache" / "archives").glob("*.deb"))


def write_launcher(target: Path, name: str, program: str) -> Path:
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
        "# Written by optoprobe: starts the program with its own loader and libraries, wherever this stands.\n"
        'here="${0%/*}/root"\n'
        f'exec "$here/{loader.relative_to(root)}" --library-path "{path}" "$here/{program}" "$@"\n'
    )
    launcher.chmod(0o755)
    return launcher


def own_suite() -> str:
    """Return the machine's Debian release by code name, or an empty text where there is none."""
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    return ""


def own_architecture() -> str:
    return run(("dpkg", "--print-architecture"), "dpkg cannot name this machine's architecture").strip()
