"""Settings: one JSON file of flat keys, checked when it is loaded. A bad file or a bad value never stops the device:
the default is used and a sentence says so. load() returns plain data, so that this code can be dropped again.
"""

import os

from micropython import const

from firmware.store import read_json, save
from metering import protocols
from metering.dlms.meter_key import key_bytes, key_digits
from metering.line import Line

_LEAST_BAUD = const(300)
_MOST_BAUD = const(921600)
_FRAMING = b"/!?()"  # what means something to an IEC 62056-21 meter
_TOPIC_CHARACTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
_MAX_FILE_BYTES = const(8192)
_MAX_CHANGE_BYTES = const(256)
CHANGE_FILE = "change.json"  # [key, value], left by firmware.owner.orders where memory is too short to check it at once
_MOST_OPTIONS = const(160)


def _bytes(value):
    """Those of a text, None of anything else, and of a half character: of \\ud83d\\ude00 MicroPython's json makes two,
    which no Wi-Fi has in its name, and no hub reads. A computer raises UnicodeEncodeError there.
    """
    if not isinstance(value, str):
        return None
    data = value.encode()
    for character in value:
        if 0xD800 <= ord(character) < 0xE000:
            return None
    return data


def _text(most):
    def accepts(value):
        data = _bytes(value)
        return data is not None and len(data) <= most and b"\x00" not in data

    return accepts


def _name(least, most, more=b""):
    allowed = _TOPIC_CHARACTERS + more

    def accepts(value):
        data = _bytes(value)
        return data is not None and least <= len(data) <= most and all(c in allowed for c in data)

    return accepts


def _password(value):
    return value == "" or _text(128)(value) and len(value.encode()) >= 8


def _wpa(value):
    return value == "" or isinstance(value, str) and 8 <= len(value) <= 63 and all(0x20 <= ord(c) < 0x7F for c in value)


def _printable(most):
    """A text that an IEC 62056-21 message can hold."""

    def accepts(value):
        data = _bytes(value)
        return data is not None and len(data) <= most and all(0x20 < c < 0x7F and c not in _FRAMING for c in data)

    return accepts


def _options(value):
    """How a DLMS meter is asked; the code that knows is loaded where there is anything to check."""
    if not _text(_MOST_OPTIONS)(value):
        return False
    if not value:
        return True
    from metering.dlms.client_options import Options

    try:
        Options(value)
    except ValueError:
        return False
    return True


def _topic(value):
    return _name(1, 60, b"/")(value) and value[0] != "/" and value[-1] != "/" and "//" not in value


def _whole(least, most):
    def accepts(value):
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return accepts


def _key(value):
    try:
        key_bytes(value)
    except (ValueError, AttributeError):
        return False
    return True


def _line_of(text):
    words = text.split()
    if len(words) != 2 or len(words[1]) != 3:
        raise ValueError("line settings: such as 9600 8N1")
    bits, parity, stop = words[1][:1], words[1][1:2].upper(), words[1][2:]
    baud = int(words[0])
    if not _LEAST_BAUD <= baud <= _MOST_BAUD:
        raise ValueError("baud: 300 to 921600")
    return Line(baud, int(bits), None if parity == "N" else parity, int(stop))


def _line(value):
    try:
        return value == "" or _line_of(value) is not None
    except (ValueError, AttributeError):
        return False


def _factor(value):
    return _whole(0, 1000)(value) and value in (0, 1, 10, 100, 1000)


def _truth(value):
    return isinstance(value, bool)


def _one_of(words):
    return lambda value: isinstance(value, str) and value in words


_FILE = _name(0, 32, b".")
_TLS_KEYS = ("mqtt_tls_ca", "mqtt_tls_cert", "mqtt_tls_key")
_TLS_FILE = "mqtt_ca.der"
_TLS_PORT = const(8883)
_PROTOCOLS = ["auto"] + protocols.names() + [protocols.BLINK]
_DISCOVERY = ("device", "entity", "off")

# key, default, accepts?, the accepted values in words
_KEYS = (
    ("wifi_ssid", "", _text(32), "the Wi-Fi's name, up to 32 bytes"),
    ("wifi_password", "", _text(64), "a text of up to 64 bytes"),
    ("mqtt_host", "", _text(128), "the broker's name or address, a text of up to 128 bytes"),
    ("mqtt_port", 1883, _whole(1, 65535), "a whole number from 1 to 65535"),
    ("mqtt_user", "", _text(128), "a text of up to 128 bytes"),
    ("mqtt_password", "", _text(256), "a text of up to 256 bytes"),
    ("mqtt_tls_ca", "", _FILE, "the CA that has signed the broker's certificate: a PEM or DER file"),
    ("mqtt_tls_cert", "", _FILE, "a certificate of the probe's own, if the broker wants one: a PEM or DER file"),
    ("mqtt_tls_key", "", _FILE, "its key: a PEM or DER file"),
    ("mqtt_prefix", "optoprobe", _topic, "letters, digits, _ - and / inside, up to 60"),
    ("probe_id", "", _name(0, 32), "up to 32 letters, digits, _ and -; empty: made from the chip's number"),
    ("probe_name", "Optoprobe", _text(40), "a text of up to 40 bytes"),
    ("discovery", "device", _one_of(_DISCOVERY), "device (Home Assistant), entity (other hubs) or off"),
    ("discovery_prefix", "homeassistant", _topic, "letters, digits, _ - and / inside, up to 60"),
    ("protocol", "auto", _one_of(_PROTOCOLS), " or ".join(_PROTOCOLS)),
    ("interval_s", 0, _whole(0, 86400), "seconds between read-outs up to 86400, 0: a minute, an hour for heat meters"),
    ("reads_a_day", 0, _whole(0, 86400), "read-outs a day at the most, to 86400; 0: as interval_s says"),
    ("meter_address", "", _printable(32), "up to 32 letters and digits, as printed on the meter"),
    ("meter_password", "", _printable(32), "up to 32 letters and digits"),
    ("meter_options", "", _options, "words such as client_address=32 physical_address=17 mode=IEC, up to 160 bytes"),
    ("modbus_map", "", _FILE, "the meter's register map: one that comes along, or your own file.json"),
    ("wake_up", False, _truth, "true (battery meters) or false"),
    ("meter_key", "", _key, "32 hexadecimal digits, as your network operator sent them"),
    ("meter_auth_key", "", _key, "32 hexadecimal digits, as your network operator sent them"),
    ("line", "", _line, "such as 2400 8E1, empty: what the protocol usually has"),
    ("ntp_host", "pool.ntp.org", _text(128), "a time server of up to 128 bytes, empty: none"),
    ("publish_interval_s", 10, _whole(0, 3600), "seconds between two messages up to 3600, 0: every telegram"),
    ("publish_change_percent", 10, _whole(1, 100), "the change of a power that goes out at once, 1 to 100"),
    ("pulses_per_kwh", 1000, _whole(1, 100000), "a whole number from 1 to 100000, as printed beside the LED"),
    ("energy_factor", 0, _factor, "Wh a count of a Kamstrup's energies is worth: 1, 10, 100 or 1000; 0: by itself"),
    ("device_password", "", _password, "8 to 128 bytes, of the probe's own page; empty: there is no page"),
    ("page_port", 80, _whole(1, 65535), "a whole number from 1 to 65535"),
    ("setup_password", "", _wpa, "8 to 63 letters, digits or signs, of the probe's own Wi-Fi; empty: one is made"),
    ("max_power_kw", 70, _whole(1, 10000), "what the connection can carry, a whole number of kW from 1 to 10000"),
)


# What a file of version n needs to be one of n + 1, in its place n - 1: functions that change its dict. A key is never
# given another meaning or name without one. A file without a version is of the first.
_STEPS = ()
_VERSION_KEY = "settings_version"


def _migrate(given):
    """Bring what an earlier version has written to this one's form, in place; True where something has changed.

    A later version's stays as it is: what is known of it is used, and the rest kept for that version.
    """
    version = given.get(_VERSION_KEY, 1)
    if not _whole(1, len(_STEPS))(version):
        return False  # this version's, a later one's, or none
    for step in _STEPS[version - 1 :]:
        step(given)
    given[_VERSION_KEY] = 1 + len(_STEPS)
    return True


def check(given):
    """(values, problems) of a dict as read from the file: every key missing or not accepted gets its default.

    `values` also keeps each key this version does not know, for a newer or an older one; `problems` are sentences.
    """
    problems = []
    values = dict(given)
    for key, default, accepts, words in _KEYS:
        if key not in given:
            values[key] = default
        elif not accepts(given[key]):
            values[key] = default
            shown = '"%s"' % default if isinstance(default, str) else default
            if key == _TLS_KEYS[0]:
                shown = _TLS_FILE
            if accepts is _key:
                words += _digits(given[key])
            problems.append("settings: %s is not accepted, %s is used; give %s" % (key, shown, words))
    if any(given.get(key) for key in _TLS_KEYS):
        values["mqtt_tls_ca"] = values["mqtt_tls_ca"] or _TLS_FILE  # who wants TLS never gets a session without it
        values["mqtt_port"] = values["mqtt_port"] if "mqtt_port" in given else _TLS_PORT
    return values, problems


def refusals(given):
    """{key: what to give instead} of those in the dict `given` that are not accepted; no value is in a sentence."""
    found = {}
    for key, _, accepts, words in _KEYS:
        if key in given and not accepts(given[key]):
            found[key] = "give %s%s" % (words, _digits(given[key]) if accepts is _key else "")
    return found


def note_version(given):
    """Have the dict `given` tell that this version has written it, unless it tells another."""
    given.setdefault(_VERSION_KEY, 1 + len(_STEPS))


def change(path, key, value):
    """Have `value` under `key` in the file `path`. Returns "", or a sentence that says why it stays as it was; no
    value is in it, as it may be a secret.
    """
    refused = refusals({key: value})
    if refused:
        return "%s is refused: %s" % (key, refused[key])
    try:
        given = read_json(path, _MAX_FILE_BYTES)
    except (OSError, ValueError):
        given = None
    if not isinstance(given, dict):
        return "%s is refused: %s cannot be read" % (key, path)
    if given.get(key) == value:
        return "%s has been so before" % key
    given[key] = value
    return "" if save(path, given) else "%s is not changed: %s cannot be written" % (key, path)


def _digits(value):
    """How many digits a key has, in words: people paste one too few."""
    try:
        return " (it has %d)" % len(key_digits(value))
    except (ValueError, AttributeError):
        return ""


def load(path):
    """(values, problems) of the JSON file `path`. Never raises: without a readable file all are defaults. That there is
    none is no problem: a new probe has none, and gets one with its Wi-Fi.
    """
    try:
        refusal = _take_change(path)
    except MemoryError:  # it is left for the next start
        refusal = ""
    values, problems = _load(path)
    if refusal:
        problems.append("settings: " + refusal)
    return values, problems


def _take_change(path):
    """Carry out what CHANGE_FILE asks for, once. Returns "", or the sentence that says why it is not."""
    try:
        wanted = read_json(CHANGE_FILE, _MAX_CHANGE_BYTES)
    except OSError:
        return ""
    except ValueError:
        wanted = None
    refusal = ""
    if isinstance(wanted, list) and len(wanted) == 2 and isinstance(wanted[0], str):
        refusal = change(path, wanted[0], wanted[1])
    try:
        os.remove(CHANGE_FILE)  # behind it: after a power cut it is done again, which changes nothing
    except OSError:
        pass
    return refusal


def _load(path):
    try:
        given = read_json(path, _MAX_FILE_BYTES)
    except OSError:
        return check({})
    except (ValueError, MemoryError) as error:
        return _defaults("%s is %s: correct it and copy it again" % (path, error))
    if not isinstance(given, dict):
        return _defaults("%s holds no object of keys and values: correct it and copy it again" % path)
    if _migrate(given):
        save(path, given)  # the old file, or the new; where that fails it is done again at the next start
    return check(given)


def convert(values):
    """Turn checked texts into what the device works with, in place: keys into bytes, a line into a Line; "" is None."""
    for key in ("meter_key", "meter_auth_key"):
        values[key] = key_bytes(values[key])
    values["line"] = _line_of(values["line"]) if values["line"] else None


def _defaults(problem):
    return check({})[0], ["settings: %s; defaults are used" % problem]
