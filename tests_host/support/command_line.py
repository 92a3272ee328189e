"""`optoprobe` in a process of its own, and the other end of the pty that it opens as its serial port."""

import os
import pty
import select
import subprocess
import sys
import time
import tty

PROGRAM = ("-m", "optoprobe")


class Peer:
    """The other end of a pty of our own, in raw mode; `path` is what a reader opens."""

    def __init__(self):
        self.master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.path = os.ttyname(self._slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.unplug()

    def unplug(self):
        for fd in (self.master, self._slave):
            if fd is not None:
                os.close(fd)
        self.master = self._slave = None

    def send(self, data):
        os.write(self.master, data)

    def read_until(self, ending, within_s=10.0):
        """What has come, up to `ending`; fails when that does not come."""
        got = b""
        until = time.monotonic() + within_s
        while not got.endswith(ending):
            ready, _, _ = select.select([self.master], [], [], max(0, until - time.monotonic()))
            assert ready, f"{ending!r} did not come within {within_s:g} s, only {got!r}"
            got += os.read(self.master, 1)
        return got


def start(*arguments, stderr=subprocess.PIPE, program=PROGRAM, **environment):
    """`optoprobe ...` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=stderr, text=True, env=os.environ | environment,
    )  # fmt: skip
