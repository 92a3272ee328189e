"""Recorded conversations with a meter, read from both sides: one file a protocol, found by its name.

It holds `decode(bursts, key, auth_key, short_names)`, which yields Telegram and Rejected (optoprobe.decoding).
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

from ..decoding import Rejected, Telegram


def names() -> list[str]:
    """The protocols whose conversations are read."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def reader(protocol: str) -> Callable[..., Iterator[Telegram | Rejected]]:
    """What decodes its conversations."""
    module: Any = importlib.import_module(f"{__name__}.{protocol}")
    return module.decode
