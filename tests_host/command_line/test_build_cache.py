"""What is kept of a build: found by all it follows from, or computed."""

import hashlib
import shutil
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from optoprobe import source_tree
from optoprobe.building import cache, device_tree


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    return tmp_path


def files(folder):
    return [file for file in folder.iterdir() if file.suffix != ".lock"]


class Maker:
    """Counts how often it has to compute."""

    def __init__(self, made):
        self.made, self.times = made, 0

    def __call__(self):
        self.times += 1
        return self.made


def test_the_same_input_is_computed_once(folder):
    first, other = Maker({"a": "µ"}), Maker("another")
    assert [cache.kept(first, ["x", "y"]) for _ in range(2)] == [{"a": "µ"}] * 2
    assert first.times == 1
    for inputs in (["x", "z"], ["xy"], ["y", "x"], []):
        assert cache.kept(other, inputs) == "another"
    assert other.times == 4 and len(files(folder)) == 5


def test_who_wants_what_is_being_computed_waits_for_it(folder):
    begun, go_on = threading.Event(), threading.Event()

    def slowly():
        begun.set()
        assert go_on.wait(10)
        return "made"

    other = Maker("another")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.kept, slowly, ["x"])
        assert begun.wait(10)
        second = pool.submit(cache.kept, other, ["x"])
        assert cache.kept(other, ["y"]) == "another"  # which nobody computes
        assert not second.done()
        go_on.set()
        assert first.result(10) == second.result(10) == "made" and other.times == 1


def test_what_cannot_be_read_is_computed(folder):
    maker = Maker("made")
    cache.kept(maker, ["x"])
    (file,) = files(folder)
    file.write_text('"ma')
    assert cache.kept(maker, ["x"]) == "made" and maker.times == 2
    shutil.rmtree(folder)
    assert cache.kept(maker, ["x"]) == "made" and maker.times == 3


def test_other_code_that_builds_is_another_input(folder, monkeypatch):
    maker = Maker("made")
    cache.kept(maker, ["x"])
    monkeypatch.setattr(cache, "_MAKERS", cache._MAKERS[1:])
    cache.kept(maker, ["x"])
    assert maker.times == 2


def test_without_a_folder_nothing_is_kept(monkeypatch):
    monkeypatch.delenv(cache.VARIABLE)
    maker = Maker("made")
    assert [cache.kept(maker, ["x"]) for _ in range(2)] == ["made"] * 2 and maker.times == 2


def test_every_module_that_changes_what_is_compiled_is_hashed():
    """Whose code a built file follows from: device_tree, and what it imports of ours, but for what only copies."""
    values = vars(device_tree).values()
    imported = {getattr(value, "__module__", "") for value in values}
    imported |= {value.__name__ for value in values if isinstance(value, types.ModuleType)}
    ours = {name.removeprefix("optoprobe.") for name in imported if name.startswith("optoprobe.")}
    makers = {name.removesuffix(".py").replace("/", ".") for name in cache._MAKERS if name.endswith(".py")}
    copies_only = {"settings.placed_files", "building.cache", "building.page_file"}
    assert ours - copies_only == makers


def test_a_tree_from_the_cache_is_the_one_that_was_built(tmp_path_factory, monkeypatch):
    """The suite's cache, which another test may have filled."""

    def digest():
        for name in ("_bytecode", "_texts_on_board", "_name_map", "_lean_sources", "_lean_text"):
            getattr(device_tree, name).cache_clear()
        tree = tmp_path_factory.mktemp("tree")
        names = device_tree.build(tree, next(iter(source_tree.board_files().values())), None)
        return hashlib.sha256(b"".join((tree / name).read_bytes() for name in names)).hexdigest()

    first = digest()
    with monkeypatch.context() as patch:
        patch.setattr(device_tree, "name_map", None)  # nothing is computed
        patch.setattr(device_tree, "_compiled", None)
        assert digest() == first
    monkeypatch.delenv(cache.VARIABLE)
    assert digest() == first
