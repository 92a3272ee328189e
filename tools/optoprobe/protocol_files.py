"""The module of one protocol in a package that has one a protocol: masking, sessions, simulated."""

from __future__ import annotations

import importlib
from typing import Any


def module_of(package: str, protocol: str) -> Any:
    """The module of `package` that is named as the registry's row, with _ for -; None where there is none."""
    name = f"{package}.{protocol.replace('-', '_')}"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None
