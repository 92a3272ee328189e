"""The frames of a conversation: HDLC of a station, the wrapper of TCP, a sign-on into mode E before them."""

from __future__ import annotations

from typing import Protocol

from metering.dlms import hdlc, hdlc_station
from metering.dlms.axdr import Malformed

from ...transcript import Burst

MAX_DATA = 65_535  # bytes of an APDU or of what its blocks bring: metering.dlms.axdr counts in 16 bits
_WRAPPER_HEAD = 8
_MOST_SIGN_ON = 40  # characters of an identification line


class Session(Protocol):
    """Who takes what the frames bring."""

    is_checked: bool  # has every frame of the association a check?

    @property
    def is_asked(self) -> bool:
        """Does a question wait for its answer?"""
        ...

    def take_apdu(self, apdu: bytes, to_meter: bool) -> None: ...
    def reject(self, reason: str, detail: str, *, at: int | None = None) -> None: ...
    def lose_question(self) -> None: ...
    def end_of_association(self) -> None: ...


class _Side:
    """What one side has sent that is not taken apart yet."""

    def __init__(self) -> None:
        self.left = b""
        self.begun = 0  # offset of its first byte
        self.gathered = b""  # segments of an APDU
        self.due = -1  # N(S) of the next segment, -1: any
        self.last = b""  # I frame

    def forget_link(self) -> None:
        self.gathered = self.last = b""
        self.due = -1


def _may_be_called(address: bytes, called: bytes) -> bool:
    """Is `called` the address of any physical device (IEC 62056-46, 6.4.2), in the logical one of `address`?"""
    half = len(called) // 2
    return len(address) == 2 * half > 0 and address[:half] == called[:half] and called[half:] in (b"\xff", b"\xfe\xff")


class Frames:
    """Takes bursts; `at` is the offset of the frame in hand, `offset` that of the burst."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.offset = self.at = 0
        self.is_wrapped = False  # then no frame tells which question it answers
        self._sides = {True: _Side(), False: _Side()}
        self._frame = hdlc.Frame()
        self._header = hdlc_station.Header()
        self._echo = b""
        self._partners: tuple[bytes, bytes] | None = None  # addresses of the client and of the meter
        self._answerer = b""  # of a meter that is called as any one, its own
        self._is_connecting = False

    def take(self, burst: Burst) -> None:
        side = self._sides[burst.to_meter]
        data = burst.data
        if burst.more and side.left:
            data = burst.more
        elif burst.damage:
            self.at = self.offset
            self._session.reject("transcript", burst.damage)
            if not burst.is_words:
                self._session.lose_question()
            return
        self._take_apart(not burst.to_meter, True)
        if not side.left:
            side.begun = self.offset
        side.left += data
        self.offset += len(data)
        self._take_apart(burst.to_meter, False)

    def finish(self) -> None:
        self._take_apart(True, True)
        self._take_apart(False, True)

    def _take_apart(self, to_meter: bool, is_over: bool) -> None:
        """Frames out of what a side has sent; `is_over`: nothing comes behind it."""
        side = self._sides[to_meter]
        data, at, noise = side.left, 0, 0
        begun = side.begun
        view = memoryview(data)
        while at < len(data):
            self.at = begun + at
            used = self._frame_at(data, view, at, to_meter, noise < 0)
            if used == hdlc.SHORT:
                if not is_over:
                    break
                if not data[at:].strip(b"\x7e"):  # flags between two frames
                    at = len(data)
                    break
                if noise >= 0:
                    self._session.reject("incomplete", "frame truncated")
                used = noise = -1
            elif used < hdlc.NONE:
                noise = -1  # what is left of it is no other fault
            if used == hdlc.NONE and noise >= 0 and data[at] != 0x7E:
                noise += 1
            elif used > 0 or data[at] == 0x7E:
                self._tell_noise(noise, begun + at)
                noise = 0 if used > 0 or noise >= 0 else -1
            at += max(used, 1)
        self._tell_noise(noise, begun + at)
        if noise and to_meter:
            self._session.lose_question()
        side.left = data[at:]
        side.begun = begun + at

    def _tell_noise(self, n: int, end: int) -> None:
        if n > 0:
            self._session.reject("structure", f"{n:,} bytes of no frame", at=end - n)

    def _frame_at(self, data: bytes, view: memoryview, at: int, to_meter: bool, is_rest: bool) -> int:
        """Bytes of the frame at `at`, which is dealt with; hdlc.SHORT; hdlc.NONE; below that it is told already.
        `is_rest`: it is what is left of a damaged frame.
        """
        first, held = data[at], len(data) - at
        if first == 0x7E:
            used = self._frame.find(data, view, at, len(data))
            if used > 0:
                self._session.is_checked = True
                self._hdlc(data[at : at + used], data[self._frame.info_at : self._frame.info_end], to_meter)
            elif used < hdlc.NONE:
                what = {hdlc.WRONG_HEADER: "header's check", hdlc.NO_FLAG: "no closing flag"}.get(used, "FCS mismatch")
                self._session.reject("structure" if used == hdlc.NO_FLAG else "checksum", "HDLC: " + what)
            return used
        if first == 0 and (self.is_wrapped or not is_rest):
            if held < _WRAPPER_HEAD:
                return hdlc.SHORT
            n = data[at + 6] << 8 | data[at + 7]
            if data[at + 1] != 1 or not n:
                return hdlc.NONE
            if held < _WRAPPER_HEAD + n:
                return hdlc.SHORT
            self.is_wrapped = True
            sender, receiver = data[at + 2 : at + 4], data[at + 4 : at + 6]
            if not self._are_partners(sender, receiver, to_meter):
                return _WRAPPER_HEAD + n
            self._session.is_checked = False
            self._session.take_apdu(data[at + _WRAPPER_HEAD : at + _WRAPPER_HEAD + n], to_meter)
            return _WRAPPER_HEAD + n
        if first & 0x7F in b"/\x06" and not is_rest:  # the sign-on into mode E, in 8 bits with its parity
            end = data.find(b"\n", at, at + _MOST_SIGN_ON) + 1
            return end - at if end else hdlc.SHORT if held < _MOST_SIGN_ON else hdlc.NONE
        return hdlc.NONE

    def _are_partners(self, sender: bytes, receiver: bytes, to_meter: bool) -> bool:
        """Is a frame between these addresses of the conversation in hand? A question to another meter ends it."""
        partners = (sender, receiver) if to_meter else (receiver, sender)
        if to_meter and partners != self._partners:
            if self._partners is not None:
                self._session.end_of_association()
                for side in self._sides.values():
                    side.forget_link()
            self._partners, self._answerer = partners, b""
        if partners == self._partners or self._partners is None:
            return True
        is_called = not (to_meter or self.is_wrapped) and receiver == self._partners[0]
        if is_called and self._answerer in (b"", sender) and _may_be_called(sender, self._partners[1]):
            self._answerer = sender  # the first that does: another one's answers are not mixed with its
            return True
        self._session.reject("unasked", "of another meter, or to another client")
        return False

    def _hdlc(self, whole: bytes, information: bytes, to_meter: bool) -> None:
        if to_meter:
            self._echo = whole
        elif whole == self._echo:  # a head that hears itself
            return
        header, side = self._header, self._sides[to_meter]
        header.take(whole, 0)
        self.is_wrapped = False
        if not self._are_partners(header.source, header.destination, to_meter):
            return
        kind = header.kind
        if kind == hdlc_station.INFORMATION:
            self._segment(side, whole, information, to_meter)
        elif to_meter and kind in (hdlc_station.SNRM, hdlc_station.DISC):
            self._is_connecting = kind == hdlc_station.SNRM
            self._session.end_of_association()
            for each in self._sides.values():
                each.forget_link()
        elif kind == hdlc_station.UA:
            try:
                hdlc_station.agreed_sizes(information, 0, len(information))
            except Malformed as error:
                self._session.reject("structure", str(error))
        elif kind == hdlc_station.DM and self._is_connecting:
            self._session.reject("refused", "the meter takes no connection (DM)")
        elif kind not in (hdlc_station.READY, hdlc_station.DM):
            self._session.reject("refused", f"HDLC frame of kind 0x{kind:02X}")

    def _segment(self, side: _Side, whole: bytes, information: bytes, to_meter: bool) -> None:
        if whole == side.last:  # sent again
            return
        side.last = whole
        if side.due not in (-1, self._header.sent):
            side.gathered = b""
            self._session.reject("order", f"HDLC segment {self._header.sent} is not the one that is due")
        side.gathered += information
        side.due = (self._header.sent + 1) % 8
        if not to_meter and self._session.is_asked and self._sides[True].due not in (-1, self._header.due):
            self._session.lose_question()  # it answers one that is not here
        if self._frame.more and len(side.gathered) <= MAX_DATA:
            return
        apdu, side.gathered = side.gathered, b""
        llc = hdlc_station.REQUEST_LLC if to_meter else hdlc_station.ANSWER_LLC
        if len(apdu) > MAX_DATA:
            self._session.reject("structure", f"more than {MAX_DATA:,} bytes in segments")
        elif apdu[:3] == llc:
            self._session.take_apdu(apdu[3:], to_meter)
        elif apdu:
            self._session.reject("structure", "no LLC, or that of the other side")
