"""A recorded conversation in LIS-200: what the meter said of each session is a Telegram, as its answers name what they
are of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from metering.iec62056_21.iec_probe import is_corrector

from .. import decoding
from ..decoding import Rejected, Telegram
from ..transcript import Burst

_NAME = "lis200"


def decode(
    bursts: Iterable[Burst],
    key: bytes | None = None,
    auth_key: bytes | None = None,
    short_names: Mapping[int, bytes] | None = None,
) -> Iterator[Telegram | Rejected]:
    """What a conversation gives, nothing where its meter is another one; keys and names are other protocols'. Raises
    nothing.
    """
    said = bytearray()
    damaged = []
    for burst in bursts:
        if burst.damage:
            damaged.append(Rejected(len(said), "bad line", burst.damage, protocol=_NAME))
        if not burst.to_meter:
            said += burst.data
    if any(is_corrector(said[at : at + 8]) for at, byte in enumerate(said) if byte in b"/\xaf"):
        yield from damaged
        yield from decoding.decode(said, _NAME)
