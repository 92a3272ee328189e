"""DLMS/COSEM push: what meters send by themselves on a customer port, in the clear or encrypted.

Source: DLMS UA 1000-2 (Green Book) 9.2 (security), 9.4.4 (general block transfer), 9.5 (APDUs); IEC 62056-46 (HDLC),
EN 13757 (M-Bus), IEC 62056-47 (wrapper). Anything but a DataNotification, in the clear, ciphered or in blocks, is
refused by its tag: questions and answers of clients do not occur on these ports.

    bytes ──► a frame ──► parts of an APDU ──► ciphering ──► a DataNotification ──► readings
              frames      reassembly           security      cosem, cosem_forms     scales, layouts

    E0 control block 2 acknowledged 2 length data        a block of a general block transfer
    DB|DC title length SC counter 4 ciphertext [tag 12]  ciphered: AES-128-GCM
    0F invoke id 4 date-time body                        DataNotification; several may share a frame, each with its LLC

A frame whose check fails is looked into again from the byte behind its start. Parts are gathered at the buffer's start.
A part that does not continue them discards and counts them. A silence ends no frame: its length or its flag does. A
telegram that neither a CRC nor a tag vouches for must be built like those before it: metering.dlms.form_watch.
"""

from metering.compacting_listener import CompactingListener
from metering.compat import SLICES_ARE_CHEAP, const, copy_bytes, hex_text, signed
from metering.dlms import hdlc  # before frames, which loads it too: each level of loading takes stack
from metering.dlms.axdr import Malformed, ber_length
from metering.dlms.cosem import Cosem
from metering.dlms.frames import REFUSED, SUM, FrameFinder, is_llc
from metering.dlms.hdlc import FCS
from metering.dlms.reassembly import COMPLETE, GATHER, MAX_APDU, NO_LAST, NO_START, TOO_LONG, UNNUMBERED, Reassembly
from metering.line import LISTEN, SWITCH, Line
from metering.listener import NOTHING, TELEGRAM
from metering.reading import Reading

if SLICES_ARE_CHEAP:  # a computer
    from metering.on_computer.cosem_learned import Cosem

# The longest telegram met has 752 bytes on the wire (general block transfer), 560 as an APDU.
BUFFER_SIZE = const(3072)

_LLC = const(3)
_NOTIFICATION = const(0x0F)
_GLO = const(0xDB)
_DED = const(0xDC)
_BLOCK = const(0xE0)
_BLOCK_HEAD = const(6)  # before the length
_LAST_BLOCK = const(0x80)
_SLASH = const(0x2F)
_SILENCE_MS = const(300)  # longer than a pause inside a telegram; the fastest meters push every second
UNKNOWN_LIST = "telegrams are read, but their list is not known: press Capture"


class Dlms(CompactingListener):
    """Listener for DLMS pushes. Allocates per telegram a handful, per reading the Reading with its code and value.

    Of the telegram in hand or refused, besides what every listener tells: `system_title` (8 bytes) and
    `invocation_counter` where it is ciphered, else None; `security_control`; `authenticated` True where its tag has
    held. `refuses_replays` True: a counter must be above the last one of its title.
    """

    NAME = "dlms"
    name_may_follow = True
    takes_keys = keeps_counters = True
    LINES = (Line(9600), Line(2400, 8, "E"), Line(2400), Line(115200))
    SOURCE = "DLMS UA 1000-2; IEC 62056-46; EN 13757"
    REASONS = (
        "checksum",
        "structure",
        "incomplete",
        "too long",
        "no push",
        "A-XDR",
        "security",
        "key needed",
        "key wrong",
        "tag",
        "replay",
        "shape",
    )

    def __init__(self, size=BUFFER_SIZE):
        CompactingListener.__init__(self, size)
        self._cosem = Cosem()
        self._frames = FrameFinder(self._cosem)
        self._parts = Reassembly()
        self._security = None  # metering.dlms.security, once it is needed
        self._forms = None  # metering.dlms.form_watch, likewise
        self._apdu_at = self._apdu_end = 0  # the plain APDU in the buffer
        self._next_at = 0  # where in what is gathered another APDU begins; 0: nowhere
        self._frame_used = 0  # bytes of the frame that completed it
        self._understood = False  # has a list had registers that are known?
        self.key_check = 0  # tells one key from another, and nothing of either
        self.refuses_replays = False

    def _reset_telegram(self):
        CompactingListener._reset_telegram(self)
        self.system_title = self.invocation_counter = None
        self.security_control = 0
        self.authenticated = False
        self._inner = None  # the listener that holds a P1 telegram

    def _get_security(self):
        if self._security is None:
            from metering.dlms.security import Security

            self._security = Security()
        return self._security

    def set_keys(self, key, auth_key=None):
        """The meter's keys, 16 bytes each or None; write-only."""
        if key is not None or auth_key is not None or self._security is not None:
            self.key_check = self._get_security().set_keys(key, auth_key)

    def identity_for_proof(self):
        return self.system_title or CompactingListener.identity_for_proof(self)

    def assumed_energy_factor(self):
        return self._cosem.family_scales.assumed_energy_factor(self._cosem.family)

    def set_energy_factor(self, factor):
        self._cosem.family_scales.set_energy_factor(factor)

    def restore_counter(self, title, counter):
        """Take `counter` for the last one heard of the meter `title`."""
        self._get_security().replays.restore(title, counter)

    def run(self):
        """As every listener's; a silence is where an APDU without a frame may begin."""
        yield SWITCH, self.line or self.LINES[0]
        while True:
            event = yield LISTEN, self, _SILENCE_MS, _SILENCE_MS
            if event == NOTHING:
                self.on_idle()

    def on_idle(self):
        self._frames.note_silence(self._position, self._n - self._at)

    # -- frames

    def _judge(self):
        """One candidate's end: the next APDU of the frame in hand, or the next frame."""
        if self._next_at:
            return self._take_apdu(self._next_at)
        frames = self._frames
        while True:
            noise = frames.noise_before_start(self._buf, self._at, self._n, self._position)
            if noise:
                self._skip_noise(noise)
                if self._parts.needs_no_gap():
                    return self._lose_parts("bytes between two segments")
            if self._at == self._n:
                if self._ended and self._staged:
                    return self._lose_parts("the stream ended before the last part")
                return NOTHING
            full = self._n - self._at + self._staged >= len(self._buf)
            used = frames.find(self._buf, self._view, self._at, self._n, self._position, self._ended, full)
            if used == hdlc.SHORT:
                return NOTHING
            if used == hdlc.NONE:
                self._skip_noise(1)
            elif used == REFUSED:
                return self._reject_frame(frames.reason, frames.detail)
            elif frames.info_at == frames.info_end:  # UA and the like
                self._drop(used)
            else:
                event = self._take_part(used)
                if event is not None:
                    return event

    def _lose_parts(self, detail):
        self._parts.forget()
        self._reset_telegram()
        return self._fail("incomplete", detail, 0)

    def _reject_frame(self, reason, detail):
        """The frame at _at is none: it is looked at again byte by byte, and what was gathered before it is lost."""
        self._reset_telegram()
        if self._staged:
            self._parts.forget()
        else:
            self._start = self._position
        return self._fail(reason, detail, 1)

    def _take_part(self, used):
        """What the frame of `used` bytes carries; None to go on."""
        frames = self._frames
        self.proven = frames.check_bits > 0
        self._reset_telegram()  # nothing of the telegram before is said of this one
        buf, at, end = self._buf, frames.info_at, frames.info_end
        llc = end - at > _LLC and buf[at] == 0xE6 and buf[at + 1] in b"\xe6\xe7" and buf[at + 2] == 0
        if llc:
            at += _LLC
        number = frames.segment
        begins = number == 0 or number == UNNUMBERED and (llc or not self._parts.needs_no_gap())
        is_apdu = number == 0 or llc or buf[at] in b"\x0f\xdb\xdc\xc0\xe0/"
        last = not frames.more
        is_block = begins and buf[at] == _BLOCK and end - at > _BLOCK_HEAD
        if is_block:
            try:
                length, data = ber_length(buf, at + _BLOCK_HEAD, end)
            except Malformed:
                length, data = -1, end
            number = buf[at + 2] << 8 | buf[at + 3]
            if length < 0 or data + length > end or not number:
                return self._reject_apdu("structure", "GBT block 0, or longer than its frame", used)
            last = bool(buf[at + 1] & _LAST_BLOCK)
            begins = number == 1
            at, end = data, data + length
        answer = self._parts.offer(self._staged, end - at, begins, is_apdu or is_block, number, last)
        if answer > COMPLETE:
            if answer == NO_START:
                what = "GBT block %d without block 1" % number if is_block else "a later segment without the first"
                self._start = self._position
            elif answer == TOO_LONG:
                return self._reject_apdu("too long", "an APDU of more than %d bytes" % MAX_APDU, used)
            else:
                what = "no last part" if answer == NO_LAST else "parts out of order"
            return self._reject_apdu("incomplete", what, 0 if answer == NO_LAST else used)
        if not self._staged:
            self._start = self._position
        copy_bytes(buf, self._staged, buf, at, end - at)
        self._staged += end - at
        if answer == GATHER:
            self._drop(used)
            return None
        self._frame_used = used
        return self._take_apdu(0)

    def _reject_apdu(self, reason, detail, used=-1):
        """What was gathered, or the frame of `used` bytes, is no telegram; the owner is told what to do about it."""
        self._parts.forget()
        self._next_at = 0
        security = self._security
        if security:
            from metering.dlms.key_advice import advice_for

            advice = advice_for(reason, detail, security.title_text(), security.control)
            if advice:
                self.advice = advice
                self.recognised += 1
        if used < 0:
            used = self._frame_used
        frames = self._frames
        if not frames.check_bits and not frames.info_at and self.system_title is None:
            used = 1  # noise whose first byte looks like an APDU's
        return self._fail(reason, detail, used)

    # -- the APDU, gathered at _buf[0:_staged]

    def _take_apdu(self, at):
        self._next_at = 0
        buf, end = self._buf, self._staged
        tag = buf[at]
        ciphered = tag == _GLO or tag == _DED or tag == _SLASH and self._frames.is_untitled
        if at:
            self._reset_telegram()
        if ciphered:
            reason = self._decipher(at, end)
            if reason:
                return self._reject_apdu(reason, self._get_security().detail)
            if tag == _SLASH:
                return self._take_untitled()
            at, end = self._apdu_at, self._apdu_end
            tag = buf[at]
            if tag == _SLASH and bytes(self._view[at + 1 : at + 4]).isalpha():
                return self._take_p1(at, end)
        unsure = ciphered and not self.authenticated
        if tag != _NOTIFICATION:
            if unsure:
                return self._reject_apdu("key wrong", "decryption gives no DataNotification")
            return self._reject_apdu("no push", "not a DataNotification (0x%02X)" % tag)
        try:
            behind = self._cosem.parse_notification(buf, at, end)
            if self._cosem.unknown_kinds:
                self._cosem.learn_layout()
                behind = self._cosem.parse_notification(buf, at, end)
        except Malformed as error:
            return self._reject_apdu("key wrong" if unsure else "A-XDR", str(error))
        follows = 0
        if ciphered:
            behind_it = self._get_security().behind
            if behind_it < self._staged:
                follows = behind_it + _LLC
        elif is_llc(buf, behind, end):
            follows = behind + _LLC
            end = behind
        if behind != end:  # a part repeated, or noise deciphered
            return self._reject_apdu("key wrong" if unsure else "A-XDR", "%d bytes are left over" % (end - behind))
        if self._frames.check_bits < FCS and not self.authenticated and not self._has_known_form(at, end):
            return self._reject_apdu("shape", "no CRC and no tag vouch for it, and its form is new: it must come twice")
        self._apdu_at, self._apdu_end = at, end
        self.n_values = self._cosem.n_values
        self._understood = self._understood or self.n_values > 0
        self._next_at = follows
        unknown = not self._understood and self._cosem.is_unknown(buf)
        return self._accept_apdu(UNKNOWN_LIST if unknown else "")

    def _accept_apdu(self, advice):
        if self._security and not self._security.is_new(self.refuses_replays) and self.system_title:
            return self._reject_apdu("replay", "counter %d is not above the last" % self.invocation_counter)
        self.advice = advice
        inner = self._inner
        self.sealed = self._frames.check_bits >= FCS or self.authenticated or inner is not None and inner.checked
        return self._believe(0 if self._next_at else self._frame_used)

    def _has_known_form(self, at, end):
        if self._forms is None:
            from metering.dlms.form_watch import FormWatch

            self._forms = FormWatch()
        first_counts = self._frames.check_bits == SUM or not self.skipped and not sum(self.rejected.values())
        return self._forms.admits(self._buf, at, end, self._cosem, first_counts)

    def _decipher(self, at, end):
        """Take the ciphering off; the reason where that cannot be, "" when _apdu_at.._apdu_end is plain."""
        security = self._get_security()
        if self._buf[at] == _SLASH:
            from metering.dlms.untitled_p1 import head_length

            reason = security.unwrap_untitled(self._buf, self._view, head_length(self._buf, end), end)
        else:
            reason = security.unwrap(self._buf, self._view, at, end)
        self.system_title = security.title
        self.invocation_counter = security.counter
        self.security_control = security.control
        self.authenticated = security.authenticated
        if self.authenticated:
            self.proven = True
        self._apdu_at, self._apdu_end = security.plain_at, security.plain_end
        return reason

    def _take_untitled(self):
        from metering.dlms.untitled_p1 import open_text

        n = open_text(self._buf, self._view, self._apdu_at, self._apdu_end)
        return self._take_p1(0, n) if n else self._reject_apdu("key wrong", "decryption gives no text")

    def _take_p1(self, at, end):
        """What was ciphered is a P1 telegram in ASCII (Sagemcom T210-D-r)."""
        from metering.protocols import load

        inner = load("iec62056-21")(end - at + MAX_APDU)
        inner.feed(self._buf, at, end)
        inner.finish()
        if inner.next_event() != TELEGRAM or not (inner.checked or self.authenticated):
            return self._reject_apdu("key wrong", "decryption gives no telegram")
        self._inner = inner
        for _ in self.readings():
            self.n_values += 1
        return self._accept_apdu("")

    # -- what comes out

    def readings(self):
        inner = self._inner
        return self._cosem.readings(self._buf) if inner is None else self._inner_readings(inner)

    def _inner_readings(self, inner):
        for reading in inner.readings():
            if reading.unit is not None and not reading.is_companion:
                yield Reading(reading.obis, reading.value, reading.exponent, reading.unit)

    def date_time(self):
        """(year, month, day, hour, minute, second, deviation) of the meter's clock; None where it has none.

        Local time; UTC is it plus the deviation in minutes (None: not sent). Green Book, 4.1.6.1.
        """
        buf = self._buf
        at = self._cosem.date_at
        if self._inner is not None or not at or buf[at] == 0xFF or buf[at + 2] > 12 or buf[at + 3] > 31:
            return None
        deviation = signed(buf[at + 9] << 8 | buf[at + 10], 16)
        if deviation == -0x8000:
            deviation = None
        return buf[at] << 8 | buf[at + 1], buf[at + 2], buf[at + 3], buf[at + 5], buf[at + 6], buf[at + 7], deviation

    def raw(self):
        """The plain APDU of the telegram in hand, to be looked at where no register of it is known."""
        return bytes(self._view[self._apdu_at : self._apdu_end])

    def printed_id(self):
        """The number that a register tells, "" where none does."""
        if self._inner is None:
            return self._cosem.meter_id(self._buf)
        return "" if self.system_title else self._inner.meter_id()

    def meter_id(self):
        """The system title's number (its last 28 bits, as ISK and LGZ print them): every list has it. In the clear the
        number that a register tells, which some lists have."""
        title = self.system_title
        if title is None:
            return self.printed_id()
        if not title[:3].isalpha():
            return hex_text(title)
        return title[:3].decode() + str(int.from_bytes(title[4:], "big") & 0x0FFFFFFF)


LISTENER = Dlms
