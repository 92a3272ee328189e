"""The registry: protocol names and where their code is. A module is loaded when asked for and can be dropped again.

A new protocol is one family, a module or a package below `metering`, and one line here; one that is asked has a second
of each, for its conversation.
"""

import sys

from metering.unload import unload

LISTENERS = (
    ("sml", "metering.sml"),
    ("iec62056-21", "metering.iec62056_21.data_block"),
    ("dlms", "metering.dlms.push"),
)
BLINK = "blink"  # what says nothing but by its LED's flashes: metering.pulses, neither of the two
CONVERSATIONS = (("iec62056-21", "metering.iec62056_21.poll"),)
# Families, and common files that nothing but a family loads.
_FAMILIES = "sml iec62056_21 dlms mbus checksum compacting_listener"


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


def unload_protocols():
    """Drop the code of every protocol from memory; what still uses some of it keeps working."""
    for family in _FAMILIES.split():
        unload("metering." + family)
