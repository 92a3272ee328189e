"""Why the port of a board cannot be opened at all, with the cure; looked at before anybody talks to it."""

from __future__ import annotations

import errno
import os


def port_fault(port: str) -> str:
    """One sentence without its full stop, "" where nothing is known to be wrong."""
    if "://" in port or os.name == "nt":
        return ""
    if not os.path.exists(port):
        cure = "plug the board in with a cable that carries data, and name the port that appears"
        return f"there is no port {port}: {cure}"
    try:
        os.close(os.open(port, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY))
    except OSError as error:
        if error.errno == errno.EACCES:
            cure = "run `sudo usermod -aG dialout $USER`, log out and in again"
            return f"you may not use {port}: {cure} (the group is uucp on Arch)"
        return f"{port} cannot be opened ({error.strerror}): close other programs that use it"
    return ""
