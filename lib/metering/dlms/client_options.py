"""How a DLMS meter is asked, as its owner has written it: words such as client_address=32 with blanks between them.

Loaded for a moment, and dropped by way_by().
"""

from metering.compat import const
from metering.dlms.association import LN, SN
from metering.dlms.hdlc_link import HdlcLink
from metering.unload import unload

_TIMEOUT_MS = const(2500)
_LEAST_TIMEOUT_MS = const(100)
_RETRIES = const(2)
_MAX_JOBS = const(12)
_MOST = {
    "client_address": 127,
    "logical_address": 16383,
    "physical_address": 16383,
    "address_size": 4,
    "serial_number": 999999999,
    "timeout_ms": 9999,
    "retry_counter": 9,
    "scan_rate_ms": 86400000,
    "reconnect_time": 86400,
}
_OF_COMPUTER = ("suite", "signing_key", "meter_certificate")
_CHOICES = {
    "mode": "IEC, DLMS, DLMS-HDLC or DLMS-WRAPPER",
    "type": "LN or SN",
    "password": "a setting of its own, meter_password, which is never shown",
}


class Options:
    """`numbers` holds what was given of the words of _MOST, reconnect_time in seconds. `has_sign_on`: by IEC 62056-21
    into mode E. `is_short`: by short names. `is_wrapped`: in the wrapper of TCP, by a computer. `has_password` False:
    none is used. `auth`: a list of the word that says so, `security`: one of words for metering.dlms.security_options.
    `jobs`: bytes, the six of each register that is read in place of the usual ones, and its attribute.
    """

    def __init__(self, text):
        """Raises ValueError, which says what is wrong with `text`."""
        self.numbers = {}
        self.has_sign_on = False
        self.has_password = True
        self.is_short = self.is_wrapped = False
        self.jobs = b""
        self.auth = []
        self.security = []
        if "profile=" in text:
            from metering.dlms.meter_profiles import with_profile

            text = with_profile(text)
        for word in text.split():
            key, _, value = word.partition("=")
            most = _MOST.get(key)
            if most is not None:
                if not value.isdigit() or len(value) > 9 or int(value) > most:
                    raise ValueError("%s is a whole number up to %d" % (key, most))
                self.numbers[key] = int(value)
            elif word in ("mode=IEC", "mode=DLMS", "mode=DLMS-HDLC", "mode=DLMS-WRAPPER"):
                self.has_sign_on = value == "IEC"
                self.is_wrapped = value == "DLMS-WRAPPER"
            elif word in ("type=LN", "type=SN"):
                self.is_short = value == "SN"
            elif word in ("auth=NONE", "auth=LOW"):
                self.has_password = value == "LOW"
                self.auth = [word]
            elif key in ("auth", "security", "ciphering", "system_title", "counter", "secret") or key in _OF_COMPUTER:
                self.security.append(word)
            elif key == "obis_job":
                self.jobs = _jobs(value)
            elif key in _CHOICES:
                raise ValueError("%s is %s" % (key, _CHOICES[key]))
            else:
                raise ValueError("%s is not known" % key)  # never its value, as a password may be given here
        self.addresses(False)

    def addresses(self, has_password):
        """(the meter's, the client's) as they are sent, numbers in the wrapper. Raises ValueError."""
        from metering.dlms.hdlc_station import client_address, physical_of_serial, server_address

        given = self.numbers.get
        client = given("client_address", 32 if has_password else 16)
        if self.is_wrapped:
            return given("logical_address", 1), client
        logical, physical, size = given("logical_address", 1), given("physical_address", 0), given("address_size", 0)
        if "serial_number" in self.numbers:
            logical, physical, size = 1, physical_of_serial(self.numbers["serial_number"]), 4
        return server_address(logical, physical, size), client_address(client)


def _jobs(text):
    codes = text.split(",")
    if len(codes) > _MAX_JOBS:
        raise ValueError("obis_job names %d registers at the most" % _MAX_JOBS)
    jobs = b""
    for code in codes:
        code, _, attribute = code.partition(":")
        parts = code.split(".") + [attribute or "2"]
        if len(parts) != 7 or not all(part.isdigit() and len(part) < 4 and int(part) < 256 for part in parts):
            raise ValueError("obis_job is such as 1.0.1.8.0.255:2,1.0.2.8.0.255:2")
        if not 2 <= int(parts[6]) <= 15:
            raise ValueError("obis_job names an attribute from 2 to 15")
        jobs += bytes([int(part) for part in parts])
    return jobs


class Way:
    """How a meter is asked. No methods, as they would keep this module loaded.

    `link_class` and what it takes, `meter`, `client`, `timeout_ms`, `retries`; `context` LN or SN; `convinces`: makes
    of a link and a context what convinces the meter, or None; `password`: b"" for none; `has_sign_on` and `jobs` as
    Options has them; `pause_s` between read-outs, `reconnect_s` behind a failure, 0: by itself; `complaint`: a sentence
    on what is wrong with the owner's words, and not heeded, "" for nothing.
    """

    link_class = HdlcLink
    meter = client = b""
    timeout_ms = retries = pause_s = reconnect_s = 0
    context = LN
    convinces = None
    password = jobs = b""
    has_sign_on = False
    complaint = ""


def way_by(text, password, keys, pause_s):
    """The Way by the owner's `text`, `password` (bytes) and `keys` as Conversation.take_keys() has them, or None.
    `pause_s` unless `text` names another."""
    way = Way()
    try:
        options = Options(text)
        if options.security or keys:
            from metering.dlms.high_setup import convinces_by

            way.convinces = convinces_by(options, password, keys)  # type: ignore[assignment] - a function
    except ValueError as error:
        way.complaint = "meter_options: %s" % error
        options = Options("")
        password = b""  # nobody knows now how it is to be said
    if options.is_wrapped:
        try:
            from metering.on_computer.wrapper_link import WrapperLink

            way.link_class = WrapperLink  # type: ignore[assignment] - it is a link likewise
        except ImportError:
            way = way_by("", password, keys, pause_s)
            way.complaint = "meter_options: mode=DLMS-WRAPPER goes over TCP alone: optoprobe read --tcp"
            return way
    given = options.numbers.get
    way.context = SN if options.is_short else LN
    way.has_sign_on = options.has_sign_on
    way.jobs = options.jobs
    way.password = password if options.has_password else b""
    way.pause_s = (given("scan_rate_ms", pause_s * 1000) + 999) // 1000
    way.reconnect_s = given("reconnect_time", 0)
    way.meter, way.client = options.addresses(bool(way.password))
    way.timeout_ms = max(given("timeout_ms", _TIMEOUT_MS), _LEAST_TIMEOUT_MS)
    way.retries = given("retry_counter", _RETRIES)
    unload("metering.dlms.client_options")
    return way
