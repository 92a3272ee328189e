"""The set-up of a clone, by `make`: what it says when it is interrupted."""

import os
import shutil
import signal
import subprocess
import time

import pytest

from optoprobe import runtime


@pytest.mark.parametrize("after_s", [0.8, 2.0])
def test_ctrl_c_during_set_up_is_one_line(tmp_path, after_s):
    for name in ("Makefile", "pyproject.toml", "setup.py"):
        shutil.copy(runtime.REPO / name, tmp_path)
    for name in ("tools", "lib"):
        shutil.copytree(runtime.REPO / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MAKE", "MFLAGS"))}
    make = subprocess.Popen(
        ["make", "demo"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    time.sleep(after_s)
    for _ in range(30):  # between two programs nobody may have heard it
        os.killpg(make.pid, signal.SIGINT)
        try:
            said = make.communicate(timeout=2)[0]
            break
        except subprocess.TimeoutExpired:
            pass
    else:
        pytest.fail("it does not end")
    assert "Traceback" not in said
    _, _, after = said.partition("\n\n")
    after = after.partition("make: *** wait")[0]  # make's own race, where its child ended at the same moment
    assert after == "optoprobe set-up: interrupted; the same command goes on from here.\n"
    assert make.returncode
    assert not (tmp_path / ".venv" / ".installed-base").exists()
