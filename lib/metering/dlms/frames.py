"""What carries an APDU on a customer port, found in a stream of any bytes.

    7E .. 7E           HDLC frame; segments have no numbers                      metering.dlms.hdlc
    68 L L 68 ..       M-Bus frame; segments by number                           metering.mbus.mbus_frame
    00 01 ..           wrapper (IEC 62056-47): ports and length; over TCP and UDP
    E6 E7 00, 0F, DB   an APDU without a frame
    / .. ! CRC         a P1 header, then an APDU ciphered without a title           metering.dlms.untitled_p1

What has no frame has no check: it begins a stream, follows another one, or stands behind a silence, and there is no
silence inside it.
"""

from metering.compat import const
from metering.dlms.axdr import Malformed, ber_length
from metering.dlms.hdlc import FCS, NO_FLAG, NONE, SHORT, WRONG_HEADER
from metering.dlms.hdlc import Frame as HdlcFrame
from metering.dlms.reassembly import MAX_APDU
from metering.mbus.mbus_frame import Frame as MbusFrame

REFUSED = const(-5)  # an answer of find() beside hdlc's SHORT and NONE: `reason` and `detail` say why

_MAX_FRAME = const(2050)  # bytes from flag to flag
_LEAST_FRAME = const(9)
_WRAPPER_HEAD = const(8)
_LLC = const(3)
_NOTIFICATION = const(0x0F)
_GLO = const(0xDB)
_DED = const(0xDC)
_BLOCK = const(0xE0)
_BLOCK_HEAD = const(6)  # before the length
_GET_REQUEST = const(0xC0)
_DATE_TIME_AT = const(5)  # of a DataNotification: its length, or its tag
_TITLE = const(8)
_SLASH = const(0x2F)
_POSITION_MASK = const(0x3FFFFFFF)

SUM = const(8)  # bits of a frame's own check, beside FCS
NO_CHECK = const(0)
_NO_HDLC = ("HDLC header's check", "HDLC: no closing flag at the announced length", "HDLC FCS mismatch")
_NO_MBUS = ("", "M-Bus frame: no stop byte at the announced length", "M-Bus checksum mismatch")


class FrameFinder:
    """Of the frame found last: `info_at`, `info_end` what it carries in the buffer; `more`: another segment follows;
    `segment` its number, -1 for none; `check_bits` of its own check: FCS, SUM or NO_CHECK; `is_untitled`: it begins
    with a P1 header.

    Allocates nothing on MicroPython while it looks.
    """

    def __init__(self, cosem):
        """`cosem` knows where a DataNotification ends that stands without a frame."""
        self._hdlc = HdlcFrame()
        self._mbus = MbusFrame()
        self._cosem = cosem
        self._bare_from = 0  # where in the stream an APDU without a frame may begin: at the start, behind another,
        self._quiet_at = 0  # or behind a silence
        self.info_at = self.info_end = 0
        self.more = False
        self.is_untitled = False
        self.segment = -1
        self.check_bits = FCS
        self.reason = ""
        self.detail = ""

    def note_silence(self, position, held):
        """Nothing has come for a while; `held` bytes from stream position `position` on are not judged yet."""
        if self._quiet_at == position:
            self._bare_from = position
        self._quiet_at = (position + held) & _POSITION_MASK

    def noise_before_start(self, buf, at, n, position):
        """How many bytes of buf[at:n] are none that may begin a frame."""
        i = 0
        bare = (self._bare_from - position) & _POSITION_MASK
        quiet = (self._quiet_at - position) & _POSITION_MASK
        while at + i < n:
            byte = buf[at + i]
            if byte == 0x7E or byte == 0x68:
                break
            if (i == bare or i == quiet) and byte in b"\x00\xe6\x0f\xdb\xdc\xe0\xc0/":
                break
            i += 1
        return i

    def find(self, buf, view, at, n, position, ended, full):
        """Judge what begins at buf[at], stream position `position`, of n bytes held.

        Returns how many bytes the frame takes; SHORT: more are needed; NONE: its first byte is noise; REFUSED.
        `ended`: no more bytes will come. `full`: none has room.
        """
        self.segment = -1
        self.more = self.is_untitled = False
        over = ended or full
        first = buf[at]
        if first == 0x7E:
            frame, mistakes = self._hdlc, _NO_HDLC
            self.check_bits = FCS
            used = frame.find(buf, view, at, n)
        elif first == 0x68:
            frame, mistakes = self._mbus, _NO_MBUS
            self.check_bits = SUM
            used = frame.find(buf, at, n, ended)
        else:
            self.check_bits = NO_CHECK
            if first == 0:
                return self._wrapper(buf, at, n, position, over)
            if first == _SLASH:
                return self._untitled_p1(buf, view, at, n, position, over)
            return self._bare(buf, at, n, position, ended, over)
        if used == SHORT:
            if ended and n - at < _LEAST_FRAME:  # the flag behind the last frame
                return NONE
            if n - at >= _MAX_FRAME or over:
                return self.refuse("incomplete", "frame truncated")
            return SHORT
        if used == NONE:
            return NONE
        if used < 0:
            return self.refuse("structure" if used == NO_FLAG else "checksum", mistakes[WRONG_HEADER - used])
        self.info_at, self.info_end = frame.info_at, frame.info_end
        self.more, self.segment = frame.more, frame.segment
        return used

    def refuse(self, reason, detail):
        self.reason = reason
        self.detail = detail
        return REFUSED

    def _was_quiet(self, position, n, held):
        """Was there a silence inside the next n bytes? What has no frame has no other sign of a gap."""
        return 0 < (self._quiet_at - position) & _POSITION_MASK < min(n, held + 1)

    def _short(self, position, n, ended):
        return NONE if ended or self._was_quiet(position, MAX_APDU, n) else SHORT

    def _wrapper(self, buf, at, n, position, over):
        held = n - at
        if held < _WRAPPER_HEAD + 1:
            return self._short(position, held, over)
        length = buf[at + 6] << 8 | buf[at + 7]
        if buf[at + 1] != 1 or buf[at + 8] not in b"\x0f\xdb\xdc\xe0\xe6" or not 0 < length <= MAX_APDU:
            return NONE
        used = _WRAPPER_HEAD + length
        if self._was_quiet(position, used, held) or held < used and over:
            return self.refuse("incomplete", "wrapper truncated")
        if held < used:
            return SHORT
        return self._found(at + _WRAPPER_HEAD, at + used, used, position)

    def _found(self, info_at, info_end, used, position):
        self._bare_from = (position + used) & _POSITION_MASK
        self.info_at, self.info_end = info_at, info_end
        return used

    def _untitled_p1(self, buf, view, at, n, position, over):
        from metering.dlms import untitled_p1

        used = untitled_p1.find(self, buf, view, at, n, over)
        if used <= SHORT and used != REFUSED:
            return self._short(position, n - at, over) if used == SHORT else NONE
        if used > 0:
            self.is_untitled = True
            self._found(at, self.info_end, used, position + 2)  # CR LF
        return used

    def _bare(self, buf, at, n, position, ended, over):
        """An APDU with its LLC or without."""
        held = n - at
        apdu = at
        if buf[at] == 0xE6:
            if held < _LLC + 1:
                return self._short(position, held, ended)
            if buf[at + 1] not in b"\xe6\xe7" or buf[at + 2] != 0 or buf[at + 3] not in b"\x0f\xdb\xdc\xe0":
                return NONE
            apdu += _LLC
        tag = buf[apdu]
        if tag == _GET_REQUEST:
            return self.refuse("no push", "not a DataNotification (0xC0)")
        if n - apdu > _DATE_TIME_AT:  # what cannot be one is noise
            first, length = buf[apdu + 1], buf[apdu + _DATE_TIME_AT]
            if tag == _NOTIFICATION and length not in b"\x00\x09\x0c" or tag in (_GLO, _DED) and first != _TITLE:
                return NONE
        end = self._apdu_end(buf, apdu, n)
        if self._was_quiet(position, held + 1 if end is None else end - at, held):
            return self.refuse("incomplete", "a silence in an APDU without a frame")
        if end is None:
            if held > MAX_APDU or over:
                return self.refuse("A-XDR" if tag == _NOTIFICATION else "incomplete", "APDU truncated")
            return SHORT
        return self._found(apdu, end, end - at, position)

    def _apdu_end(self, buf, at, n):
        """Where the APDU at `at` ends, None where not all of it is there yet."""
        try:
            if buf[at] == _NOTIFICATION:
                return self._cosem.end_of_notification(buf, at, n)
            length, end = ber_length(buf, at + (_BLOCK_HEAD if buf[at] == _BLOCK else 2 + _TITLE), n)
            end += length
        except Malformed:
            return None
        return end if end <= n else None


def is_llc(buf, at, end):
    """Does an LLC with another APDU behind it stand at buf[at]?"""
    return (
        end - at > 3
        and buf[at] == 0xE6
        and buf[at + 1] in b"\xe6\xe7"
        and buf[at + 2] == 0
        and buf[at + 3] in b"\x0f\xdb\xdc"
    )
