"""Parts of one APDU, segments or blocks, put together: does this part continue what is gathered?

    gathered               comes                 last   answer
    nothing                a start               no     GATHER
    nothing                a start               yes    COMPLETE
    nothing                what starts no APDU          NO_START, refused
    nothing                a later part                 NO_START, refused
    parts                  the next one          no     GATHER
    parts                  the next one          yes    COMPLETE
    parts                  a start                      NO_LAST: the gathered are lost, the start is offered again
    parts with numbers     another number               OUT_OF_ORDER: both are lost
    parts without numbers  one with a number            OUT_OF_ORDER: both are lost
    anything               more than MAX_APDU in all    TOO_LONG: both are lost

M-Bus segments have numbers from 0 on, blocks of a general block transfer from 1 on, HDLC segments none.
"""

from metering.compat import const

MAX_APDU = const(1536)  # the longest met has 560 bytes
UNNUMBERED = const(-1)

GATHER = const(0)
COMPLETE = const(1)
NO_START = const(2)
NO_LAST = const(3)
OUT_OF_ORDER = const(4)
TOO_LONG = const(5)


class Reassembly:
    """Knows which part is due; the bytes are its caller's."""

    def __init__(self):
        self._is_open = False  # another part is due
        self._due = UNNUMBERED  # its number

    def forget(self):
        """What was gathered is lost."""
        self._is_open = False
        self._due = UNNUMBERED

    def needs_no_gap(self):
        """Are segments without numbers gathered? Bytes between two of them may have been one."""
        return self._is_open and self._due == UNNUMBERED

    def offer(self, held, n, begins, is_apdu, number, last):
        """A part of `n` bytes beside `held` gathered ones: one of the answers above.

        `begins`: it says that it is a first part. `is_apdu`: it looks like the beginning of one. `number`: its own, or
        UNNUMBERED. `last`: no part follows it.
        """
        if held and (begins or number != self._due):
            self.forget()
            return NO_LAST if begins else OUT_OF_ORDER
        if not held and not (begins and is_apdu):
            self.forget()
            return NO_START
        if held + n > MAX_APDU:
            self.forget()
            return TOO_LONG
        self._is_open = not last
        self._due = number + 1 if number != UNNUMBERED and not last else UNNUMBERED
        return COMPLETE if last else GATHER
