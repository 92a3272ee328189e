"""`optoprobe webflash`: what is in a site, what is refused, how it is served. test_webflash_browser.py opens one.

MicroPython is a stand-in (support.stock_image), and so, but for one test, is ESP Web Tools.
"""

import hashlib
import html.parser
import json
import os
import re
import threading
import urllib.error
import urllib.request

import pytest
from support import stock_image

from optoprobe import cli, source_tree
from optoprobe.commands import webflash as command
from optoprobe.environment import runtime
from optoprobe.flashing import image
from optoprobe.flashing.error import FlashError
from optoprobe.settings import on_board
from optoprobe.webflash import index_page, static_site

BOARDS = {name: source_tree.board_files()[name] for name in ("hichi_c3", "xiao_esp32c3", "esp32_devkit")}
TOOLS = {"dist/web/install-button.js": b"// x", "dist/web/other.js": b"// y", "LICENSE": b"z", "src/a.ts": b"no"}


def stock_files(folder, *chips):
    for chip in chips:
        (folder / f"{chip}.bin").write_bytes(stock_image.make(chip))
    return {chip: folder / f"{chip}.bin" for chip in chips}


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("webflash")
    static_site.build(folder / "site", BOARDS, stock_files(folder, "esp32", "esp32c3"), TOOLS, str)
    return folder / "site"


def run(capsys, *arguments):
    code = cli.main(["webflash", *map(str, arguments)])
    out, errors = capsys.readouterr()
    return code, out, errors


# --- what is in it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOARDS)
def test_a_boards_pieces_are_its_image_and_go_to_its_chip_alone(name, site):
    manifest = json.loads((site / "firmware" / f"{name}.json").read_text())
    (build,) = manifest["builds"]
    chip = image.chip_of(BOARDS[name])
    assert build["chipFamily"] == {"esp32": "ESP32", "esp32c3": "ESP32-C3"}[chip]
    assert json.loads(BOARDS[name].read_text())["name"] in manifest["name"] and manifest["version"]
    whole = image.build_image(BOARDS[name], None, site.parent / f"{chip}.bin").data
    flash = bytearray(b"\xff" * len(whole))
    for part in build["parts"]:
        data = (site / "firmware" / part["path"]).read_bytes()
        assert part["offset"] % 4096 == len(data) % 4096 == 0
        flash[part["offset"] : part["offset"] + len(data)] = data
    assert flash == whole
    written = sum((site / "firmware" / part["path"]).stat().st_size for part in build["parts"])
    assert written < len(whole) / 4  # the rest is erased


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\xff" * 300_000, []),
        (b"a" + b"\xff" * 300_000, [(0, 4096)]),
        (b"\xff" * 300_000 + b"a", [(299_008, 993)]),
        (b"\xff" * 8192 + b"a" * 10 + b"\xff" * 200_000 + b"b" * 4096, [(8192, 4096), (204_800, 7498)]),
        (b"a" * 4096 + b"\xff" * 4096 + b"b" * 4096, [(0, 12_288)]),
    ],
    ids=["empty", "erased", "its begin", "its end", "two", "a small gap"],
)
def test_pieces_hold_all_that_is_not_erased(data, expected):
    found = static_site.pieces(data)
    assert [(at, len(piece)) for at, piece in found] == expected
    flash = bytearray(b"\xff" * len(data))
    for at, piece in found:
        flash[at : at + len(piece)] = piece
    assert flash == data


def test_boards_of_one_chip_share_micropython(site):
    first = {
        name: json.loads((site / "firmware" / f"{name}.json").read_text())["builds"][0]["parts"][0]["path"]
        for name in BOARDS
    }
    assert first["hichi_c3"] == first["xiao_esp32c3"] != first["esp32_devkit"]


def test_only_built_files_of_esp_web_tools_come_along_with_their_licence(site):
    found = sorted(name for name in content(site) if name.startswith("esp-web-tools/"))
    assert found == ["esp-web-tools/LICENSE", "esp-web-tools/install-button.js", "esp-web-tools/other.js"]


def test_every_file_is_listed_with_its_hash(site):
    files = content(site)
    listed = json.loads(files.pop(static_site.MARK))["sha256"]
    assert listed == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def test_the_same_input_gives_the_same_bytes_and_an_earlier_site_goes(tmp_path):
    stock = stock_files(tmp_path, "esp32c3")
    boards = {"hichi_c3": BOARDS["hichi_c3"]}
    static_site.build(tmp_path / "a", boards, stock, TOOLS, str)
    static_site.build(tmp_path / "b", {"xiao_esp32c3": BOARDS["xiao_esp32c3"]}, stock, TOOLS, str)
    assert content(tmp_path / "a") != content(tmp_path / "b")
    static_site.build(tmp_path / "b", boards, stock, TOOLS, str)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "esp32c3.bin"]


def test_the_names_lead_a_traceback_back(site, tmp_path, capsys):
    table = json.loads((site / "firmware" / "names.json").read_text())
    stem, names = next((stem, names) for stem, names in table["names"].items() if names)
    short, ours = next(iter(names.items()))
    shown = tmp_path / "console.txt"
    shown.write_text(f'Traceback (most recent call last):\n  File "{stem}.py", line 3, in {short}\nValueError: 1\n')
    assert cli.main(["traceback", "--names", str(site / "firmware" / "names.json"), str(shown)]) == 0
    assert f"line 3, in {ours}\n" in capsys.readouterr().out


# --- the page --------------------------------------------------------------------------------------------------------


class Outline(html.parser.HTMLParser):
    """Tags left open, ids, addresses, and the texts of each language."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.addresses = [], [], []
        self.texts = {"en": [], "de": []}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids += [given["id"]] if "id" in given else []
        self.addresses += [given[key] for key in ("src", "href", "action") if given.get(key)]
        if tag not in ("meta", "link", "input", "br"):
            self.open.append((tag, given.get("lang")))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        for tag, language in reversed(self.open):
            if language in self.texts and tag == "span":
                self.texts[language].append(data)


def test_the_page_is_whole_in_both_languages_and_asks_no_other_place(site):
    files = content(site)
    page = Outline(files["index.html"].decode())
    assert not page.open and len(page.ids) == len(set(page.ids))
    assert [a for a in page.addresses if a not in files] == ["data:,"]
    assert len(page.texts["en"]) == len(page.texts["de"]) > 40
    ours = b"".join(files[name] for name in ("index.html", "page.js", "style.css", "board_settings.js"))
    assert b"://" not in ours
    used = set(re.findall(r'byId\("([\w-]+)"\)', files["page.js"].decode()))
    assert used and used <= set(page.ids)
    said = set(re.findall(r'say\("(\w+)"\)', files["page.js"].decode())) | {"odd", "lost"}
    assert said == set(re.findall(r'data-when="(\w+)"', files["index.html"].decode()))


def test_every_board_that_comes_along_is_told_in_german_too():
    files = [file for name, file in source_tree.board_files().items() if name != "virtual"]
    assert {json.loads(file.read_text())["about"] for file in files} == set(index_page.ABOUT_IN_GERMAN)


def test_a_board_is_shown_as_its_file_has_it_and_is_no_markup(tmp_path):
    boards = [
        index_page.Board("a", "<script>x</script>", "3 < 4 & \"5\"", "esp32s2", False),
        index_page.Board('b"><i>', "B", "", "esp32c3", True),
    ]
    text = index_page.html(boards)
    assert "&lt;script&gt;x&lt;/script&gt;" in text and "3 &lt; 4 &amp; &quot;5&quot;" in text and "<i>" not in text
    assert text.count(index_page.TEXTS["unconfirmed"][0]) == text.count(index_page.TEXTS["confirmed"][0]) == 1
    assert text.count('data-usb="other"') == 1
    Outline(text)
    confirmed = index_page.html(boards[1:])
    assert index_page.TEXTS["unconfirmed_means"][0] not in confirmed


def test_the_page_has_the_board_do_what_config_does(site):
    text = (site / "board_settings.js").read_text()
    steps = json.loads(text.removeprefix("export const steps = ").rstrip(";\n"))
    load = on_board.LOAD
    assert steps == {
        "begin": on_board.BEGIN, "setup_password": load + on_board.SETUP_PASSWORD,
        "write": load + on_board.WRITE,
    }  # fmt: skip
    assert steps["write"].count("%") == steps["write"].count("%r") == 2  # what the page fills in


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["new", "--serve", "99999"], "port 99999 cannot be had (the last one is 65535): name another"),
        ([], "name a folder to write the site into, or open it on this machine with --serve"),
        (["new", "--settings", "s.json"], "settings hold your passwords, and whoever opens the site gets its images"),
        (["full", "--board", "hichi_c3"], "full holds something else than a site: name a new or an empty folder"),
        (["a.bin", "--board", "hichi_c3"], "a.bin holds something else than a site"),
        (["new", "--board", "nosuch"], "there is no board nosuch"),
        (["new", "--board", "virtual"], 'the board virtual names no chip: add "chip" to its file'),
        (["new", "--board", "custom"], "a board of your own is named by its file: --board mine.json"),
        (["new", "--board", "hichi_c3", "hichi_c3.json"], "two boards are called hichi_c3: rename one of the files"),
        (["new", "--board", "hichi_c3", "--micropython", "a.bin"], "a.bin: this is no MicroPython for an ESP32"),
        (["new", "--board", "hichi_c3", "--micropython", "esp32.bin", "esp32c3.bin"], "esp32.bin is for an ESP32, whi"),
        (["new", "--board", "hichi_c3", "--micropython", "esp32c3.bin", "again.bin"], "are both for an ESP32-C3"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stock_files(tmp_path, "esp32", "esp32c3")
    (tmp_path / "again.bin").write_bytes(stock_image.make())
    (tmp_path / "a.bin").write_bytes(b"x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    (tmp_path / "hichi_c3.json").write_text(BOARDS["hichi_c3"].read_text())
    before = content(tmp_path)
    code, out, errors = run(capsys, *arguments)
    assert (code, out) == (2, "") and said in errors and len(errors.splitlines()) == 1
    assert errors.startswith("optoprobe webflash: ") and content(tmp_path) == before and not (tmp_path / "new").exists()


# --- fetching --------------------------------------------------------------------------------------------------------


def test_what_cannot_be_fetched_is_one_sentence(tmp_path, capsys, monkeypatch):
    """npm in front of the real one brings nothing."""
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent), prepend=":")
    monkeypatch.setattr(runtime, "RUNTIME", tmp_path / "runtime")
    micropython = stock_files(tmp_path, "esp32c3")["esp32c3"]
    code, out, errors = run(capsys, tmp_path / "site", "--board", "hichi_c3", "--micropython", micropython)
    assert (code, out) == (1, "") and "npm cannot fetch esp-web-tools@" in errors and len(errors.splitlines()) == 1
    assert "check the network" in errors and not (tmp_path / "site").exists()


def test_the_real_package_has_what_a_site_needs():
    runtime.setup(str, ("webtools",))
    try:
        runtime.webtools()
    except runtime.SetupError as error:
        pytest.skip(f"ESP Web Tools cannot be had from npm: {error}")
    tools = command._tools()
    names = {name.removeprefix("dist/web/") for name in tools if name.startswith("dist/web/")}
    text = b"".join(data for name, data in tools.items() if name.startswith("dist/web/")).decode()
    wanted = set(re.findall(r'(?:import|from)\s*\(?"\./([\w.-]+\.js)"', text))
    assert "install-button.js" in names and len(wanted) > 10 and wanted <= names and "LICENSE" in tools


# --- served ----------------------------------------------------------------------------------------------------------


def test_it_is_served_on_this_machine_with_types_that_a_module_needs(site):
    with static_site.server(site, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert server.server_address[0] == "127.0.0.1"
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        kinds = {"": "text/html", "page.js": "text/javascript", "firmware/hichi_c3.json": "application/json"}
        for name, kind in kinds.items():
            with urllib.request.urlopen(address + name, timeout=30) as answer:
                assert answer.headers["Content-Type"].startswith(kind)
                assert answer.headers["X-Content-Type-Options"] == "nosniff"
        for name in ("firmware/", "../site.txt", "nowhere"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(address + name, timeout=30)
            assert caught.value.code == 404
            caught.value.close()
        with pytest.raises(FlashError, match=r"port \d+ cannot be had .*: name another, --serve 8070"):
            static_site.server(site, server.server_address[1])
        server.shutdown()


def test_serve_without_a_folder_leaves_nothing_and_opens_the_page(tmp_path, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(command, "_tools", lambda: TOOLS)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def serve(server):
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/", timeout=30) as answer:
            assert b"Hichi" in answer.read()
        raise KeyboardInterrupt

    # The request is answered by a thread of the server's own.
    def answering(server):
        threading.Thread(target=server.handle_request, daemon=True).start()
        serve(server)

    monkeypatch.setattr("http.server.ThreadingHTTPServer.serve_forever", answering)
    micropython = stock_files(tmp_path, "esp32c3")["esp32c3"]
    code, out, errors = run(capsys, "--serve", "0", "--board", "hichi_c3", "--micropython", micropython)
    assert (code, errors) == (130, "") and opened and f"Open {opened[0]} in Chrome" in out
    assert os.listdir(tmp_path) == ["esp32c3.bin"]
