"""Recorded conversations with a meter, read from both sides: one file a protocol, found by its name.

It holds `decode(bursts, key, auth_key, short_names)`, which yields Telegram and Rejected (optoprobe.decoding).
"""

import pkgutil
from collections.abc import Callable, Iterator

from ..decoding import Rejected, Telegram
from ..protocol_files import module_of


def names() -> list[str]:
    """The protocols whose conversations are read."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def reader(protocol: str) -> Callable[..., Iterator[Telegram | Rejected]]:
    """What decodes its conversations."""
    return module_of(__name__, protocol).decode
