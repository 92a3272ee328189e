"""The probe's own page: the unmodified firmware on the virtual board, asked through a real socket."""

import ast
import base64
import gzip
import hashlib
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.broker import Listener, published, retained, wait_until
from support.page_client import PASSWORD, START_S, PageBoard, PageClient, page_board

from optoprobe import source_tree
from optoprobe.building import page_file
from optoprobe.environment import runtime
from optoprobe.virtual.board import BEYOND_BYTES, HARDWARE_BYTES, HEAP_BUDGET

SECRETS = (PASSWORD, "secret of the Wi-Fi", "secret of the broker")
HEAD, HTML = ((runtime.REPO / name).read_text(encoding="utf-8") for name in (page_file.HEAD_SOURCE, page_file.SOURCE))


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageBoard]:
    with page_board(tmp_path_factory.mktemp("page")) as there:
        there.client.sign_in()
        ask = there.client.ask
        wait_until(lambda: "power" in ask("GET", "/api/readings").object()["readings"], START_S, "no power")
        wait_until(lambda: ask("GET", "/api/status").object()["is_connected"], START_S, "no session")
        yield there


def basic(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"any:{password}".encode()).decode(), "Cookie": ""}


# --- what it tells ---------------------------------------------------------------------------------------------------


def test_readings_are_those_of_one_telegram_digit_for_digit(there: PageBoard) -> None:
    told = there.client.ask("GET", "/api/readings").object()
    values = {key: reading["value"] for key, reading in told["readings"].items()}
    sent = [dict(state) | live for state, live in (published(sent.expected) for sent in there.server.log)]
    assert any(values.items() <= telegram.items() for telegram in sent) and "power" in values
    assert told["readings"]["energy_import"]["unit"] == "kWh" and told["readings"]["power"]["name"] == "Power"
    assert told["meter"]["id"] == values["serial_number"] and told["live_age_s"] <= 60


def test_metrics_have_the_same_digits(there: PageBoard) -> None:
    answer = there.client.ask("GET", "/metrics", basic(PASSWORD))
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    label = r'[a-z]+="(?:[^"\\]|\\.)*"'
    sample = re.compile(rf"([a-z_]+)(?:\{{{label}(?:,{label})*\}})? (-?[0-9]+(?:\.[0-9]+)?)")
    families: list[str] = []
    found = {}
    for line in answer.body.decode().splitlines():
        if line.startswith("# TYPE "):
            families.append(line.split()[2])
            continue
        match = sample.fullmatch(line)
        assert match is not None and match[1] == families[-1], line  # a family's samples stand together
        found[line.rpartition(" ")[0]] = match[2]
    assert len(families) == len(set(families))
    energy = next(value for name, value in found.items() if 'register="energy_import"' in name)
    assert energy in {published(sent.expected)[0]["energy_import"] for sent in there.server.log}
    assert found["optoprobe_probe_mqtt_connects"] == "1"


def test_status_has_what_the_diagnostics_have(there: PageBoard) -> None:
    told = there.client.ask("GET", "/api/status").object()
    assert told["name"] == "Optoprobe" and told["is_connected"] and told["token"] == there.client.token
    assert told["counts"]["protocol"] == "sml" and told["counts"]["rejected"] == 0
    assert len(told["graph"]) == 60 and set(told["graph"]) <= {None, *range(-9999, 9999)}
    assert "token" not in there.client.ask("GET", "/api/status", basic(PASSWORD)).object()


def test_the_log_tells_what_was_wrong(there: PageBoard) -> None:
    for headers in ({}, basic(PASSWORD)):
        answer = there.client.ask("GET", "/api/log", headers)
        assert answer.status == 200
        log = json.loads(answer.body)
        assert ["started: power on", 1, 0, 0] in log and all(len(line) == 4 for line in log)
    assert there.client.ask("GET", "/api/log", {"Cookie": ""}).status == 401


def test_the_graph_has_the_power_in_whole_watts(device: Any) -> None:
    page_members = importlib.import_module("firmware.page.page_members")
    for live, watts in (
        (b'{"power": "-12.9", "voltage_l1": "230.1"}', -12),
        (bytearray(b'{"a": "\\"power\\": \\"7\\"", "power_import": "1500", "power_export": "20.5"}'), 1480),
        (b'{"power_import": "1500"}', 1500),
        (b'{"power": "none"}', None),
        (b"", None),
    ):
        assert page_members.watts(live) == watts
    told = list(page_members.members(b'{"a": "x\\"y", "n": 5, "b": ""}'))
    assert told[0] == (b"a", b'x\\"y')


# --- what it does ----------------------------------------------------------------------------------------------------


def test_alignment_and_capture_go_the_brokers_way(there: PageBoard) -> None:
    client = there.client
    assert there.broker is not None
    with Listener(there.broker.port) as listener:
        listener.subscribed()
        assert client.ask("POST", "/api/alignment", body={"on": True}).status == 200
        wait_until(lambda: bool(_alignment(client, "ON")), START_S, "no alignment")
        listener.wait_for("/alignment", START_S)
        assert client.ask("GET", "/api/capture").status == 409
        assert client.ask("POST", "/api/alignment", body={"on": False}).status == 200
        wait_until(lambda: bool(_alignment(client, "OFF")), START_S, "alignment does not end")
        assert client.ask("POST", "/api/capture", body={"seconds": 5}).status == 200
        captured = listener.wait_for("/capture", START_S).payload
    wait_until(lambda: client.ask("GET", "/api/capture").status == 200, START_S, "no capture")
    assert client.ask("GET", "/api/capture?full").body == captured
    masked = client.ask("GET", "/api/capture").body.decode().splitlines()
    lines = captured.decode().splitlines()
    assert len(masked) == len(lines) and any("1b1b1b1b" in line for line in lines)
    for was, is_now in zip(lines, masked, strict=True):
        ms, _, data = was.partition(" ")
        assert is_now == (f"{ms} {'0' * len(data)}" if ms.isdigit() else was)
    assert client.ask("GET", "/api/capture", basic(PASSWORD)).status == 401


def _alignment(client: PageClient, mode: str) -> bool:
    told = client.ask("GET", "/api/status").object()
    return (told["alignment"] or {}).get("mode") == mode and told["tool_runs"] == (mode == "ON")


def test_what_cannot_be_done_is_said(there: PageBoard) -> None:
    for path, body, status, words in (
        ("/api/search", {}, 409, "set it to auto"),
        ("/api/alignment", {"on": "yes"}, 400, "true or false"),
        ("/api/capture", {"seconds": 999}, 400, "1 to 120"),
        ("/api/capture", {"seconds": True}, 400, "1 to 120"),
        ("/api/wipe", {}, 400, "probe_page"),
        ("/api/wipe", {"name": "Optoprobe"}, 400, "probe_page"),
        ("/api/wipe", {"name": 1}, 400, "probe_page"),
    ):
        answer = there.client.ask("POST", path, body=body)
        assert answer.status == status and words in answer.body.decode(), (path, answer)


def test_it_works_without_a_broker_and_restarts(tmp_path: Path) -> None:
    with page_board(tmp_path, with_broker=False) as there:
        client = there.client.sign_in()
        wait_until(lambda: "power" in client.ask("GET", "/api/readings").object()["readings"], START_S, "no reading")
        assert not client.ask("GET", "/api/status").object()["is_connected"]
        assert client.ask("POST", "/api/restart").status == 200
        wait_until(lambda: bool(there.board.resets), START_S, "it does not restart")
        wait_until(client.is_there, START_S, "it does not come back")
        assert client.ask("GET", "/api/status").status == 401  # a session ends with the run
        status = client.sign_in().ask("GET", "/api/status").object()
        assert status["counts"]["restart_cause"] == "asked for"


# --- the password ----------------------------------------------------------------------------------------------------


def test_the_password_is_kept_as_its_hash(there: PageBoard) -> None:
    kept = json.loads((there.board.directory / "settings.json").read_text())
    assert kept["mqtt_password"] == "secret of the broker" and kept["protocol"] == "sml"
    name, iterations, salt, key = kept["device_password"].split(":")
    derived = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), bytes.fromhex(salt), int(iterations))
    assert name == "pbkdf2" and int(iterations) >= 1000 and derived.hex() == key


def test_no_secret_is_told(there: PageBoard) -> None:
    client = there.client
    for path in ("/", "/api/readings", "/api/status", "/metrics", "/api/capture", "/api/capture?full"):
        client.ask("GET", path)
    kept = json.loads((there.board.directory / "settings.json").read_text())["device_password"]
    told = b"".join(client.seen) + "\n".join(there.board.log).encode()
    for secret in (*SECRETS, kept, kept.split(":")[3]):
        assert secret.encode() not in told
    cookie = next(line for line in client.seen if b"set-cookie" in line.lower())
    assert b"HttpOnly" in cookie and b"SameSite=Strict" in cookie


# --- where there is no page ------------------------------------------------------------------------------------------


def test_where_metering_needs_the_memory_there_is_no_page(tmp_path: Path) -> None:
    heap_bytes = HEAP_BUDGET + HARDWARE_BYTES + BEYOND_BYTES + 2 * 1024
    with page_board(tmp_path, heap_bytes=heap_bytes, with_broker=False, listens=False) as there:
        said = "optoprobe: page: there is none"
        wait_until(lambda: any(line.startswith(said) for line in there.board.log), START_S, "it does not say so")
        wait_until(lambda: len(there.server.log) > 2, START_S, "no telegram")
        assert not there.client.is_there() and there.board.running


def test_without_room_for_its_code_it_says_so(tmp_path: Path) -> None:
    start = """import on_cpython, gc, sys
gc.mem_free = lambda: 10000 if "firmware.page.page_door" in sys.modules else 40000
import boot, main"""
    with page_board(tmp_path, runtime_name="cpython", with_broker=False, start=start) as there:
        answer = there.client.ask("GET", "/")
        assert answer.status == 503 and b"memory" in answer.body
        wait_until(lambda: len(there.server.log) > 1, START_S, "no telegram")
        assert there.board.running and not [line for line in there.board.log if "Traceback" in line]


# --- the file --------------------------------------------------------------------------------------------------------


def test_the_page_is_whole_and_runs_its_own_code_only(there: PageBoard) -> None:
    answer = PageClient(there.client.port).ask("GET", "/")
    assert answer.status == 200 and answer.headers["content-encoding"] == "gzip"
    html = gzip.decompress(answer.body).decode()
    assert answer.body == page_file.compressed(HEAD, HTML)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None and "unsafe" not in policy[1] and "default-src 'none'" in policy[1]
    for element in ("script", "style"):
        text = re.findall(rf"<{element}>(.*?)</{element}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text[0].encode()).digest()).decode()
        assert len(text) == 1 and f"{element}-src 'sha256-{digest}'" in policy[1]
    assert set(re.findall(r"https?://[^\"']+", html)) == {"http://www.w3.org/2000/svg"}  # a name, nothing is fetched
    assert not re.search(r" on[a-z]+=|innerHTML|style=", html)
    print(f"page.gz: {len(answer.body)} bytes")


def test_every_text_stands_in_both_languages() -> None:
    table = re.search(r"const TEXTS = \{(.*?)\n\};", HTML, re.DOTALL)
    assert table is not None
    texts = dict(re.findall(r'(\w+): (\["[^"]*", "[^"]*"\])', table[1]))
    used = set(re.findall(r'data-t="(\w+)"', HTML)) | set(re.findall(r'\bt\("(\w+)"\)', HTML))
    used |= {word for pair in re.findall(r'\bt\([^()]*\? "(\w+)" : "(\w+)"\)', HTML) for word in pair}
    assert used == set(texts)
    assert all(first and second for first, second in map(json.loads, texts.values()))


def test_each_sentence_that_is_translated_is_one_of_the_firmwares() -> None:
    table = re.search(r"const SENTENCES = \[.*?\n(.*?)\n\];", HTML, re.DOTALL)
    assert table is not None
    pairs = [json.loads(line.strip().rstrip(",")) for line in table[1].splitlines()]
    said = set()
    for name in source_tree.device_modules():
        for node in ast.walk(ast.parse(source_tree.source(name).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.update(re.sub("%[sd]", "%", node.value).split("\n"))
    # what the firmware puts together of pieces
    assert {"% % the connection", "the broker at %:%", "looking for the meter: ", "started: "} <= said
    said |= {"% refuses or has closed the connection", "% has closed the connection", "the broker at %"}
    said |= {"looking for the meter: %", "started: %"}
    said |= {"the certificate of % " + words for words in said if words.startswith(("is ", "has "))}
    for english, german in pairs:
        assert english in said, english
        assert english.count("%") == german.count("%") and german != english or english == "watchdog", english
    assert len(pairs) == len({english for english, _ in pairs}) > 40


def test_a_page_with_two_scripts_is_not_built() -> None:
    with pytest.raises(ValueError, match="one <script>"):
        page_file.compressed(HEAD, HTML.replace("</body>", "<script>more</script></body>"))


# --- the end ---------------------------------------------------------------------------------------------------------


def test_a_wipe_takes_all_away(there: PageBoard) -> None:
    """The last here: nothing is left of the board that the others ask."""
    assert there.broker is not None
    folder = there.board.directory
    assert there.client.ask("POST", "/api/wipe", {"X-Token": "0" * 32}, {"name": "probe_page"}).status == 403
    assert {topic.split("/")[0] for topic in retained(there.broker.port)} == {"optoprobe", "homeassistant"}
    assert (folder / "settings.json").exists()
    assert there.client.ask("POST", "/api/wipe", body={"name": "probe_page"}).status == 200
    said = "optoprobe: wiped; the broker keeps nothing"
    wait_until(lambda: said in there.board.log, START_S, "it is not wiped")
    assert not retained(there.broker.port)
    wait_until(lambda: any("no Wi-Fi is set" in line for line in there.board.log), START_S, "it does not come back")
    given = json.loads((folder / "settings.json").read_text())
    assert set(given) <= {"setup_password"} and (folder / "board.json").exists() and not list(folder.glob("*.txt"))
    assert not there.client.is_there()
    there.board.stop()
    (folder / "energy.json").write_text("{}")
    (folder / "wipe.due").write_text("")  # a power cut behind the settings' removal
    there.board.start()
    said = "optoprobe: wiped; no broker is set"
    wait_until(lambda: said in there.board.log, START_S, "it does not go on")
    assert not (folder / "energy.json").exists() and not (folder / "wipe.due").exists()
