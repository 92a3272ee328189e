"""The stranger's hour: the wheel in an environment of its own, every command from an empty directory, no clone near.

What pip has to fetch comes from pip's index, as for the set-up; without a network the tests are skipped and say so.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from optoprobe.building import device_tree
from optoprobe.environment import runtime
from optoprobe.source_tree import is_deployed
from optoprobe.virtual.sml_meter import SmlMeter

PARTS = ("pyproject.toml", "setup.py", "LICENSE", "boot.py", "main.py", "firmware", "board_configs", "modbus_maps")
PARTS += ("lib", "tools")
COMMANDS = ("demo", "decode", "capture", "deploy", "image", "read", "monitor", "simulate", "webflash")
MOST_PACKAGES = 9  # pip and optoprobe among them


class Stranger:
    """An empty directory, and an environment with nothing but the wheel and what it needs."""

    def __init__(self, folder):
        self.bin = folder / "environment" / "bin"
        self.home = folder / "home"
        self.home.mkdir()
        self.env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(self, *command, timeout=120):
        return subprocess.run(
            [str(self.bin / command[0]), *map(str, command[1:])],
            cwd=self.home, env=self.env, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def does(self, *command):
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stranger")
    clone = folder / "clone"  # setuptools leaves things beside what it builds
    clone.mkdir()
    for name in PARTS:
        source = runtime.REPO / name
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(source, clone / name, ignore=ignore) if source.is_dir() else shutil.copy(source, clone)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    built = subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, clone], capture_output=True, text=True)
    if "No matching distribution found for setuptools" in built.stderr:
        pytest.skip("pip cannot fetch setuptools: no network?")
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("optoprobe-*.whl")
    venv.create(folder / "environment", symlinks=True)
    python = folder / "environment" / "bin" / "python"
    done = subprocess.run([*pip, "--python", python, "install", wheel], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(clone)
    return Stranger(folder)


def test_few_packages_come_along(stranger):
    names = stranger.does("python", "-c", "import importlib.metadata as m; print(len(list(m.distributions())))")
    assert int(names) <= MOST_PACKAGES


def test_it_says_its_version_and_has_types(stranger):
    code = "import optoprobe; from pathlib import Path; print(Path(optoprobe.__file__).with_name('py.typed').exists())"
    assert stranger.does("python", "-c", code) == "True\n"
    version = stranger.does("python", "-c", "import optoprobe; print(optoprobe.__version__)")
    assert stranger.does("optoprobe", "--version") == f"optoprobe {version}"


def test_each_command_has_its_help(stranger):
    listed = stranger.does("optoprobe", "--help")
    for command in COMMANDS:
        assert command in listed
        assert stranger.does("optoprobe", command, "--help").startswith(f"usage: optoprobe {command}")


def test_the_register_maps_come_along(stranger):
    assert "abb_b23, carlo_gavazzi_em340," in " ".join(stranger.does("optoprobe", "read", "--help").split())


def test_the_page_of_webflash_comes_along(stranger):
    code = "from optoprobe.webflash.static_site import PAGE_FILES; print(*sorted(p.name for p in PAGE_FILES.iterdir()))"
    assert stranger.does("python", "-c", code) == "page.js style.css\n"


def test_a_sample_is_decoded_with_the_standard_library_alone(stranger):
    (stranger.home / "sample.bin").write_bytes(SmlMeter().telegram(0))
    only_own = "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p] + ['site']; "
    code = only_own + "from optoprobe.cli import main; sys.exit(main(['decode', '--json', 'sample.bin']))"
    site = stranger.home / "site"
    site.mkdir()
    where = stranger.does("python", "-c", "import optoprobe; print(optoprobe.__path__[0])").strip()
    for name in ("optoprobe", "metering"):
        (site / name).symlink_to(Path(where).parent / name)
    telegram = json.loads(stranger.does("python", "-c", code))
    assert telegram["protocol"] == "sml" and "14798112.0" in [r["value"] for r in telegram["readings"]]


@pytest.mark.parametrize("protocol", ["sml", "iec62056-21"])
def test_a_simulated_meter_is_read(stranger, protocol):
    simulate = [stranger.bin / "optoprobe", "simulate", "--pty", "--protocol", protocol]
    with subprocess.Popen(simulate, cwd=stranger.home, env=stranger.env, stdout=subprocess.PIPE, text=True) as meter:
        try:
            port = meter.stdout.readline().strip()
            read = stranger.run("optoprobe", "read", "--port", port, "--json", "--timeout", "100")
            assert read.returncode == 0, read.stderr
            assert json.loads(read.stdout.splitlines()[0])["protocol"] == protocol
        finally:
            meter.terminate()


def test_a_board_gets_all_the_devices_files(stranger):
    plan = stranger.does("optoprobe", "deploy", "--board", "hichi_c3", "--dry-run")
    for package in ("firmware", "lib/metering"):
        for source in (runtime.REPO / package).rglob("*.py"):
            name = source.relative_to(runtime.REPO)
            assert not is_deployed(name) or f"{device_tree.layout().place(name)}.mpy" in plan
    assert "board.json" in plan and plan.endswith("Nothing was touched.\n")


def test_the_demo_says_what_it_lacks(stranger):
    stranger.env = stranger.env | {"XDG_CACHE_HOME": str(stranger.home / "cache")}
    done = stranger.run("optoprobe", "demo", "--meter", "sml", "--seconds", "2")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "mosquitto" in done.stderr or "python -m optoprobe.environment.runtime" in done.stderr
