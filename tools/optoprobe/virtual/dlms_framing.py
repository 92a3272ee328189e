"""How a simulated meter that pushes DLMS puts its telegrams on the line: frames, and what the quirks do to them."""

from __future__ import annotations

import random

from . import dlms_encoder as dlms
from .dlms_lists import Layout

FRAMINGS = ("hdlc", "gbt", "mbus", "wrapper", "raw")
EVERY = 5  # the telegram that a quirk befalls
_JUNK = b"\x00\x55\xaa\xff\x16\x0f\xdb\xe6\xe7\x02\x09"


class Framing:
    """`name` is one of FRAMINGS; `segment_bytes`, `block_bytes`, `quirks` as DlmsMeter has them."""

    def __init__(
        self, name: str, habits: Layout, quirks: frozenset[str], segment_bytes: int, block_bytes: int
    ) -> None:
        self.name = name
        self.has_flags = name in ("hdlc", "gbt")
        self.has_parts = name in ("gbt", "mbus") or name == "hdlc" and segment_bytes > 0
        self._habits = habits
        self._quirks = quirks
        self._segment_bytes = segment_bytes
        self._block_bytes = block_bytes

    def _parts(self, apdu: bytes) -> list[bytes]:
        """The frames of a telegram, HDLC ones without their flags."""
        habits = self._habits
        if self.name == "wrapper":
            return [dlms.wrapper(apdu)]
        if self.name == "raw":
            return [apdu]
        if self.name == "mbus":
            return dlms.mbus_frames(apdu, (252, 245) if "mbus_257" in self._quirks else (245,))
        to, by, control = habits.destination, habits.source, habits.control
        if self.name == "hdlc":
            return dlms.hdlc_segments(apdu, self._segment_bytes, destination=to, source=by, control=control)
        blocks = dlms.gbt_blocks(apdu, self._block_bytes, first_size=self._block_bytes - len(dlms.LLC_PUSH))
        blocks[0] = dlms.LLC_PUSH + blocks[0]
        return [dlms.hdlc_frame(block, destination=to, source=by, control=control) for block in blocks]

    def on_the_line(self, apdu: bytes, k: int) -> tuple[bytes, bool]:
        """Telegram `k` (from 1) with what the quirks put round it; can it be read?"""
        quirks = self._quirks
        fifth = quirks if k % EVERY == 0 else frozenset()
        parts = self._parts(apdu)
        first, is_good = parts[0], True
        if "bad_fcs_once" in quirks and k == 1:
            at = len(parts[-1]) - (1 if self.has_flags else 2)
            parts[-1] = parts[-1][:at] + bytes((parts[-1][at] ^ 0x40,)) + parts[-1][at + 1 :]
            is_good = False
        if "lost_part" in fifth and len(parts) > 1:
            del parts[1]
            is_good = False
        if "repeated_part" in fifth and len(parts) > 1:
            is_good = is_good and len(parts) == 2  # it is the last: the telegram was whole when it came again
            parts.insert(1, parts[1])
        if "aborted_run" in quirks and len(parts) > 1:
            parts.insert(0, first)
        if "ua_frame" in quirks:
            parts.insert(0, dlms.hdlc_frame(b"", control=0x73))
        data = dlms.between_flags(parts, shared="shared_flag" in quirks) if self.has_flags else b"".join(parts)
        if "torn" in fifth:
            data = data[: len(data) // 2]
            is_good = False
        if "idle_flags" in quirks:
            data = dlms.FLAG * 4 + data + dlms.FLAG * 4
        if "junk_between" in quirks:
            draw = random.Random(k)
            data = bytes(draw.choices(_JUNK, k=draw.randrange(1, 40))) + data
        if "false_start" in quirks:
            data = (b"\x7e\xa1\x00\xce" if self.has_flags else b"\x68\xfa\xfa\x68\x53") + data
        return data, is_good
