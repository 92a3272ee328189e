"""The set-up of a clone, by `make`: what it says when it is interrupted, and what it takes from npm's index."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import tarfile
import time

import pytest

from optoprobe.environment import npm_packages, runtime, typeshed


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
    assert make.stdout is not None
    begun = make.stdout.readline()  # what it is about to do: before that make alone is there
    time.sleep(after_s)
    for _ in range(30):  # between two programs nobody may have heard it
        os.killpg(make.pid, signal.SIGINT)
        try:
            said = begun + make.communicate(timeout=2)[0]
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


def test_a_package_of_npm_is_taken_by_its_checksum_alone(tmp_path, monkeypatch):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("package/dist/web/button.js")
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"1;\n"))
    (tmp_path / "served.tgz").write_bytes(packed.getvalue())
    npm = tmp_path / "npm"
    npm.write_text(f'#!/bin/sh\ncp {tmp_path}/served.tgz "$5/toy-1.0.0.tgz"\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    toy = npm_packages.Package("toy", "1.0.0", hashlib.sha256(packed.getvalue()).hexdigest())
    good, bad = tmp_path / "good", tmp_path / "bad"
    for directory in (good, bad):
        directory.mkdir()
    npm_packages.unpack((toy,), good, tmp_path / "no_node_needed")
    assert [file.relative_to(good).as_posix() for file in good.rglob("*") if file.is_file()] == [
        "toy/dist/web/button.js"
    ]
    with pytest.raises(runtime.SetupError, match="another sha256"):
        npm_packages.unpack((toy._replace(sha256="0" * 64),), bad, tmp_path / "no_node_needed")
    assert not (bad / "toy").exists()


@pytest.mark.parametrize(
    ("module", "text", "said"),
    [
        ("decimal", "", "have a decimal.pyi of their own"),
        ("typing", "class Any: ...\n", "typing.pyi is not as typeshed.py knows it"),
    ],
)
def test_type_stubs_of_another_kind_are_refused(tmp_path, module, text, said):
    (tmp_path / "_typeshed").mkdir()
    (tmp_path / f"{module}.pyi").write_text(text)
    with pytest.raises(runtime.SetupError, match=said):
        typeshed.make_complete(tmp_path)
