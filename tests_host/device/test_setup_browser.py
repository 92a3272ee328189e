"""A new probe is set up in Chromium, at a phone's width, in German: the unmodified firmware on the virtual board, which
plays its own Wi-Fi, the networks around it, and a meter; the broker is over TLS.

`OPTOPROBE_PICTURES=docs` keeps what was seen: docs/setup-de.png, docs/setup-result.png.
"""

import json
import os
from pathlib import Path

import pytest
from support.broker import Listener, wait_until
from support.browser import Page, axe_or_skip
from support.page_client import START_S, PageClient

from optoprobe.environment import runtime
from optoprobe.virtual.board import VirtualBoard
from optoprobe.virtual.broker import Broker, free_port
from optoprobe.virtual.optical_server import OpticalServer
from optoprobe.virtual.own_ca import OwnCa
from optoprobe.virtual.sml_meter import SmlMeter
from optoprobe.virtual.source import MeterSource

PASSWORD = "secret pass"
AIR = [("Zu Hause <b>", -58, PASSWORD), ("Nachbar", -84, "another"), ("Gast", -77, "")]
FAULTS = "[...document.querySelectorAll('.fault')].map((e) => e.textContent).filter((t) => t)"
WAIT_S = 120


def fill(page: Page, **fields: str) -> None:
    for key, text in fields.items():
        page.value(f"document.getElementById('{key}').value = {json.dumps(text)}")


def send(page: Page, language: str = "Testen und speichern") -> None:
    page.until("!document.getElementById('send').disabled")
    page.click(language)


def test_somebody_sets_a_new_probe_up(tmp_path: Path) -> None:
    if runtime.chromium() is None:
        pytest.skip("no Chromium: it comes by Debian's packages (make setup), which could not be had here")
    axe_or_skip()
    ca, other = OwnCa(tmp_path / "ca"), OwnCa(tmp_path / "other", "other")
    client = PageClient(free_port())
    pictures = os.environ.get("OPTOPROBE_PICTURES")
    (tmp_path / "profile").mkdir()
    signed = ca.sign("broker", "127.0.0.1")
    with Broker(tmp_path / "broker", signed=signed) as broker, OpticalServer(MeterSource(SmlMeter(1))) as light:
        board = VirtualBoard(tmp_path / "device", {"page_port": client.port}, light.port, air=AIR)
        with board, Listener(broker.port, ca=ca.certificate) as listener, Page(tmp_path / "profile") as page:
            page.before_load("Object.defineProperty(navigator, 'language', {get: () => 'de-AT'})")
            wait_until(client.is_there, START_S, "the set-up does not listen")
            before = (tmp_path / "device" / "settings.json").read_text()
            address = f"http://{client.host}/"
            page.open(address + "generate_204")  # as a phone asks that looks for a sign-in page
            page.sees("Ihr MQTT-Broker")
            assert page.value("location.href") == address and page.value("document.documentElement.lang") == "de"
            page.until("document.getElementById('networks').options.length > 3")
            shown = page.value("[...document.getElementById('networks').options].map((o) => o.text)")
            assert shown[1:] == ["Zu Hause <b> (84 %)", "Gast (46 %, offen)", "Nachbar (32 %)"]
            assert page.value("document.documentElement.scrollWidth <= window.innerWidth")  # at 390 points
            assert not page.barriers()
            choose = "const list = document.getElementById('networks'); list.value = 'Zu Hause <b>';"
            page.value(f"(() => {{ {choose} list.dispatchEvent(new Event('change')); }})()")
            assert page.value("document.getElementById('wifi_ssid').value") == AIR[0][0]

            fill(page, wifi_password="not this one", mqtt_port="99999", meter_key="0123", pulses_per_kwh="x")
            send(page)
            page.sees("32 Hexadezimalziffern, wie vom Netzbetreiber mitgeteilt.")
            assert len(page.value(FAULTS)) == 3 and page.value("document.activeElement.id") == "mqtt_port"
            fill(page, mqtt_host="127.0.0.1", mqtt_port=str(free_port()), meter_key="", pulses_per_kwh="1000")
            send(page)
            page.sees("Keine Verbindung mit dem WLAN: Name und Passwort prüfen.", WAIT_S)
            page.sees("Nichts wurde gespeichert, alles bleibt wie zuvor.")
            assert not page.barriers()
            fill(page, wifi_password=PASSWORD)
            send(page)
            page.sees("Der Broker ist nicht erreichbar oder antwortet nicht: Adresse und Port prüfen.", WAIT_S)
            if pictures:
                page.value("document.activeElement.blur()")
                Path(pictures, "setup-de.png").write_bytes(page.picture(True))
            page.click("English")
            page.value("document.getElementById('tls').click()")
            fill(page, mqtt_port=str(broker.port), ca=other.certificate.read_text()[:300])
            send(page, "Test and save")
            page.sees("The certificate is not whole: paste it from BEGIN to END.")
            fill(page, ca=other.certificate.read_text())
            send(page, "Test and save")
            page.until(f"({FAULTS}).some((t) => t.includes('CA'))", WAIT_S)
            assert (tmp_path / "device" / "settings.json").read_text() == before
            assert not page.barriers()
            fill(page, ca=ca.certificate.read_text())
            send(page, "Test and save")
            page.sees("All went well and is saved.", WAIT_S)
            listener.wait_for("/live", WAIT_S)
            assert all(url.startswith((address, "data:")) for url in page.requests), page.requests
            assert not [line for line in page.console if "ERR_" not in line and "Failed to load" not in line]
        kept = json.loads((tmp_path / "device" / "settings.json").read_text())
        assert kept["mqtt_tls_ca"] == "mqtt_ca.der" and kept["wifi_ssid"] == AIR[0][0] and "meter_key" not in kept
        assert not any(PASSWORD in line for line in board.log)
        assert len(board.resets) == 1
