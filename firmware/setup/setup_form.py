"""What the set-up's page gives: checked by the settings' own code, field by field, and kept whole or not at all.

The CA of a broker over TLS comes by itself, as the PEM text that somebody pastes: it is put on flash as DER while it
comes, under a name that no settings have yet, and takes the place of the old one with the settings that name it.
"""

import binascii
import os

from micropython import const

from firmware import store

SETTINGS_FILE = "settings.json"
TRIED_CA = "mqtt_ca.new"
_CA_NAMES = ("mqtt_ca.der", "mqtt_ca_2.der")  # the one that the settings do not name is free
_MAX_FILE_BYTES = const(8192)
_MOST_CA_BYTES = const(8192)  # of the pasted text
_MOST_LINE = const(128)
_BEGIN = b"-----BEGIN CERTIFICATE-----"
_END = b"-----END CERTIFICATE-----"
_SEQUENCE = const(0x30)  # of DER, with a length of two bytes behind 82
_LONG = const(0x82)
SHOWN = ("wifi_ssid", "mqtt_host", "mqtt_port", "mqtt_user", "pulses_per_kwh", "probe_name")
SECRET = ("wifi_password", "mqtt_password", "meter_key")
_TLS = ("mqtt_tls_ca", "mqtt_tls_cert", "mqtt_tls_key")
_NO_NAME = "give the Wi-Fi's name"
_NO_ROOM = "the certificate cannot be written: free the device's memory"
_NO_CA = "paste the CA's certificate, from BEGIN to END"


def read_settings():
    """What the settings' file holds (dict); an empty one where there is none, None where it is damaged."""
    try:
        given = store.read_json(SETTINGS_FILE, _MAX_FILE_BYTES)
    except OSError:
        return {}
    except ValueError:
        return None
    return given if isinstance(given, dict) else None


def merged(given):
    """(settings to be tried as the file will have them, {}), or (None, {field: one sentence}) where a field is wrong.

    `given` (dict) has settings' keys, and `tls`: "off", "keep" or "new". What it does not name stays.
    """
    from firmware import settings  # large, and wanted here alone

    changes = {}
    faults = {}
    tls = "keep"
    for key, value in given.items():
        if key == "tls":
            tls = value
        elif key in SHOWN or key in SECRET:
            changes[key] = value.strip("\r\n") if isinstance(value, str) else value  # as a QR code ends with one
        else:
            faults["other"] = "the page sends what this version does not know: load it again"
    faults.update(settings.refusals(changes))
    new = dict(read_settings() or {})
    new.update(changes)
    if not new.get("wifi_ssid") and "wifi_ssid" not in faults:
        faults["wifi_ssid"] = _NO_NAME
    if tls == "off":
        for key in _TLS:
            new.pop(key, None)
    elif tls == "new":
        new["mqtt_tls_ca"] = TRIED_CA
        if not _size_of(TRIED_CA):
            faults["tls"] = _NO_CA
    elif tls != "keep":
        faults["tls"] = _NO_CA
    settings.note_version(new)
    return (None, faults) if faults else (new, faults)


def _size_of(path):
    try:
        return os.stat(path)[6]
    except OSError:
        return 0


def keep(new):
    """Have `new` (of merged()) in the settings' file, old or new after a power cut. True when it is kept."""
    old = (read_settings() or {}).get("mqtt_tls_ca")
    if new.get("mqtt_tls_ca") == TRIED_CA:
        name = _CA_NAMES[old == _CA_NAMES[0]]
        try:
            os.rename(TRIED_CA, name)
        except OSError:
            return False
        new["mqtt_tls_ca"] = name
    if not store.save(SETTINGS_FILE, new):
        return False
    if old in _CA_NAMES and old != new.get("mqtt_tls_ca"):
        _remove(old)
    return True


def _remove(path):
    try:
        os.remove(path)
    except OSError:
        pass


def forget_ca():
    """What was pasted and not kept goes."""
    _remove(TRIED_CA)


class CaTaker:
    """Takes the pasted text piece by piece. finish() says what is wrong with it, "" for nothing; then flash has it."""

    def __init__(self):
        self._rest = b""
        self._taken = self._size = self._needed = 0
        self._state = 0  # before, in, behind the certificate
        self._fault = ""
        self._file = open(TRIED_CA, "wb")

    def take(self, piece):
        self._taken += len(piece)
        if self._fault:
            return
        if self._taken > _MOST_CA_BYTES:
            self._fault = "the certificate is too long: up to %d bytes" % _MOST_CA_BYTES
            return
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._take_line(line.strip())
        if len(self._rest) > _MOST_LINE:
            self._fault = _NO_CA

    def _take_line(self, line):
        if line == _BEGIN:
            if self._state:
                self._fault = "give the CA's certificate alone; several by optoprobe config"
            self._state = 1
        elif line == _END and self._state == 1:
            self._state = 2
        elif self._state == 1 and line and not self._fault:
            try:
                data = binascii.a2b_base64(line)
            except ValueError:
                data = b""
            if not data:
                self._fault = _NO_CA
                return
            if not self._size and len(data) > 4 and data[0] == _SEQUENCE and data[1] == _LONG:
                self._needed = 4 + (data[2] << 8 | data[3])
            self._size += len(data)
            try:
                self._file.write(data)
            except OSError:
                self._fault = _NO_ROOM

    def finish(self):
        self._take_line(self._rest.strip())
        try:
            self._file.close()
        except OSError:
            self._fault = self._fault or _NO_ROOM
        if not self._fault and (self._state != 2 or not self._size or self._size != self._needed):
            self._fault = "the certificate is not whole: paste it from BEGIN to END"
        if self._fault:
            forget_ca()
        return self._fault
