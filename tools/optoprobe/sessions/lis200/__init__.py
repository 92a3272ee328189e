"""A recorded conversation in LIS-200: what the meter said of each session is a Telegram, as its answers name what they
are of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from metering.iec62056_21.iec_probe import is_corrector
from metering.iec62056_21.lis200_poll import refusal_words

from ... import decoding
from ...decoding import Rejected, Telegram
from ...transcript import Burst

_NAME = "lis200"
_ARCHIVE = re.compile(rb"\x01R[13]\x02([0-9]{1,2}:V\.[0-9A-F])\(")
_REFUSAL = re.compile(rb"\x02[^(]{0,16}\(#0*(\d{1,4})\)\x03")


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
    damaged = []  # and what was refused, or is left out
    archive = b""  # the one whose rows come, block by block
    for burst in bursts:
        if burst.damage:
            damaged.append(Rejected(len(said), "bad line", burst.damage, protocol=_NAME))
        if burst.to_meter and len(burst.data) > 1:  # no ACK, no NAK
            asked = _ARCHIVE.search(bytes(byte & 0x7F for byte in burst.data))
            archive = asked[1] if asked else b""
            if asked:
                words = f"rows of {archive.decode()}: optoprobe read --archive lists an archive"
                damaged.append(Rejected(len(said), "left out", words, protocol=_NAME))
        if not burst.to_meter:
            plain = bytes(byte & 0x7F for byte in burst.data)
            for found in _REFUSAL.finditer(plain):
                words = refusal_words(found[1].decode())
                damaged.append(Rejected(len(said) + found.start(), "refused", words, protocol=_NAME))
            said += bytes(len(burst.data)) if archive else burst.data
    if any(is_corrector(said[at : at + 8]) for at, byte in enumerate(said) if byte in b"/\xaf"):
        yield from damaged
        yield from decoding.decode(said, _NAME)
