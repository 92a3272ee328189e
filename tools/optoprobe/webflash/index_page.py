"""The page of `optoprobe webflash`: its words in English and German, side by side, and the HTML around them.

Both languages stand in the page; style.css shows the one that the root element's `lang` names, which page.js sets.
What a board is comes from its file, so a board file of one's own is shown as it is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

LANGUAGES = ("en", "de")
# No other place may be asked for anything, and no form is sent anywhere.
POLICY = "; ".join(
    ("default-src 'none'", "script-src 'self'", "style-src 'self' 'unsafe-inline'", "connect-src 'self'")
    + ("img-src 'self' data:", "base-uri 'none'", "form-action 'none'")
)


class Board(NamedTuple):
    """`key` names its files in the site; `chip` as esptool names it."""

    key: str
    name: str
    about: str
    chip: str
    confirmed: bool


# What a word is for -> English, German. `…` in them is markup of ours, never of a board file.
TEXTS: dict[str, tuple[str, str]] = {
    "title": ("A new probe, from this page", "Einen neuen Lesekopf einrichten"),
    "what": (
        "This page writes the firmware into a board at your computer's USB port, joins it to your Wi-Fi and tells it "
        "where Home Assistant is. Nothing you type leaves your computer but through that cable.",
        "Diese Seite schreibt die Firmware auf ein Board am USB-Anschluss dieses Rechners, meldet es im WLAN an und "
        "sagt ihm, wo Home Assistant ist. Was Sie eintippen, verlässt den Rechner nur durch dieses Kabel.",
    ),
    "unsupported": (
        "This browser cannot reach the USB port. Open the page in Chrome, Edge or Opera on a computer.",
        "Dieser Browser erreicht den USB-Anschluss nicht. Öffnen Sie die Seite mit Chrome, Edge oder Opera an einem "
        "Rechner.",
    ),
    "insecure": (
        "The USB port is there only for pages that came by https or from this computer itself: "
        "run <code>optoprobe webflash --serve</code> here.",
        "Den USB-Anschluss gibt es nur für Seiten, die über https oder von diesem Rechner selbst kommen: "
        "hier <code>optoprobe webflash --serve</code> starten.",
    ),
    "before": ("Before you start", "Vorher"),
    "before_cable": (
        "A USB cable that carries data; one that only charges does not show the board.",
        "Ein USB-Kabel, das Daten überträgt; an einem reinen Ladekabel ist das Board nicht zu sehen.",
    ),
    "before_wifi": (
        "Name and password of your Wi-Fi. It must be on 2.4 GHz.",
        "Name und Passwort Ihres WLANs. Es muss auf 2,4 GHz senden.",
    ),
    "before_broker": (
        "In Home Assistant: the add-on <em>Mosquitto broker</em>, the integration <em>MQTT</em>, and a user for the "
        "probe.",
        "In Home Assistant: das Add-on <em>Mosquitto broker</em>, die Integration <em>MQTT</em> und ein Benutzer für "
        "den Lesekopf.",
    ),
    "before_head": (
        "The head need not sit on the meter yet.",
        "Auf dem Zähler muss der Kopf noch nicht sitzen.",
    ),
    "choose": ("1. Which board is it?", "1. Welches Board ist es?"),
    "confirmed": ("A meter has been read with it.", "Damit wurde ein Zähler gelesen."),
    "unconfirmed": ("Not confirmed yet.", "Noch nicht bestätigt."),
    "unconfirmed_means": (
        "<em>Not confirmed yet</em>: its pins come from its maker or from other projects, and nobody is known to have "
        "read a meter with this firmware on it.",
        "<em>Noch nicht bestätigt</em>: Die Anschlüsse stammen vom Hersteller oder aus anderen Projekten, und es ist "
        "nicht bekannt, dass jemand mit dieser Firmware darauf einen Zähler gelesen hat.",
    ),
    "write": ("2. Write it", "2. Aufspielen"),
    "overwrites": (
        "Everything on the board is erased, a probe's settings too. To keep those, use <code>optoprobe flash</code> on "
        "a command line.",
        "Alles auf dem Board wird gelöscht, auch die Einstellungen eines Lesekopfs. Wer sie behalten will, nimmt "
        "<code>optoprobe flash</code> auf der Kommandozeile.",
    ),
    "write_steps": (
        "Press the button, choose the board's port (<em>USB JTAG</em>, <em>CP210x</em>, <em>CH340</em> or the like), "
        "then <em>Install</em>. When that is done, the same window asks for your Wi-Fi.",
        "Knopf drücken, den Anschluss des Boards wählen (<em>USB JTAG</em>, <em>CP210x</em>, <em>CH340</em> oder "
        "ähnlich), dann <em>Install</em>. Danach fragt dasselbe Fenster nach dem WLAN; es spricht nur Englisch.",
    ),
    "native_usb": (
        "Boards with this chip come back as another USB device: where the window says that the board is gone, press "
        "RESET, press the button here again, choose the new port and then <em>Connect to Wi-Fi</em>.",
        "Boards mit diesem Chip melden sich danach als anderes USB-Gerät: Sagt das Fenster, das Board sei weg, dann "
        "RESET drücken, hier noch einmal den Knopf, den neuen Anschluss wählen und dann <em>Connect to Wi-Fi</em>.",
    ),
    "boot_button": (
        "It does not start? Hold the board's button BOOT (often 0 or 9) while you press <em>Install</em>.",
        "Es fängt nicht an? Den Knopf BOOT des Boards (oft 0 oder 9) halten, während Sie <em>Install</em> drücken.",
    ),
    "go": ("Write the firmware", "Firmware aufspielen"),
    "choose_first": ("Choose your board above first.", "Wählen Sie zuerst oben Ihr Board."),
    "broker": ("3. Where is Home Assistant?", "3. Wo ist Home Assistant?"),
    "broker_why": (
        "Wi-Fi is set; the probe still needs its MQTT broker. Close the other window first.",
        "Das WLAN steht; der Lesekopf braucht noch seinen MQTT-Broker. Schließen Sie zuerst das andere Fenster.",
    ),
    "host": ("Home Assistant's address in your network", "Adresse von Home Assistant in Ihrem Netz"),
    "user": ("MQTT user", "MQTT-Benutzer"),
    "password": ("MQTT password", "MQTT-Passwort"),
    "send": ("Give it to the probe", "Dem Lesekopf geben"),
    "busy": ("Talking to the board …", "Spreche mit dem Board …"),
    "written": (
        "Written. The probe restarts; below is what it says. You may pull the cable whenever you like.",
        "Geschrieben. Der Lesekopf startet neu; unten steht, was er sagt. Das Kabel darf jederzeit ab.",
    ),
    "damaged": (
        "The board's settings are damaged; nothing was changed. Write the firmware once more.",
        "Die Einstellungen auf dem Board sind beschädigt; nichts wurde geändert. Spielen Sie die Firmware noch einmal "
        "auf.",
    ),
    "odd": (
        "No probe answers there. Press RESET on the board and try again, or choose another port.",
        "Dort antwortet kein Lesekopf. Am Board RESET drücken und noch einmal versuchen, oder einen anderen Anschluss "
        "wählen.",
    ),
    "lost": (
        "The port cannot be used. Check the cable, close other programs and windows that use it, and try again.",
        "Der Anschluss lässt sich nicht benutzen. Kabel prüfen, andere Programme und Fenster schließen, die ihn "
        "belegen, und noch einmal versuchen.",
    ),
    "after": ("Afterwards", "Danach"),
    "after_clip": (
        "Put the probe on a phone charger and the head onto the meter's optical port; its magnet holds it on the metal "
        "ring. In Home Assistant the switch <em>Alignment mode</em> shows a score from 0 to 100 while you turn it.",
        "Den Lesekopf an ein Handy-Netzteil und den Kopf auf die optische Schnittstelle des Zählers; sein Magnet hält "
        "am Metallring. In Home Assistant zeigt der Schalter <em>Alignment mode</em> beim Drehen eine Bewertung von 0 "
        "bis 100.",
    ),
    "after_found": (
        "What the meter speaks is found by itself within two minutes. Probe and meter appear in Home Assistant as two "
        "devices.",
        "Was der Zähler spricht, findet der Lesekopf binnen zwei Minuten selbst heraus. Beide erscheinen in Home "
        "Assistant als Geräte.",
    ),
    "after_energy": (
        "Settings, Dashboards, Energy: choose <em>Energy import</em>, and <em>Energy export</em> for what returns to "
        "the grid.",
        "Einstellungen, Dashboards, Energie: <em>Energy import</em> wählen, und <em>Energy export</em> für das, was "
        "ins Netz zurückgeht.",
    ),
    "after_pin": (
        "Only whole kilowatt-hours? The meter wants its PIN: ask your metering point operator and enter it "
        "with a torch.",
        "Nur ganze Kilowattstunden? Der Zähler will seine PIN: beim Messstellenbetreiber erfragen und mit einer "
        "Taschenlampe eingeben.",
    ),
}

# German for what the boards that come along are; a sentence changed in the board file is shown as it is there.
ABOUT_IN_GERMAN = {
    "A finished optical head by bitShake.": "Ein fertiger optischer Lesekopf von bitShake.",
    "Any development board with a classic ESP32, and a TTL head wired to it.": (
        "Ein beliebiges Entwicklerboard mit einem ESP32, daran ein TTL-Kopf."
    ),
    "Any development board with an ESP32-S3, and a TTL head wired to it.": (
        "Ein beliebiges Entwicklerboard mit einem ESP32-S3, daran ein TTL-Kopf."
    ),
    "A finished reader by gPlug for the P1 socket of Swiss and Dutch meters.": (
        "Ein fertiger Leser von gPlug für die P1-Buchse Schweizer und niederländischer Zähler."
    ),
    "A finished P1 reader by gPlug with Ethernet, which this firmware does not use.": (
        "Ein fertiger P1-Leser von gPlug mit Ethernet, das diese Firmware nicht benutzt."
    ),
    "A finished reader by gPlug for encrypted DLMS (K) or P1 (D-E).": (
        "Ein fertiger Leser von gPlug für verschlüsseltes DLMS (K) oder P1 (D-E)."
    ),
    "A finished reader by gPlug for the M-Bus customer interface (CII).": (
        "Ein fertiger Leser von gPlug für die Kundenschnittstelle mit M-Bus (CII)."
    ),
    "A reader for the HAN socket (M-Bus), open hardware by dbeinder.": (
        "Ein Leser für die HAN-Buchse (M-Bus), offene Hardware von dbeinder."
    ),
    "A finished optical head by Hichi (version 2); the first one, an ESP8266, cannot run this.": (
        "Ein fertiger optischer Lesekopf von Hichi (Version 2); auf der ersten, einem ESP8266, läuft dies nicht."
    ),
    "A small board by LOLIN (Wemos), and a TTL head wired to it.": (
        "Ein kleines Board von LOLIN (Wemos), daran ein TTL-Kopf."
    ),
    "A board by LOLIN (Wemos) with a socket for a battery, and a TTL head wired to it.": (
        "Ein Board von LOLIN (Wemos) mit Akkubuchse, daran ein TTL-Kopf."
    ),
    "A small cube by M5Stack, and a TTL head on its Grove socket.": (
        "Ein kleiner Würfel von M5Stack, ein TTL-Kopf an seiner Grove-Buchse."
    ),
    "A board by Olimex with Ethernet, which this firmware does not use, and a TTL head wired to it.": (
        "Ein Board von Olimex mit Ethernet, das diese Firmware nicht benutzt, daran ein TTL-Kopf."
    ),
    "A bare ESP32-C3 board wired to a P1 socket: data request and 5 V in, data out on RX.": (
        "Ein einfaches ESP32-C3-Board an einer P1-Buchse: Datenanforderung und 5 V hinein, Daten an RX."
    ),
    "A board by M5Stack powered by Ethernet, which this firmware does not use otherwise, and a TTL head wired to it.": (
        "Ein Board von M5Stack mit Strom aus dem Ethernet, das diese Firmware sonst nicht benutzt, daran ein TTL-Kopf."
    ),
    "A finished reader by amsleser for the HAN socket, powered by the meter.": (
        "Ein fertiger Leser von amsleser für die HAN-Buchse, vom Zähler versorgt."
    ),
    "A finished reader by amsleser for the P1 socket, powered by the meter.": (
        "Ein fertiger Leser von amsleser für die P1-Buchse, vom Zähler versorgt."
    ),
    "A board by Wireless-Tag with Ethernet, which this firmware does not use, and a TTL head wired to it.": (
        "Ein Board von Wireless-Tag mit Ethernet, das diese Firmware nicht benutzt, daran ein TTL-Kopf."
    ),
    "A small board by Seeed, and a TTL head wired to it.": "Ein kleines Board von Seeed, daran ein TTL-Kopf.",
    "A small board by Seeed on Seeed's RS485 breakout board (TP8485E), for a meter that speaks Modbus.": (
        "Ein kleines Board von Seeed auf Seeeds RS485-Platine (TP8485E), für einen Zähler, der Modbus spricht."
    ),
}
_USB_OF_MICROPYTHON = ("esp32s2", "esp32s3")  # its own USB device in place of the boot ROM's


def html(boards: Sequence[Board]) -> str:
    """The whole page."""
    return "\n".join(_lines(boards)) + "\n"


def _lines(boards: Sequence[Board]) -> Iterable[str]:
    yield from ("<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">')
    yield f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="referrer" content="no-referrer">'
    yield '<title>optoprobe</title><link rel="icon" href="data:,"><link rel="stylesheet" href="style.css">'
    yield '<script type="module" src="esp-web-tools/install-button.js"></script>'
    yield '<script type="module" src="page.js"></script>'
    yield "</head>\n<body>"
    yield "<header>"
    yield '<nav><button type="button" data-language="en" lang="en">English</button>'
    yield '<button type="button" data-language="de" lang="de">Deutsch</button></nav>'
    yield f"<h1>{_both('title')}</h1>"
    yield from _paragraphs("what")
    yield f'<div id="unsupported" class="bad" hidden>{_both("unsupported")}</div>'
    yield f'<div id="insecure" class="bad" hidden>{_both("insecure")}</div>'
    yield "</header>\n<main>"
    yield from _section("before", _list("before_cable", "before_wifi", "before_broker", "before_head"))
    yield f'<section><form id="boards"><fieldset><legend>{_both("choose")}</legend>'
    if not all(board.confirmed for board in boards):
        yield from _paragraphs("unconfirmed_means")
    for board in boards:
        yield from _board(board)
    yield "</fieldset></form></section>"
    yield f"<section><h2>{_both('write')}</h2>"
    yield from _paragraphs("overwrites", "write_steps")
    yield f'<p id="native-usb" hidden>{_both("native_usb")}</p>'
    yield '<esp-web-install-button id="install">'
    yield f'<button slot="activate" type="button" id="go" disabled>{_both("go")}</button>'
    yield '<span slot="unsupported"></span><span slot="not-allowed"></span></esp-web-install-button>'
    yield f'<p id="choose-first">{_both("choose_first")}</p>'
    yield from _paragraphs("boot_button")
    yield "</section>"
    yield from _broker()
    yield from _section("after", _list("after_clip", "after_found", "after_energy", "after_pin"))
    yield "</main>\n</body>\n</html>"


def _broker() -> Iterable[str]:
    yield f"<section><h2>{_both('broker')}</h2>"
    yield from _paragraphs("broker_why")
    yield '<form id="broker" autocomplete="off">'
    fields = (
        ("host", 'name="mqtt_host" required maxlength="128" placeholder="192.0.2.10" inputmode="url"'),
        ("user", 'name="mqtt_user" maxlength="64"'),
        ("password", 'name="mqtt_password" type="password" maxlength="64" autocomplete="new-password"'),
    )
    for key, attributes in fields:
        yield f"<label>{_both(key)}<input {attributes}></label>"
    yield f'<button type="submit" id="send">{_both("send")}</button></form>'
    yield '<div id="said" aria-live="polite">'
    for key in ("busy", "written", "damaged", "odd", "lost"):
        yield f'<p data-when="{key}" hidden>{_both(key)}</p>'
    yield '</div><ol id="console" lang="en"></ol></section>'


def _board(board: Board) -> Iterable[str]:
    from ..flashing.image import spelt

    key = escape(board.key)
    usb = ' data-usb="other"' if board.chip in _USB_OF_MICROPYTHON else ""
    german = ABOUT_IN_GERMAN.get(board.about)
    yield f'<label class="board"><input type="radio" name="board" value="{key}"{usb}>'
    about = escape(board.about) if german is None else _pair(escape(board.about), escape(german))
    chip = "" if spelt(board.chip) in board.name else f" <small>{escape(spelt(board.chip))}</small>"
    yield f"<span><b>{escape(board.name)}</b>{chip}<br>{about}"
    yield f"<small>{_both('confirmed' if board.confirmed else 'unconfirmed')}</small></span></label>"


def _section(key: str, lines: Iterable[str]) -> Iterable[str]:
    return (f"<section><h2>{_both(key)}</h2>", *lines, "</section>")


def _list(*keys: str) -> Iterable[str]:
    return ("<ul>", *(f"<li>{_both(key)}</li>" for key in keys), "</ul>")


def _paragraphs(*keys: str) -> Iterable[str]:
    return (f"<p>{_both(key)}</p>" for key in keys)


def _both(key: str) -> str:
    return _pair(*TEXTS[key])


def _pair(*texts: str) -> str:
    spans = zip(LANGUAGES, texts, strict=True)
    return "".join(f'<span lang="{language}">{text}</span>' for language, text in spans)
