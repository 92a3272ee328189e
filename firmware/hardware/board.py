"""The board: from its JSON description to a head and an LED. The only place that knows pins.

Runs once; what load() returns needs none of this code, so that it can be dropped again.
"""

from machine import Pin, Signal
from micropython import const

from firmware.hardware.head import Head
from firmware.store import read_json

_PULLS = {"up": Pin.PULL_UP, "down": Pin.PULL_DOWN, "none": None}
_LEAST_BUFFER = const(1024)
_MOST_BUFFER = const(32768)  # the driver takes 16 bits; 32 KiB is 34 s at 9600 baud
_MOST_PIN = const(48)
_MAX_FILE_BYTES = const(4096)


class BoardError(Exception):
    """The board file cannot be used; the text is one sentence with the cure."""


def _pin(data, key, needed):
    number = data.get(key)
    if number is None and not needed:
        return None
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= _MOST_PIN:
        raise BoardError("board: %s must be a pin number from 0 to %d" % (key, _MOST_PIN))
    return number


def button(path):
    """The Pin of the board's button, low while it is held; None where the file names none that this chip has."""
    try:
        number = _pin(read_json(path, _MAX_FILE_BYTES), "button", False)
    except (OSError, ValueError, MemoryError, AttributeError, BoardError):
        return None
    if number is None:
        return None
    for pull in (Pin.PULL_UP, None):  # a pin that is an input only has no pull
        try:
            return Pin(number, Pin.IN, pull)  # type: ignore[arg-type] - None is what Pin takes for none
        except (ValueError, OSError):
            pass
    return None


def load(path):
    """(name, Head, machine.Signal of the LED or None) as the JSON file `path` describes them. Raises BoardError.

    Touches pins only once the whole file is understood.
    """
    try:
        data = read_json(path, _MAX_FILE_BYTES)
    except OSError:
        raise BoardError("board: there is no %s: copy one with optoprobe deploy --board NAME" % path)
    except (ValueError, MemoryError) as error:
        raise BoardError("board: %s is %s: copy it again with optoprobe deploy --board NAME" % (path, error))
    if not isinstance(data, dict) or not isinstance(data.get("uart"), dict):
        raise BoardError("board: %s describes no uart: copy one with optoprobe deploy --board NAME" % path)
    uart = data["uart"]
    number = uart.get("id")
    size = uart.get("buffer_bytes", 16384)
    pull = uart.get("rx_pull", "none")
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 2:
        raise BoardError("board: uart.id must be 0, 1 or 2")
    if not isinstance(size, int) or not _LEAST_BUFFER <= size <= _MOST_BUFFER:
        raise BoardError("board: uart.buffer_bytes must be a number from %d to %d" % (_LEAST_BUFFER, _MOST_BUFFER))
    if not isinstance(pull, str) or pull not in _PULLS:
        raise BoardError("board: uart.rx_pull must be up, down or none")
    for key in ("invert_rx", "invert_tx"):
        if not isinstance(uart.get(key, False), bool):
            raise BoardError("board: uart.%s must be true or false" % key)
    if not isinstance(data.get("led", {}), dict):
        raise BoardError("board: led must be an object with pin and active_low")
    rx = _pin(uart, "rx", True)
    tx = _pin(uart, "tx", True)  # left out, the driver takes its own, on some chips the flash's
    direction = _pin(uart, "direction", False)
    led = data.get("led", {})
    led_pin = _pin(led, "pin", False)
    try:
        # Before the UART, which from MicroPython 1.27 on leaves a pin as a reset does: on a C3 4 to 7 are JTAG's.
        rx_pin = Pin(rx, Pin.IN, _PULLS[pull])  # pyrefly: ignore[bad-argument-type] - None is what Pin takes for none
        parts = number, rx, tx, bool(uart.get("invert_rx")), bool(uart.get("invert_tx")), size, rx_pin
        if direction is None:
            head = Head(*parts)
        else:
            from firmware.hardware.transceiver import TransceiverHead

            head = TransceiverHead(Pin(direction, Pin.OUT), *parts)
        signal = None if led_pin is None else Signal(Pin(led_pin, Pin.OUT), invert=bool(led.get("active_low")))
    except (ValueError, OSError) as error:
        raise BoardError("board: this chip has not got what %s names (%s): choose another board" % (path, error))
    return str(data.get("name", "unnamed board")), head, signal
