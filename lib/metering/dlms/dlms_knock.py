"""A search's knock for a meter that is asked by DLMS: SNRM, client 16 to server 1 or as in the settings, and its UA."""

from metering.compat import const
from metering.dlms.client_options import Options
from metering.dlms.hdlc import Frame
from metering.dlms.hdlc_station import SNRM, UA, Header, frame
from metering.line import EXPECT, SEND

LINE = (9600, None, 1)
ON_BATTERY = False
WAKES = False
ADVICE = "it answers in DLMS, but %s. Your network operator gives client and password (meter_options, meter_password)"
SIGN_ON = "mode=IEC"

_ANSWER_MS = const(550)
_GAP_MS = const(120)


def knock(asking):
    """Generator of line actions: does somebody answer? As metering.protocols says."""
    try:
        meter, client = Options(asking.options).addresses(asking.has_password)
    except ValueError:  # who asks then says what is wrong
        meter, client = Options("").addresses(asking.has_password)
    yield SEND, frame(meter, client, SNRM)
    answer = yield EXPECT, None, _ANSWER_MS, _GAP_MS
    found, header, view = Frame(), Header(), memoryview(answer)
    at = answer.find(b"\x7e")
    while at >= 0:
        if found.find(answer, view, at, len(answer)) > 0:
            header.take(answer, at)
            if header.kind == UA and header.destination == client and header.source == meter:
                return True
        at = answer.find(b"\x7e", at + 1)
    return False
