"""The registry: protocol names and where their code is. A module is loaded when asked for and can be dropped again.

A new protocol is one file and one line here.
"""

import gc
import sys

LISTENERS = (("sml", "metering.sml"),)


def names():
    """The names of every protocol, in the order detection would try them."""
    return [name for name, _ in LISTENERS]


def load(name):
    """The listener class of protocol `name`, its module imported on demand. Raises KeyError for an unknown name."""
    path = dict(LISTENERS)[name]
    __import__(path)
    return sys.modules[path].LISTENER


def unload(name):
    """Drop protocol `name`'s code from memory; what still uses it keeps working."""
    path = dict(LISTENERS)[name]
    if path in sys.modules:
        del sys.modules[path]
        delattr(sys.modules["metering"], path.split(".")[-1])
        gc.collect()
