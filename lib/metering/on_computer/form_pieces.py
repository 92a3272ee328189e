"""The form of a telegram on a computer: its pieces are put together, and one CRC is made. A board never loads it."""

from metering.checksum import X25_INIT, crc16
from metering.dlms.hdlc import X25_TABLE


def with_pieces(base) -> type:
    """The class `base`, metering.dlms.form_watch's, made faster."""

    class FormWatch(base):
        def _form(self, buf, at, end, cosem):
            self._pieces = bytearray()
            length_alone = base._form(self, buf, at, end, cosem) >> 16 << 16
            return length_alone | crc16(self._pieces, X25_INIT, X25_TABLE)

        def _leave_out(self, buf, start, stop):
            self._pieces += buf[self._at : start]
            self._at = stop

    return FormWatch
