"""A simulated DLMS meter on a line that does what it likes, and one that says what it likes."""

import random
from typing import Any

from metering.line import Line
from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter


class Unreliable(AskedDlmsMeter):
    """Loses, doubles, cuts and garbles what it says, at random; `hostile`: says anything at all."""

    def __init__(self, draw: random.Random, rate: float, hostile: bool = False, **more: Any) -> None:
        super().__init__(**more)
        self.draw, self.rate, self.hostile = draw, rate, hostile

    def _say(self, at_s: float, data: bytes, behind: Line | None = None, ends: bool = False) -> None:
        draw = self.draw
        if draw.random() < self.rate:
            kind = draw.randrange(6)
            if kind == 0:
                return
            if kind == 1:
                super()._say(at_s, data)
            elif kind == 2:
                data = data[: draw.randrange(len(data))] or b"\x00"
            elif kind == 3:
                k = draw.randrange(len(data))
                data = data[:k] + bytes((data[k] ^ 1 << draw.randrange(8),)) + data[k + 1 :]
            elif kind == 4:
                data = bytes(draw.randrange(256) for _ in range(draw.randrange(1, 40))) + data
            else:
                at_s += draw.random() * 4
        super()._say(at_s, data, behind, ends)

    def _serve(self, apdu: bytes, at_s: float) -> bytes:
        answer = super()._serve(apdu, at_s)
        if not self.hostile or self.draw.random() < 0.7:
            return answer
        kind = self.draw.randrange(4)
        if kind == 0:
            return bytes(self.draw.randrange(256) for _ in range(self.draw.randrange(1, 300)))
        if kind == 1:
            return answer[: self.draw.randrange(1, len(answer) + 1)]
        if kind == 2:
            k = self.draw.randrange(len(answer))
            return answer[:k] + bytes((self.draw.randrange(256),)) + answer[k + 1 :]
        return answer + bytes(self.draw.randrange(700))
