"""Small state that outlasts a loss of power: one JSON file each, written whole or not at all, and rarely."""

import json
import os

from micropython import const

import firmware

_MAX_FILE_BYTES = const(2048)
_MAX_DEPTH = const(8)  # brackets in brackets: ours have three at the most
_CHUNK_BYTES = const(64)
_QUOTE = const(0x22)
_BACKSLASH = const(0x5C)
_BLANKS = b" \t\r\n"
_OPENING = b"[{"
_CLOSING = b"]}"


def read_json(path, max_bytes):
    """The object or list in the JSON file `path`. Raises OSError where there is no such file, ValueError where it is
    not whole, no JSON, or cannot be read, MemoryError where there is no room for it now; the error's text says which,
    behind "is". Who takes the last one for a damaged file writes over a good one.

    MicroPython's json takes a text that ends too early as complete: every bracket must have been closed, the first one
    last of all.
    """
    if os.stat(path)[6] > max_bytes:
        raise ValueError("larger than %d bytes" % max_bytes)
    try:
        with open(path, "rb") as file:
            if not _is_whole(file):
                raise ValueError("not whole, or not JSON")
            file.seek(0)
            return json.load(file)
    except (OSError, ValueError):  # OSError: nobody takes what is damaged for a file that is not there
        raise ValueError("not whole, or not JSON")
    except MemoryError:
        raise MemoryError("too large for the memory")


def _is_whole(file):
    """Do the brackets of `file` (binary) pair, with nothing but blanks behind the first pair?"""
    open_brackets = bytearray()
    in_text = is_escaped = is_over = False
    while True:
        chunk = file.read(_CHUNK_BYTES)
        if not chunk:
            return is_over
        for byte in chunk:
            if in_text:
                if is_escaped:
                    is_escaped = False
                elif byte == _BACKSLASH:
                    is_escaped = True
                elif byte == _QUOTE:
                    in_text = False
            elif byte in _BLANKS:
                pass
            elif is_over:
                return False
            elif byte in _OPENING:
                if len(open_brackets) >= _MAX_DEPTH:
                    return False
                open_brackets.append(byte + 2)  # "]" and "}" are two behind "[" and "{"
            elif byte in _CLOSING:
                if not open_brackets or open_brackets[-1] != byte:
                    return False
                open_brackets = open_brackets[:-1]
                is_over = not open_brackets
            elif not open_brackets:
                return False
            elif byte == _QUOTE:
                in_text = True


def load(path, max_bytes=_MAX_FILE_BYTES):
    """What save() left in `path`, None where there is nothing of use. Raises MemoryError as read_json() does."""
    try:
        return read_json(path, max_bytes)
    except (OSError, ValueError):
        return None


def save(path, value):
    """Replace what `path` holds; after a power cut it holds the old or the new. True when it was written."""
    unwritten = firmware.unwritten
    try:
        with open(path + ".new", "w") as file:
            json.dump(value, file)
        os.rename(path + ".new", path)
        if path in unwritten:
            unwritten.remove(path)
        return True
    except OSError:
        pass
    if path not in unwritten:
        unwritten.append(path)
        print("optoprobe: %s cannot be written: free the device's memory" % path)
    try:
        os.remove(path + ".new")  # what has been written of it fills a flash that is full
    except OSError:
        pass
    return False
