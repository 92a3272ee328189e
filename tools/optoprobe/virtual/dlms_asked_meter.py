"""A DLMS meter that is asked (a Source of `source`): HDLC at 9600 baud, or mode E of IEC 62056-21 before it.

Sources: IEC 62056-46 (station of normal response mode), IEC 62056-21:2002, annex E. It encodes by dlms_encoder and
takes requests apart by itself, not by the client's code. What it answers: dlms_asked_services.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from metering.line import Line

from . import dlms_encoder as enc
from .dlms_asked_security import Demands
from .dlms_asked_services import PUBLIC, AskedServices
from .dlms_asked_wrapper import Unwrapping
from .iec62056_21_talk import bcc
from .source import Transmission

QUIRKS = {
    "segments": "answers in HDLC frames of 32 bytes, and takes no longer ones",
    "blocks": "answers of more than 8 bytes come in blocks",
    "slow": "1.8 s to each answer",
    "drop": "each fourth answer is lost",
    "double": "each third answer is sent twice",
    "bad_fcs": "each fourth answer has a wrong check",
    "deaf": "each fourth frame is not heard",
    "no_confirm": "mode E begins without the meter's confirmation",
    "read_out": "behind the acknowledge of mode E it reads out by itself",
    "nameless": "it has no number, but a logical device name",
    "floats": "its voltages are binary fractions of 32 bits",
    "odd": "its voltages are bit strings",
}
_RATE = "5"  # 9600
_SIGN_ON = Line(300, 7, "E")
_DIRECT = Line(9600)
_REACTION_S = 0.03
_SLOW_S = 1.8
_IDLE_S = 30.0  # inactivity that ends a link, or a sign-on
_SHORT, _USUAL = 32, 128
_SNRM, _UA, _DISC, _DM, _FRMR = 0x93, 0x73, 0x53, 0x1F, 0x97


class AskedDlmsMeter(AskedServices):
    """`password` "": none is wanted, `demands`: more than one is; `sign_on`: by mode E; `wrapped`: over TCP. `line` is
    what it sends and hears with now.

    `events` tells in words what has happened, `wrong_passwords` counts them, `served` holds every service tag heard
    (deciphered), `read` the Rows of the session, `requests` counts GETs, `is_linked` and `is_associated` tell its
    state.
    """

    def __init__(
        self,
        *,
        sign_on: bool = False,
        password: str = "",
        seed: int = 1,
        quirks: Iterable[str] = (),
        server: bytes = b"\x03",
        client: int | None = None,
        short_names: bool = False,
        wrapped: bool = False,
        demands: Demands | None = None,
    ) -> None:
        super().__init__(quirks, password, seed, client, short_names, demands)
        unknown = self.quirks.difference(QUIRKS)
        if unknown:
            raise ValueError(f"no such quirk: {', '.join(sorted(unknown))}; there are {', '.join(QUIRKS)}")
        self.server = server
        clients = (self.client[0] >> 1, *((PUBLIC[0] >> 1,) if demands else ()))
        self.wrapper = Unwrapping(server[-1] >> 1, *clients) if wrapped else None
        self.has_sign_on = sign_on
        self.line = self._base = _SIGN_ON if sign_on else _DIRECT
        self.sessions = 0
        self.is_linked = False
        self._queue: deque[tuple[float, bytes, Line | None, bool]] = deque()
        self._line_behind: Line | None = None
        self._heard = bytearray()
        self._heard_s = 0.0
        self._stage = 0  # of the sign-on: 0 waits for it, 1 for the acknowledge, 2 HDLC
        self._n_answers = self._n_frames = 0
        self._reset()

    @property
    def is_being_read(self) -> bool:
        return self.is_linked

    def _reset(self) -> None:
        self.is_linked = self.is_associated = False
        self._sent = self._due = 0
        self._most = _SHORT if "segments" in self.quirks else _USUAL
        self._request = bytearray()
        self._segments: list[bytes] = []
        self._unacknowledged: tuple[bytes, bool] | None = None
        self._blocks = []
        self.read = []

    # --- what the line's driver asks ---

    def wake_s(self) -> float | None:
        return self._queue[0][0] if self._queue else None

    def poll(self, now_s: float, free_s: float) -> Transmission | None:
        if self._line_behind is not None:
            self.line, self._line_behind = self._line_behind, None
        if not self._queue or self._queue[0][0] > now_s:
            return None
        at_s, data, behind, ends = self._queue.popleft()
        self._line_behind = behind
        rows = list(self.read) if ends else None
        return Transmission(max(at_s, free_s), data, rows, True, self.line, ends and bool(rows))

    def receive(self, value: int, at_s: float) -> None:
        if at_s - self._heard_s > _IDLE_S and (self.is_linked or self._stage):
            self.events.append("left alone: the link is over")
            self._fall_idle()
        if at_s - self._heard_s > 1.0 and not self._queue:
            self._heard.clear()
        self._heard_s = at_s
        if self.wrapper is not None:
            for apdu in self.wrapper.heard(value):
                self._hear_wrapped(apdu, at_s)
            return
        if self.has_sign_on and self._stage < 2:
            self._hear_sign_on(value & 0x7F, at_s)
            return
        self._heard.append(value)
        self._hear_frames(at_s)

    def _fall_idle(self) -> None:
        self._reset()
        self._stage = 0
        self._heard.clear()
        self.line = self._base

    def _say(self, at_s: float, data: bytes, behind: Line | None = None, ends: bool = False) -> None:
        at_s += _SLOW_S if "slow" in self.quirks else _REACTION_S
        self._queue.append((at_s, data, behind, ends))

    # --- the sign-on ---

    def _hear_sign_on(self, value: int, at_s: float) -> None:
        self._heard.append(value)
        if value != 0x0A:
            return
        text, self._heard = bytes(self._heard), bytearray()
        if self._stage == 0:
            at = text.rfind(b"/?")
            if at >= 0 and text[at:] in (b"/?!\r\n", b"/?" + self.number.encode() + b"!\r\n"):
                self._say(at_s, f"/OPT{_RATE}\\2ASKED\r\n".encode())
                self._stage = 1
        elif text[-6:] == f"\x062{_RATE}2\r\n".encode():
            self._stage = 2
            rate = Line(9600, 7, "E")
            self.line = rate
            if "read_out" in self.quirks:
                block = f"0.0.0({self.number})\r\n1.8.0(000123.4*kWh)\r\n!\r\n\x03".encode()
                self._say(at_s, b"\x02" + block + bcc(block), _SIGN_ON)
                self._stage = 0
            elif "no_confirm" in self.quirks:
                self.line = _DIRECT
            else:
                self._say(at_s + 0.1, text[-6:], _DIRECT)
        else:
            self._stage = 0

    def _hear_wrapped(self, apdu: bytes, at_s: float) -> None:
        assert self.wrapper is not None
        self._partner = enc.hdlc_address(self.wrapper.partner)
        is_release = apdu[0] == 0x62
        if is_release and self.is_linked:
            self._note_leaving()
        self.is_linked = not is_release
        self._say(at_s, self.wrapper.wrapped(self._serve(apdu, at_s)), None, is_release)

    def _note_leaving(self) -> None:
        self.sessions += 1
        self.events.append(f"left properly, {len(self.read)} values read")

    # --- HDLC ---

    def _hear_frames(self, at_s: float) -> None:
        heard = self._heard
        while True:
            at = heard.find(b"\x7e")
            if at < 0:
                heard.clear()
                return
            del heard[:at]
            if len(heard) < 3:
                return
            length = (heard[1] & 7) << 8 | heard[2]
            if heard[1] & 0xF0 != 0xA0 or not 7 <= length <= 400:
                del heard[:1]
                continue
            if len(heard) < length + 2:
                return
            frame = bytes(heard[1 : length + 1])
            if heard[length + 1] != 0x7E or enc.crc_bytes(frame[:-2]) != frame[-2:]:
                del heard[:1]
                continue
            del heard[: length + 2]
            self._n_frames += 1
            if "deaf" in self.quirks and self._n_frames % 4 == 3:
                continue
            self._hear_frame(frame, at_s)

    def _hear_frame(self, frame: bytes, at_s: float) -> None:
        at = 2 + len(self.server)
        client, control = frame[at : at + 1], frame[at + 1]
        if frame[2:at] != self.server or client != self.client and not (self.security and client == PUBLIC):
            return
        if client != self._partner and self.is_linked and control != _SNRM:
            return
        self._partner = client
        information = frame[at + 4 : -2]
        if control == _SNRM:
            self._reset()
            self.is_linked = True
            sizes = bytes((0x81, 0x80, 0x12, 5, 1, self._most, 6, 1, self._most))
            self._answer(at_s, _UA, sizes + b"\x07\x04\x00\x00\x00\x01\x08\x04\x00\x00\x00\x01")
        elif control == _DISC:
            if self.is_linked:
                self._note_leaving()
            self._answer(at_s, _UA if self.is_linked else _DM, b"", ends=True)
            self.is_linked = self.is_associated = False
            self._stage = 0
        elif not self.is_linked:
            self._answer(at_s, _DM)
        elif not control & 1:
            self._hear_information(control, information, bool(frame[0] & 8), at_s)
        elif control & 0xF == 1:
            self._go_on(control >> 5, at_s)
        else:
            self._answer(at_s, _FRMR)

    def _hear_information(self, control: int, information: bytes, more: bool, at_s: float) -> None:
        if control >> 1 & 7 != self._due:  # heard before: what was answered is said when it is asked for
            self._answer(at_s, self._due << 5 | 0x11)
            return
        if len(information) > self._most:
            self._answer(at_s, _FRMR)
            return
        self._due = (self._due + 1) & 7
        self._acknowledge(control >> 5)
        self._request += information
        if more:
            self._answer(at_s, self._due << 5 | 0x11)
            return
        request, self._request = bytes(self._request), bytearray()
        if request[:3] != b"\xe6\xe6\x00":
            self._answer(at_s, _FRMR)
            return
        answer = enc.LLC_PUSH + self._serve(request[3:], at_s)
        self._segments = [answer[k : k + self._most] for k in range(0, len(answer), self._most)]
        self._next_segment(at_s)

    def _acknowledge(self, received: int) -> None:
        if self._unacknowledged is not None and received == (self._sent + 1) & 7:
            self._sent = received
            self._unacknowledged = None

    def _go_on(self, received: int, at_s: float) -> None:
        """RR: the segment `received` is wanted."""
        self._acknowledge(received)
        if self._unacknowledged is not None:
            self._information(at_s, *self._unacknowledged)
        elif self._segments:
            self._next_segment(at_s)
        else:
            self._answer(at_s, self._due << 5 | 0x11)

    def _next_segment(self, at_s: float) -> None:
        self._unacknowledged = self._segments.pop(0), bool(self._segments)
        self._information(at_s, *self._unacknowledged)

    def _information(self, at_s: float, data: bytes, more: bool) -> None:
        self._answer(at_s, self._due << 5 | 0x10 | self._sent << 1, data, more)

    def _answer(self, at_s: float, control: int, data: bytes = b"", more: bool = False, ends: bool = False) -> None:
        frame = enc.hdlc_frame(data, destination=self._partner, source=self.server, control=control, more=more)
        said = b"\x7e" + frame + b"\x7e"
        self._n_answers += 1
        n = self._n_answers
        behind = self._base if ends and self.has_sign_on else None
        if "drop" in self.quirks and n % 4 == 2:
            self.line = behind or self.line
            return
        if "bad_fcs" in self.quirks and n % 4 == 2:
            said = said[:-2] + bytes((said[-2] ^ 1, 0x7E))
        self._say(at_s, said, behind, ends)
        if "double" in self.quirks and n % 3 == 2 and not ends:
            self._queue.append((at_s + 2 * _REACTION_S, said, None, False))
