"""The register map of a meter that is asked by one: a file beside the settings. Loaded for a moment."""

from micropython import const

from firmware.store import read_json
from metering.unload import unload

_MAX_FILE_BYTES = const(8192)
_CURE = ": bring the register map by optoprobe config --set modbus_map=NAME"


def give_map(conversation, path):
    """Give the map in the file `path` to `conversation`, where it takes one; its explanation says what is wrong."""
    try:
        take_map = conversation.take_map
    except AttributeError:
        return
    try:
        data = read_json(path, _MAX_FILE_BYTES)
    except OSError:
        data = None
        conversation.explanation = "there is no %s%s" % (path, _CURE)
    except (ValueError, MemoryError) as error:
        data = None
        conversation.explanation = "%s is %s%s" % (path, error, _CURE)
    unload("firmware.store")
    if data is not None:
        try:
            take_map(data)
        except ValueError as error:
            conversation.explanation = str(error)
