"""The sentence that a conversation says of a failure: all of them are in memory only while one is chosen."""

import sys

from metering.unload import unload


def sentence_of(path, k):
    """SENTENCES[k] of the module at `path`, loaded for this moment; "" where there is no memory for it."""
    try:
        __import__(path)
        return sys.modules[path].SENTENCES[k]
    except MemoryError:
        return ""
    finally:
        unload(path)
