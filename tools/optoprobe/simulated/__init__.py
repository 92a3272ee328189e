"""Meters that are simulated: one module a protocol, named as its row in the registry (with _ for -), or for BLINK.

`demo --meter`, `simulate`, the virtual board and the replaying of captures know a protocol by its module here alone:

    METERS              what --meter calls its meters -> what such a one is, in words; the first is the usual one
    make(name, quirks, *, seed=1, **options)
                        such a meter: a Source of virtual.source, or what its MeterSource takes; `options` are
                        some of OPTIONS. ValueError for a quirk or an option that it cannot have
  and where there is need
    QUIRKS              peculiarities of its meters -> what each is
    OPTIONS             options of `simulate` that they heed: "history", "password", "reaction_ms"
    MODES               what `simulate --mode` calls its meters -> what --meter calls them
    USUAL               its meter where none is named, in place of the first
    LINE                what a meter without a `line` of its own sends with; else the first one of its listener's LINES
    settings(meter)     settings that the probe needs to read it, such as its key
    recorded(data)      a meter that says again what it was asked for, from the begin of `data` on; None where it cannot
    HEAP_BYTES          what the firmware takes to read it on the virtual board beyond a meter of SML
"""

from __future__ import annotations

from typing import Any

from metering import protocols
from metering.line import Line

from ..protocol_files import module_of

# HEAP_BYTES where a module tells none, as measured with IEC 62056-21 and DLMS: data blocks, conversation, cipher, and
# the messages of the 31 registers of a P1 meter.
OTHERS_BYTES = 40 * 1024


def of(protocol: str) -> Any:
    """The module of `protocol` here, None where it has none: then it cannot be simulated. KeyError: no row's name."""
    if protocol != protocols.BLINK and protocol not in protocols.names():
        raise KeyError(protocol)
    return module_of(__name__, protocol)


def simulated_protocols() -> list[str]:
    """The protocols of the registry that can be simulated, in its order."""
    return [name for name in protocols.names() if of(name) is not None]


def meters() -> dict[str, str]:
    """What --meter may be -> its protocol, BLINK for the one that only blinks."""
    return {meter: name for name in (*simulated_protocols(), protocols.BLINK) for meter in of(name).METERS}


def meters_found() -> list[str]:
    """What --meter calls the meters that a search finds."""
    searched = (*protocols.searched(), protocols.BLINK)
    return [meter for meter, protocol in meters().items() if protocol in searched]


def usual_meter(protocol: str) -> str:
    """What --meter calls the usual meter of `protocol`."""
    module = of(protocol)
    return str(getattr(module, "USUAL", next(iter(module.METERS))))


def line_of(meter: Any, protocol: str) -> Line:
    """What `meter`, a source of `protocol`, begins to send with."""
    line = getattr(meter, "line", None) or getattr(of(protocol), "LINE", None)
    return line or protocols.load(protocol).LINES[0]


def heap_bytes(protocol: str) -> int:
    """What the firmware takes on the virtual board beyond a meter of SML. No name of ours: whatever may be found."""
    known = protocol == protocols.BLINK or protocol in protocols.names()
    return getattr(of(protocol), "HEAP_BYTES", OTHERS_BYTES) if known else OTHERS_BYTES
