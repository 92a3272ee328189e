"""The way into HDLC by IEC 62056-21's sign-on (IEC 62056-46, annex; IEC 62056-21:2002, 6.4.5 and annex E).

    /?<address>! CR LF   -->        300 baud 7E1
                         <--        /XXXZ\\2<identification> CR LF
    ACK 2 Z 2 CR LF      -->        both change to rate Z when its last bit has left
                         <--        the same six bytes at the new rate, still 7E1; many send nothing
    HDLC                 <->        8N1

Behind the acknowledge the line is 8N1 at once: 7E1 is the same light, so nothing has to change, and no byte is lost,
between the meter's last answer in the one and its first in the other.
"""

from metering.compat import const
from metering.line import EXPECT, SEND, SWITCH, WAIT, Line
from metering.listener import NOTHING, TELEGRAM

_SIGN_ON = Line(300, 7, "E")
_ANSWER_MS = const(4000)  # t_r is 1,500, the first character takes 33, and an echo may hold it back
_GAP_MS = const(1700)
_REACTION_MS = const(230)  # or 20 where the maker's third letter is small
_QUICK_REACTION_MS = const(40)
_CONFIRMATION_MS = const(1500)
_CONFIRMATION = const(6)
_ACK = const(0x06)
_STX = const(0x02)
_MOST_PIECES = const(64)  # of 256 bytes
_BLOCK_GAP_MS = const(1700)  # t_a


def _line_end(buffer, n):
    """For EXPECT: where the identification ends, 0 for none yet."""
    begun = False
    for i in range(n):
        byte = buffer[i] & 0x7F
        begun = begun or byte == 0x2F
        if begun and byte == 0x0A:
            return i + 1
    return 0


def _confirmation_end(buffer, n):
    """For EXPECT: where the confirmation ends, or an STX is, 0 for neither yet."""
    for i in range(n):
        byte = buffer[i] & 0x7F
        if byte == _STX:
            return i + 1
        if byte == _ACK:
            return i + _CONFIRMATION if n - i >= _CONFIRMATION else 0
    return 0


class SignOn:
    """`outcome`: what has failed, a reason of metering.dlms.client, "" when the way is free. `read_out`: b"", or the
    begin of a data block that comes in place of HDLC, parity bits in it.
    """

    def __init__(self, address):
        self._request = b"/?" + address.encode() + b"!\r\n"
        self.outcome = ""
        self.read_out = b""

    def run(self):
        """Generator of line actions, up to HDLC at the meter's rate; returns whether that may begin."""
        yield SWITCH, _SIGN_ON
        yield SEND, self._request
        heard = yield EXPECT, _line_end, _ANSWER_MS, _GAP_MS
        text = bytes([byte & 0x7F for byte in heard])
        at = text.rfind(b"/")
        if at < 0 or text[-1:] != b"\n" or len(text) - at < 7:
            self.outcome = "no identification" if heard else "no answer"
            return False
        identification = heard[at:]
        rate = text[at + 4]
        if not 0x30 <= rate <= 0x36:
            self.outcome = "no mode E"
            return False
        yield WAIT, _QUICK_REACTION_MS if text[at + 3] & 0x20 else _REACTION_MS
        yield SEND, b"\x062" + bytes((rate,)) + b"2\r\n"
        yield SWITCH, Line(9600 * 2 if rate == 0x36 else 300 << rate - 0x30)
        heard = yield EXPECT, _confirmation_end, _CONFIRMATION_MS, _GAP_MS
        if heard and heard[-1] & 0x7F == _STX:
            self.read_out = identification + heard[-1:]
            return False
        self.outcome = ""
        return True


def take_block(listener, begin):
    """Generator of line actions: what comes in place of HDLC is a data block (NORAX 3), of which `begin` has come.
    Has it come whole, and are its values noted in `listener`?"""
    from metering.protocols import load

    block = load("iec62056-21")()
    block.needs_check = True
    heard = begin
    for _ in range(_MOST_PIECES):
        at = 0
        while at < len(heard):
            at += block.feed(heard, at, len(heard))
            event = block.next_event()
            if event == TELEGRAM:
                listener.begin(block.meter_id().encode(), block.sealed)
                for reading in block.readings():
                    listener.note(reading)
                return True
            if event != NOTHING:
                return False
        heard = yield EXPECT, None, _BLOCK_GAP_MS, _BLOCK_GAP_MS
        if not heard:
            break
    return False
