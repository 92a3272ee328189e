"""Is a telegram that no check of 16 bits vouches for built like those before it?

Its form is everything but what a meter changes from one telegram to the next: invoke id, clock, and of each number the
lower bytes (of four bytes two, of eight three). A form is believed when it has come twice; lists of several kinds take
turns. So a lost, doubled or damaged byte in front of a number, in a code, a scaler or a length is no reading. What
remains is damage inside the lower bytes of a number: the guard alone stands behind that.

Loaded where such a telegram comes: M-Bus frames (their sum has 8 bits), wrappers and APDUs without a frame, without a
tag.
"""

from metering.checksum import X25_INIT
from metering.compat import SLICES_ARE_CHEAP, const
from metering.dlms.axdr import COMPACT, OCTETS
from metering.dlms.cosem_forms import is_date
from metering.dlms.hdlc import X25_TABLE

_MAX_FORMS = const(6)  # Swiss lists come in three kinds
# tag -> first byte that may change, and the first behind it, counted from the tag
_FREE = {
    0x05: 0x35,
    0x06: 0x35,
    0x10: 0x13,
    0x11: 0x12,
    0x12: 0x13,
    0x14: 0x69,
    0x15: 0x69,
    0x17: 0x25,
    0x18: 0x39,
    0x19: 0x3D,
}


class FormWatch:
    """Knows the forms that have come twice, and the one that has come once."""

    def __init__(self):
        self._known = []
        self._once = -1
        self._crc = self._at = 0

    def admits(self, buf, at, end, cosem, first_counts):
        """May the DataNotification buf[at:end], taken apart by `cosem`, be believed? Remembers its form.

        `first_counts`: the first one of all is believed at once.
        """
        form = self._form(buf, at, end, cosem)
        known = self._known
        if form in known:
            return True
        if form != self._once and (known or not first_counts):
            self._once = form
            return False
        if len(known) == _MAX_FORMS:
            known.pop(0)
        known.append(form)
        self._once = -1
        return True

    def _form(self, buf, at, end, cosem):
        """Length and CRC of what does not change. Allocates nothing per byte."""
        self._crc = X25_INIT
        self._at = at
        self._leave_out(buf, at + 1, at + 5)  # invoke id
        date = at + 6 if buf[at + 5] == OCTETS else at + 5
        if buf[date]:
            self._leave_out(buf, date + 3, date + 13)
        axdr, entries = cosem.axdr, cosem.entries
        by_element = axdr.count > 0
        for i in range(axdr.count):
            if buf[axdr.offsets[i]] == COMPACT:
                by_element = False
        for i in range(axdr.count if by_element else entries.n):
            tag_at = axdr.offsets[i] if by_element else entries.values[i] - 1
            tag = buf[tag_at] if by_element else entries.tags[i]
            free = _FREE.get(tag, 0)
            if free:
                self._leave_out(buf, tag_at + (free >> 4), tag_at + (free & 0x0F))
            elif by_element and is_date(buf, tag_at):
                self._leave_out(buf, tag_at + 4, tag_at + 14)
        self._leave_out(buf, end, end)
        return (end - at) << 16 | self._crc

    def _leave_out(self, buf, start, stop):
        crc = self._crc
        for i in range(self._at, start):
            crc = crc >> 8 ^ X25_TABLE[(crc ^ buf[i]) & 0xFF]
        self._crc = crc
        self._at = stop


if SLICES_ARE_CHEAP:  # a computer
    from metering.on_computer.form_pieces import with_pieces

    FormWatch = with_pieces(FormWatch)
