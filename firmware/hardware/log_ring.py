"""The last causes in words, each once with its count, in RTC memory: they survive all but a loss of power.

    0..645    firmware.hardware.restarts and firmware.hardware.rtc_record
    646..     up to 40 lines, the latest last, as many as 2,048 bytes hold (some 20 of the longest)

A line: its text's length (1 byte), how often it came (1, up to 255), lower half of the CRC-32 of its text without the
figures (2), restarts since power-on when it came last (1), the uptime then in minutes (2, big-endian), the text (UTF-8,
up to 72 bytes). A cause that comes again is moved to the end. What is no such line ends the list. Loaded for a moment.
"""

import binascii
import json

import machine
from micropython import const

_BEGIN = const(646)
_END = const(2048)  # of the ESP32's RTC memory for users
_RUN = const(4)  # where firmware.hardware.restarts counts
_HEADER_BYTES = const(7)
_MOST_LINES = const(40)
_MOST_TEXT = const(72)
_MOST_COUNT = const(255)
_MOST_MINUTES = const(65535)
_ZERO = const(0x30)
_NINE = const(0x39)


def _cause(text):
    """16 bits that are the same for texts (bytes) that differ in their figures only."""
    letters = bytearray()
    for byte in text:
        if not _ZERO <= byte <= _NINE:
            letters.append(byte)
    return binascii.crc32(letters) & 0xFFFF


def _lines(ring):
    """Yields (begin, end) of each line in `ring` (memoryview)."""
    at = n = 0
    while at + _HEADER_BYTES < len(ring) and n < _MOST_LINES:
        end = at + _HEADER_BYTES + ring[at]
        text = ring[at + _HEADER_BYTES : end]
        if end > len(ring) or not 0 < ring[at] <= _MOST_TEXT or _cause(text) != ring[at + 2] << 8 | ring[at + 3]:
            return
        yield at, end
        at = end
        n += 1


def _run(memory):
    return memory[_RUN] if len(memory) > _RUN else 0


def kept():
    """RTC memory as it is now, for pieces()."""
    return machine.RTC().memory()


def pieces(memory):
    """Yields JSON (bytes) of what kept() was: a list of [text, how often it came, restarts since it came last, minutes
    from that start to then], the latest last, a line at a time.
    """
    ring = memoryview(memory)[_BEGIN:]
    opening = "["
    for begin, end in _lines(ring):
        text = bytes(ring[begin + _HEADER_BYTES : end])
        try:
            text = text.decode()
        except ValueError:  # cut within a character
            text = "".join([chr(byte) if byte < 0x7F else "?" for byte in text])
        line = text, ring[begin + 1], (_run(memory) - ring[begin + 4]) & 0xFF, ring[begin + 5] << 8 | ring[begin + 6]
        yield (opening + json.dumps(list(line))).encode()
        opening = ",\n"
    yield b"[]" if opening == "[" else b"]"


def note(sentence, uptime_s):
    """`sentence` has come to be so, or is so again."""
    rtc = machine.RTC()
    memory = rtc.memory()
    ring = memoryview(memory)[_BEGIN:]
    text = sentence.encode()[:_MOST_TEXT]
    cause = _cause(text)
    count = 1
    kept = []
    size = _HEADER_BYTES + len(text)
    for begin, end in _lines(ring):
        if ring[begin + 2] << 8 | ring[begin + 3] == cause:
            count = min(ring[begin + 1] + 1, _MOST_COUNT)
        else:
            kept.append((begin, end))
            size += end - begin
    while len(kept) >= _MOST_LINES or _BEGIN + size > _END:
        begin, end = kept.pop(0)
        size -= end - begin
    minutes = min(uptime_s // 60, _MOST_MINUTES)
    whole = bytearray(_BEGIN + size)
    at = min(_BEGIN, len(memory))
    whole[:at] = memoryview(memory)[:at]
    at = _BEGIN
    for begin, end in kept:
        whole[at : at + end - begin] = ring[begin:end]
        at += end - begin
    header = len(text), count, cause >> 8, cause & 0xFF, _run(memory), minutes >> 8, minutes & 0xFF
    whole[at:] = bytes(header) + text
    rtc.memory(whole)
