"""A recorded read-out as a meter that is asked: it says again what was recorded, at the rates of the norm."""

from __future__ import annotations

from .iec62056_21_meter import IecMeter
from .iec62056_21_read_out import Expected

_STX, _ETX = 0x02, 0x03
_REACTION_MS = 250  # a quick one, as nobody learns anything from waiting


class RecordedMeter(IecMeter):
    """Answers a sign-on with `identification`, the acknowledge with `block` (STX ... ETX BCC), both of plain 7 bits."""

    def __init__(self, identification: bytes, block: bytes) -> None:
        baud = chr(identification[4])
        mode = "C" if baud in "0123456" else "B" if baud in "ABCDEF" else "A"
        super().__init__(mode, offered="" if mode == "A" else baud, reaction_ms=_REACTION_MS, programming="readout")
        self._identification = identification
        self._block = block

    def identification(self) -> bytes:
        return self._identification

    def block(self, now_s: float) -> tuple[bytes, Expected]:
        return self._block, []


def recorded_meter(data: bytes) -> RecordedMeter | None:
    """The meter that has said `data`, from the `/` of an identification on; None where that is no framed read-out."""
    text = bytes(byte & 0x7F for byte in data)
    end = text.find(b"\n") + 1
    stx = text.find(_STX, end)
    etx = text.find(_ETX, stx)
    if text[:1] != b"/" or end < 6 or stx < 0 or etx < 0 or etx + 1 >= len(text):
        return None
    return RecordedMeter(text[:end], text[stx : etx + 2])
