"""A simulated household electricity meter that pushes DLMS/COSEM, in every framing, layout and security mode we read.

What it measures: quadrant_counters; how its list is encoded: dlms_body, and framed: dlms_framing. The same seed,
options and times give the same telegrams; time is an argument, nothing looks at a clock.

`DlmsMeter.telegram(now_s)` is what the meter sends at that time, `DlmsMeter.expected()` what a faultless reader that
has the keys makes of it, computed from the simulation and not from the bytes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from metering.line import Line

from . import dlms_encoder as dlms
from .dlms_body import Body
from .dlms_framing import EVERY, FRAMINGS, Framing
from .dlms_lists import LAYOUTS
from .household import Household
from .quadrant_counters import QuadrantCounters
from .sml_meter import Expected


@dataclass(frozen=True)
class Kind:
    """A usual combination: framing, layout, security control byte (0: plain), line settings, seconds a telegram."""

    framing: str
    layout: str
    security: int
    line: tuple[int, int, str | None]
    period_s: float


KINDS = {
    "optical": Kind("hdlc", "wienernetze9", 0x20, (9600, 8, None), 1),
    "hdlc": Kind("hdlc", "aidon", 0x00, (2400, 8, "E"), 10),
    "mbus": Kind("mbus", "netznoe", 0x20, (2400, 8, "E"), 5),
    "gbt": Kind("gbt", "lg", 0x30, (2400, 8, "E"), 5),
}
SECURITY = (0x00, 0x10, 0x20, 0x30, 0x21, 0x31)

QUIRKS = {
    "bad_fcs_once": "the first telegram's last frame has a wrong checksum",
    "replay": "every fifth telegram is the one before, byte by byte",
    "counter_reset": "every fifth telegram the invocation counter starts again from where it began",
    "tag_wrong": "every fifth telegram has a flipped bit in ciphertext or tag, link checksums right",
    "torn": "every fifth telegram breaks off in the middle",
    "seven_e_inside": "7E in title and invoke id, so inside every frame",
    "junk_between": "noise before every telegram, without bytes that could start a frame",
    "false_start": "the beginning of a frame that goes no further before every telegram",
    "idle_flags": "7E 7E 7E 7E before and after every telegram",
    "shared_flag": "one 7E closes a frame and opens the next",
    "ua_frame": "a frame without information field before every telegram",
    "no_date_time": "APDU date-time absent (00)",
    "tagged_date_time": "APDU date-time with its octet-string tag (09 0C)",
    "ded": "general-ded-ciphering, DC instead of DB",
    "long_length": "the BER length of the ciphered APDU in its four-byte form",
    "mbus_257": "an M-Bus frame of 257 bytes whose length says 1 (Sagemcom T210-D)",
    "lost_part": "every fifth telegram lacks its second frame (segment, block)",
    "repeated_part": "every fifth telegram sends its second frame (segment, block) twice",
    "aborted_run": "the first frame alone before every telegram (GBT: block 1 starts again)",
}
_OF_HDLC = frozenset(("idle_flags", "shared_flag", "ua_frame"))
_OF_A_CHECK = frozenset(("bad_fcs_once", "torn", "false_start", "junk_between"))
_OF_PARTS = frozenset(("lost_part", "repeated_part", "aborted_run"))
_OF_CIPHERS = frozenset(("tag_wrong", "ded", "long_length", "counter_reset"))


def _check_form(layout: str, framing: str, security: int) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"no such layout: {layout}; there are {', '.join(LAYOUTS)}")
    if framing not in FRAMINGS or security not in SECURITY:
        raise ValueError(f"framing is one of {', '.join(FRAMINGS)}, security 0x00, 0x10, 0x20, 0x30, 0x21 or 0x31")
    if layout == "p1" and not security:
        raise ValueError("a P1 telegram in the clear is an IecMeter's: give it a security")


class DlmsMeter:
    """One meter that pushes by itself every `period_s` seconds. `line` is what it sends with.

    `kind` is a name of KINDS; `layout` (a name of LAYOUTS), `framing` (of FRAMINGS), `security` (0x00 plain, 0x10 tag
    only, 0x20 encrypted without a tag, 0x30 both, 0x21 as 0x20), `line` and `period_s` replace what the kind has.
    `key`, `auth_key`: 16 bytes, or None for keys made from the seed; they are the attributes `key` and `auth_key`.
    `quirks` are names of QUIRKS. `segment_bytes`: most bytes of information in an HDLC frame (0: no segmentation),
    `block_bytes`: bytes of an APDU in a GBT block. `counter`: first invocation counter.
    ValueError for what no meter is.

    After `telegram()`: `counter` and `invoke_id` of that telegram, `apdu` its plain DataNotification (or P1 telegram),
    `timestamp` and `texts` as a reader should show them, `stale` whether its counter is not above all sent before (a
    replay guard refuses it; `expected()` gives what it says all the same).
    """

    def __init__(
        self,
        kind: str = "optical",
        *,
        seed: int = 1,
        key: bytes | None = None,
        auth_key: bytes | None = None,
        security: int | None = None,
        layout: str | None = None,
        framing: str | None = None,
        quirks: Iterable[str] = (),
        line: Line | None = None,
        period_s: float | None = None,
        segment_bytes: int = 0,
        block_bytes: int = 122,
        counter: int | None = None,
        title: bytes | None = None,
        energy_wh: int = 14_798_112,
        export_wh: int = 612_345,
        pv_peak_w: int = 0,
        start_s: int = 11 * 3600 + 30 * 60,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"no such kind: {kind}; there are {', '.join(KINDS)}")
        usual = KINDS[kind]
        self.kind = kind
        self.layout = layout or usual.layout
        framing = framing or usual.framing
        usual_security = usual.security or (0x30 if self.layout == "p1" else 0x00)
        self.security = usual_security if security is None else security
        self.period_s = usual.period_s if period_s is None else period_s
        _check_form(self.layout, framing, self.security)
        draw = random.Random(seed ^ 0x0D1A5)
        self.key = draw.randbytes(16) if key is None else key
        self.auth_key = draw.randbytes(16) if auth_key is None else auth_key
        if len(self.key) != 16 or len(self.auth_key) != 16:
            raise ValueError("keys have 16 bytes")
        if self.period_s <= 0 or energy_wh < 0 or export_wh < 0 or block_bytes < 8 or segment_bytes < 0:
            raise ValueError("period_s above 0, energies 0 or more, blocks of 8 bytes or more")
        self.quirks = frozenset(quirks)
        self._framing = Framing(framing, LAYOUTS[self.layout], self.quirks, segment_bytes, block_bytes)
        self._check_quirks()
        self.line = line or Line(*usual.line)
        self._counters = QuadrantCounters(Household(seed, start_s=start_s, pv_peak_w=pv_peak_w), energy_wh, export_wh)
        self.serial = draw.randrange(10_000_000, 40_000_000)
        if "seven_e_inside" in self.quirks:
            self.serial = 0x017E7E00 | self.serial & 0xFF
        self.title = title or b"OPT\x67" + self.serial.to_bytes(4, "big")
        self.first_counter = draw.randrange(1 << 16, 1 << 20) if counter is None else counter
        self.counter = self.first_counter - 1
        self.invoke_id = 0
        self.telegrams = 0
        self.apdu = b""
        self.stale = False
        self._body = Body(self.layout, self._counters, self.serial, start_s)
        self._highest = -1
        self._last = b""

    def _check_quirks(self) -> None:
        unknown = sorted(self.quirks - QUIRKS.keys())
        if unknown:
            raise ValueError(f"no such quirk: {', '.join(unknown)}; there are {', '.join(QUIRKS)}")
        framing = self._framing
        cannot = set()
        cannot |= set() if framing.has_flags else self.quirks & _OF_HDLC
        cannot |= set() if framing.has_flags or framing.name == "mbus" else self.quirks & _OF_A_CHECK
        cannot |= set() if framing.has_parts else self.quirks & _OF_PARTS
        cannot |= set() if self.security else self.quirks & _OF_CIPHERS
        cannot |= set() if framing.name == "mbus" else self.quirks & {"mbus_257"}
        cannot |= set() if self.security & dlms.AUTHENTICATED else self.quirks & {"tag_wrong"}
        if cannot:
            names = ", ".join(sorted(cannot))
            raise ValueError(f"a {framing.name} meter of security {self.security:#04x} has no {names}")

    def _has(self, quirk: str) -> bool:
        return quirk in self.quirks

    def _fifth(self, quirk: str) -> bool:
        return quirk in self.quirks and self.telegrams % EVERY == 0

    @property
    def framing(self) -> str:
        return self._framing.name

    @property
    def meter_id(self) -> str | None:
        return self._body.meter_id

    @property
    def timestamp(self) -> str | None:
        return self._body.timestamp

    @property
    def texts(self) -> dict[str, str]:
        return self._body.texts

    @property
    def authenticated(self) -> bool:
        """Telegrams carry a tag."""
        return bool(self.security & dlms.AUTHENTICATED)

    def _plain(self) -> bytes:
        said = self._body
        habits, body = said.habits, said.encoded()
        if habits.shape == "p1":
            return body
        self.invoke_id = (self.counter + 1) & 0xFFFFFF if habits.invoke_id is None else habits.invoke_id
        if self._has("seven_e_inside"):
            self.invoke_id = 0x7E7E7E7E
        form = habits.when
        if self._has("no_date_time"):
            form = None
        elif self._has("tagged_date_time"):
            form = "090c"
        if form is None:
            return dlms.data_notification(body, invoke_id=self.invoke_id)
        said.timestamp = said.timestamp or said.time_text()
        return dlms.data_notification(body, invoke_id=self.invoke_id, when=said.clock(), when_form=form)

    def _ciphered(self, plain: bytes) -> bytes:
        if not self.security:
            return plain
        sealed = dlms.protect(plain, self.security, self.key, self.auth_key, self.title, self.counter)
        if self._fifth("tag_wrong"):
            at = 5 + self.telegrams % (len(sealed) - 5)
            sealed = sealed[:at] + bytes((sealed[at] ^ 1 << self.telegrams % 8,)) + sealed[at + 1 :]
        tag = dlms.GENERAL_DED if self._has("ded") else dlms.GENERAL_GLO
        return dlms.general_ciphering(sealed, self.title, tag=tag, least=4 if self._has("long_length") else 0)

    # --- what is asked of it ---

    def telegram(self, now_s: float) -> bytes:
        """What the meter sends at `now_s` seconds after its start. ValueError when that lies before the last telegram.

        Costs about 4 us for every second since the last telegram.
        """
        now_ms = round(now_s * 1000)
        if now_ms < self._counters.time_ms:
            raise ValueError("a meter's time does not go back")
        self._counters.advance(now_ms)
        self.telegrams += 1
        if self._fifth("replay"):
            self.stale = bool(self.security)
            return self._last
        self.counter = self.first_counter if self._fifth("counter_reset") else self.counter + 1
        self.stale = bool(self.security) and self.counter <= self._highest
        self._highest = max(self._highest, self.counter)
        self._body.begin()
        self.apdu = self._plain()
        self._last, is_good = self._framing.on_the_line(self._ciphered(self.apdu), self.telegrams)
        if not is_good or self._fifth("tag_wrong"):
            self._body.expected = []
        return self._last

    def expected(self) -> Expected:
        """What the last telegram says: (OBIS "A-B:C.D.E*F", exact decimal, unit or None), numbers only, in order.

        The unit is None for a power factor and where none is known. Empty after a telegram that must be refused.
        """
        return list(self._body.expected)
