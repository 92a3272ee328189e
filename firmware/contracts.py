"""What the parts of the firmware expect of each other, for the type checker alone: no device has this file.

A module that needs a name of these imports it where only the checker looks, which costs nothing on the device:

    TYPE_CHECKING = const(0)
    if TYPE_CHECKING:
        from firmware.contracts import ByteInterceptor
"""

from collections.abc import Callable
from typing import Any, Protocol


class OnTelegram(Protocol):
    """Called without arguments for each telegram in a listener's hand; may raise MemoryError."""

    def __call__(self) -> object: ...


class SerialPort(Protocol):
    """What a head wants of machine.UART."""

    @property
    def readinto(self) -> "Callable[[memoryview], int | None]": ...
    def init(self, *_: Any, **settings: Any) -> object: ...
    def any(self) -> int: ...
    def write(self, data: bytes, /) -> object: ...
    def txdone(self) -> bool: ...


class ByteInterceptor(Protocol):
    """Called with data[0:n] as received; returns how many of them are left for the reader: n, or 0 to keep them."""

    def __call__(self, data: bytearray, n: int) -> int: ...


class LightObserver(Protocol):
    """Shown the light and data[start:end], what has come since the last look; True ends the watching."""

    def look(self, ticks_ms: int, light: bool | None, data: bytearray, start: int, end: int) -> bool: ...


class AnswerComplete(Protocol):
    """Says how many of the n bytes in `buffer` an answer takes, 0 while there is more to come."""

    def __call__(self, buffer: bytearray, n: int) -> int: ...


class Tool(Protocol):
    """Helps the owner for a while: alignment mode, a capture. run() ends by itself, or soon after `stopped` is set, and
    then sets `done`.
    """

    @property
    def NAME(self) -> str: ...

    stopped: bool
    done: bool

    async def run(self) -> None: ...
