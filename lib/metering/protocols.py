"""The registry: protocol names and where their code is. A module is loaded when asked for and can be dropped again.

A new protocol is one file and one line here; one that is asked has a second of each, for its conversation.
"""

import gc
import sys

LISTENERS = (("sml", "metering.sml"), ("iec62056-21", "metering.iec62056_21"), ("dlms", "metering.dlms"))
BLINK = "blink"  # what says nothing but by its LED's flashes: metering.pulses, neither of the two
CONVERSATIONS = (("iec62056-21", "metering.iec62056_21_conversation"),)


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


def unload(name):
    """Drop protocol `name`'s code from memory; what still uses it keeps working."""
    for table in (LISTENERS, CONVERSATIONS):
        path = dict(table).get(name)
        if path in sys.modules:
            del sys.modules[path]
            delattr(sys.modules["metering"], path.split(".")[-1])
    gc.collect()
