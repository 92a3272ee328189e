"""The registry: protocol names and where their code is. A module is loaded when asked for and can be dropped again.

A new protocol is one file and one line here; one that is asked has a second of each, for its conversation. What they
load beside these, and nothing else does, is named in _PARTS.
"""

import gc
import sys

LISTENERS = (("sml", "metering.sml"), ("iec62056-21", "metering.iec62056_21"), ("dlms", "metering.dlms"))
BLINK = "blink"  # what says nothing but by its LED's flashes: metering.pulses, neither of the two
CONVERSATIONS = (("iec62056-21", "metering.iec62056_21_conversation"),)
# What is loaded with one of them, or with several, and with nothing else.
_PARTS = "aes axdr block_check checksum cosem dlms_layouts gcm hdlc mbus_frame printed staging"


def names():
    """The names of every protocol, in the order detection would try them."""
    return [name for name, _ in LISTENERS]


def load(name):
    """The listener class of protocol `name`, its module imported on demand. Raises KeyError for an unknown name."""
    return _module(dict(LISTENERS)[name]).LISTENER


def load_conversation(name):
    """The conversation class of protocol `name`, None where meters talk by themselves."""
    path = dict(CONVERSATIONS).get(name)
    return _module(path).CONVERSATION if path else None


def _module(path):
    __import__(path)
    return sys.modules[path]


def unload():
    """Drop the code of every protocol from memory; what still uses some of it keeps working."""
    for table in (LISTENERS, CONVERSATIONS):
        for _, path in table:
            _drop(path)
    for part in _PARTS.split():
        _drop("metering." + part)
    gc.collect()


def _drop(path):
    if sys.modules.pop(path, None):
        delattr(sys.modules["metering"], path.split(".")[-1])
