"""Code that has done its work is taken out of memory again: one module, or a family with all it has loaded."""

import gc
import sys

from metering.compat import SLICES_ARE_CHEAP


def unload(prefix):
    """Drop module `prefix` and every module below it, such as "metering.dlms" with metering.dlms.gcm.

    Objects made of that code keep working and keep it alive until they go themselves. A name that is not loaded is
    left alone. Allocates a list of the names it drops, and collects the garbage where there were any: 5 ms and more
    on a chip. A computer's goes by itself; there a collection would walk over the whole program's objects. What only a
    computer loads goes with every family: it is made of one's classes.
    """
    below = (prefix + ".", "metering.on_computer.") if SLICES_ARE_CHEAP else prefix + "."
    names = [name for name in sys.modules if name == prefix or name.startswith(below)]
    for name in names:
        del sys.modules[name]
        parent, _, child = name.rpartition(".")
        if parent in sys.modules and hasattr(sys.modules[parent], child):
            delattr(sys.modules[parent], child)
    if names and not SLICES_ARE_CHEAP:
        gc.collect()
