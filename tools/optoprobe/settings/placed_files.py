"""Files that the settings name on a computer, and that a board keeps beside its settings: certificates, a register map.

In the settings on a board these keys name the files of FILES.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import certificates, register_map

FILES = {**certificates.FILES, register_map.KEY: register_map.FILE}


class PlacedFileError(Exception):
    """The text is one sentence without its full stop; nothing of a key is in it."""


def placed(settings: Mapping[str, Any], folder: Path, is_all: bool = True) -> tuple[dict[str, Any], dict[str, bytes]]:
    """(the settings as a board has them, content of its files by their name); `folder` is where relative names begin.

    `is_all`: the board will have these settings and no others. Raises PlacedFileError.
    """
    try:
        values, files = certificates.placed(settings, folder, is_all)
        values, more = register_map.placed(values, folder, is_all)
    except UnicodeEncodeError:
        raise  # half a character: who asked has a sentence for that
    except (certificates.CertificateError, ValueError) as error:
        raise PlacedFileError(str(error)) from error
    return values, files | more


def beside(key: str, given: object, folder: Path) -> object:
    """What the setting `key` says, given in a file of `folder`: a name of a file is meant from there."""
    if not isinstance(given, str) or not given or certificates.is_text(given):
        return given
    if key == register_map.KEY and given in register_map.modbus_maps():
        return given
    return str(folder / given)
