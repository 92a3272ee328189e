"""The probe's page in Chromium, at a phone's width, against the unmodified firmware on the virtual board.

`OPTOPROBE_PICTURES=docs` keeps what was seen: docs/page-de.png.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.browser import Page, axe_or_skip
from support.page_client import PASSWORD, START_S, PageBoard, page_board

from optoprobe.environment import runtime

# What a reader of the page aloud would miss: a field without a name, a button without a text, and such.
NAMELESS = """[...document.querySelectorAll("button, input, section, [role], svg:not([aria-hidden])")].filter(shown)
  .filter((e) => e.getAttribute("role") !== "status" && !(e.labels && e.labels.length))
  .filter((e) => !e.textContent.trim() && !e.getAttribute("aria-label")).map((e) => e.outerHTML)"""


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageBoard]:
    if runtime.chromium() is None:
        pytest.skip("no Chromium: it comes by Debian's packages (make setup), which could not be had here")
    with page_board(tmp_path_factory.mktemp("page"), with_broker=False) as there:
        yield there


def test_somebody_signs_in_looks_and_aligns(there: PageBoard, tmp_path: Path) -> None:
    axe_or_skip()
    address = f"http://{there.client.host}/"
    with Page(tmp_path) as page:
        language = "Object.defineProperty(navigator, 'language', {get: () => 'de-AT'}); window.confirm = () => true;"
        page.before_load(language)
        page.open(address)
        page.sees("Passwort des Geräts", START_S)
        assert not page.barriers()
        page.value("document.getElementById('password').value = 'not this one'")
        page.click("Anmelden")
        page.value("document.querySelector('#login button').click()")
        page.sees("Falsches Passwort.", START_S)
        page.value(f"document.getElementById('password').value = '{PASSWORD}'")
        page.value("document.querySelector('#login button').click()")
        page.sees("Energie Bezug", START_S)
        page.sees("Keine Verbindung zum Broker.", START_S)
        page.sees(": Verbindung abgelehnt oder geschlossen", START_S)  # and why
        power = page.until("document.getElementById('power').textContent", START_S)
        assert power.endswith(" W")
        page.until(f"document.getElementById('power').textContent !== '{power}'", START_S)  # it moves
        assert page.value("document.documentElement.scrollWidth <= window.innerWidth")  # at 390 points
        assert page.value("document.documentElement.lang") == "de" and not page.value(NAMELESS)
        assert not page.barriers()
        pictures = os.environ.get("OPTOPROBE_PICTURES")
        if pictures:
            page.value("document.activeElement.blur()")
            Path(pictures, "page-de.png").write_bytes(page.picture(True))
        lines = "(drawGraph([null, 100, 200, null, -50]), document.querySelectorAll('#graph polyline').length)"
        assert (
            page.value(lines) == 2
            and page.value("document.getElementById('range').textContent") == "von -50 W bis 200 W"
        )
        page.click("Ausrichten starten")
        page.until("Number(document.getElementById('bar').getAttribute('aria-valuenow')) > 0", START_S)
        page.click("Ausrichten beenden")
        page.sees("Ausrichten starten", START_S)
        page.click("Protokoll")
        page.sees("Start: eingeschaltet (0 s nach dem Start)", START_S)
        for text, german in (
            ("the broker at a:1 refuses: user or password", "Broker a:1 lehnt ab: Benutzer oder Passwort falsch"),
            ("the certificate of the broker at a:1 has expired: have it renewed", "Das Zertifikat von Broker a:1 ist"),
            ("protocol is refused: dark", "protocol wird abgelehnt: dunkel"),
        ):
            assert page.value(f"told({text!r})").startswith(german)
        for key, german in (
            ("voltage_l1", "Spannung L1"),
            ("power_import_max_t2", "Leistung Bezug Maximum T2"),
            ("reactive_power_q1", "Blindleistung Q1"),
            ("obis_1_0_96_90_2_1", "By code"),
        ):
            assert page.value(f"named({key!r}, 'By code')") == german
        assert page.value("told('a sentence (of tomorrow)')") == "a sentence (of tomorrow)"
        page.click("English")
        page.sees("Start alignment")
        page.sees("Energy import")
        assert not page.value(NAMELESS)
        page.value("window.prompt = () => 'another'")
        page.click("Wipe the probe")
        page.sees("Refused: name: the probe's id", START_S)
        page.value("window.prompt = () => ' probe_page '")
        page.click("Wipe the probe")
        page.sees("Done.", START_S)
        page.click("Sign out")
        page.sees("The device's password", START_S)
        assert all(url.startswith((address, "data:")) for url in page.requests), page.requests
        refused = ("401", "400")  # which the browser itself logs
        told = [line for line in page.console if not any(status in line for status in refused)]
        assert not told
