"""DLMS/COSEM push: what meters send by themselves on a customer port, in the clear or encrypted.

Source: DLMS UA 1000-2 (Green Book) 9.2 (security), 9.4.4 (general block transfer), 9.5 (APDUs); IEC 62056-46 (HDLC),
EN 13757 (M-Bus), IEC 62056-47 (wrapper). Anything but a DataNotification, in the clear, ciphered or in blocks, is
refused by its tag: questions and answers of clients do not occur on these ports.

    7E .. 7E       HDLC frame      segments are gathered, LLC E6 E7 00 in the first   metering.dlms.hdlc
    68 L L 68 ..   M-Bus frames    segments by number                                 metering.mbus.mbus_frame
    00 01 ..       wrapper         ports and length                  (TCP and UDP)
    E6 E7 00, 0F, DB ...           bare

    E0 control block 2 acknowledged 2 length data        a block of a general block transfer, gathered by number
    DB|DC title length SC counter 4 ciphertext [tag 12]  ciphered: AES-128-GCM, metering.dlms.gcm
    0F invoke id 4 date-time body                        DataNotification; its body is metering.dlms.cosem's

A frame whose check fails is looked into again from the byte behind its start. Gathered is at the buffer's start; what
does not continue it (a gap, a repeat, another start) ends it, counted. Silence ends no frame, structure does. An APDU
without a frame has no check of its own: it begins a stream, follows another, or stands behind a silence, and has none
inside.
"""

from metering.checksum import X25_INIT, crc16
from metering.compacting_listener import CompactingListener
from metering.compat import const, copy_bytes, hex_text, signed
from metering.dlms.axdr import Malformed, ber_length
from metering.dlms.cosem import Cosem
from metering.dlms.hdlc import NO_FLAG, NONE, SHORT, WRONG_HEADER, X25_TABLE
from metering.dlms.hdlc import Frame as HdlcFrame
from metering.line import LISTEN, SWITCH, Line
from metering.listener import NOTHING, REJECTED
from metering.mbus.mbus_frame import Frame as MbusFrame
from metering.reading import Reading

# The longest telegram met has 752 bytes on the wire (general block transfer), 560 as an APDU.
BUFFER_SIZE = const(3072)
_MAX_APDU = const(1536)
_MAX_FRAME = const(2050)  # bytes from flag to flag

_LEAST_FRAME = const(9)
_WRAPPER_HEAD = const(8)
_LLC = const(3)
_NOTIFICATION = const(0x0F)
_GLO = const(0xDB)
_DED = const(0xDC)
_BLOCK = const(0xE0)
_BLOCK_HEAD = const(6)  # before the length
_LAST_BLOCK = const(0x80)
_MAX_P1_HEADER = const(64)
_GET_REQUEST = const(0xC0)
_DATE_TIME_AT = const(5)  # of a DataNotification: its length, or its tag
_TITLE = const(8)
_TAG = const(12)
_AUTHENTICATED = const(0x10)
_ENCRYPTED = const(0x20)
_COMPRESSED = const(0x80)
_SUITE = const(0x0F)
_SLASH = const(0x2F)
_SILENCE_MS = const(300)  # longer than a pause inside a telegram; the fastest meters push every second
_POSITION_MASK = const(0x3FFFFFFF)
KEY_REASONS = ("key needed", "key wrong", "tag", "security", "replay")  # it was a telegram, but cannot be read
_MAX_METERS = const(4)  # whose counters are followed


class Dlms(CompactingListener):
    """Listener for DLMS pushes. Allocates per telegram a handful, per reading the Reading with its code and value.

    Of the telegram in hand or refused, besides what every listener tells: `system_title` (8 bytes) and
    `invocation_counter` where it is ciphered, else None; `security_control`; `authenticated` True where its tag has
    held. `refuses_replays` True: a counter must be above the last one of its title.
    """

    NAME = "dlms"
    name_may_follow = True
    takes_keys = True
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
    )

    def __init__(self, size=BUFFER_SIZE):
        CompactingListener.__init__(self, size)
        self._hdlc = HdlcFrame()
        self._mbus = MbusFrame()
        self._cosem = Cosem()
        self._gcm = None
        self._auth_key = None
        self.key_check = 0  # tells one key from another, and nothing of either
        self._more = False  # gathered: another segment or block is due
        self._next = 0  # its number, where it has one
        self._date_at = self._apdu_length = 0
        self._bare_from = 0  # where in the stream an APDU without a frame may begin: at the start, behind another,
        self._quiet_at = 0  # or behind a silence
        self._last_counters = []  # [title, counter] of each meter heard
        self.refuses_replays = False

    def _reset_telegram(self):
        CompactingListener._reset_telegram(self)
        self.system_title = self.invocation_counter = None
        self.security_control = 0
        self.authenticated = False
        self._inner = None  # the listener that holds a P1 telegram
        self._plain_at = self._plain_end = 0

    def set_keys(self, key, auth_key=None):
        """The meter's keys, 16 bytes each or None; write-only."""
        self._gcm = None
        self._auth_key = auth_key
        self.key_check = crc16((key or b"") + (auth_key or b""), X25_INIT, X25_TABLE)
        if key is not None:
            from metering.dlms.gcm import Gcm

            self._gcm = Gcm(key, auth_key is not None)

    def identity_for_proof(self):
        return self.system_title or CompactingListener.identity_for_proof(self)

    def restore_counter(self, title, counter):
        """Take `counter` for the last one heard of the meter `title`."""
        if len(self._last_counters) < _MAX_METERS:
            self._last_counters.append([title, counter])

    def run(self):  # pyright: ignore[reportIncompatibleMethodOverride] - it sees other types, not other actions
        """As every listener's; a silence is where an APDU without a frame may begin."""
        yield SWITCH, self.line or self.LINES[0]
        while True:
            event = yield LISTEN, self, _SILENCE_MS, _SILENCE_MS
            if event == NOTHING:
                self.on_idle()

    def on_idle(self):
        """Nothing has come for a while."""
        if self._quiet_at == self._position:  # what began there is not judged yet
            self._bare_from = self._position
        self._quiet_at = (self._position + self._n - self._at) & _POSITION_MASK

    # -- frames

    def _judge(self):
        while True:
            position = self._position
            found = self._find_start()
            if position != self._position and self._more and not self._next:  # HDLC segments have no numbers
                self._more = False
                self._reset_telegram()
                return self._fail("incomplete", "bytes between two segments", 0)
            if not found:
                if self._ended and self._staged:
                    self._reset_telegram()
                    return self._fail("incomplete", "the stream ended before the last part", 0)
                return NOTHING
            event = self._take_frame()
            if event is not None:
                return event

    def _find_start(self):
        """Skip to what may begin a frame; False where nothing of that kind is held."""
        buf = self._buf
        first, n = self._at, self._n
        i = 0
        bare = self._position == self._bare_from
        quiet = (self._quiet_at - self._position) & _POSITION_MASK
        while first + i < n:
            byte = buf[first + i]
            if byte == 0x7E or byte == 0x68:
                break
            if (bare or i == quiet) and byte in b"\x00\xe6\x0f\xdb\xdc\xe0\xc0/":
                break
            bare = False
            i += 1
        self._skip_noise(i)
        return first + i < n

    def _give_up(self, reason, detail):
        """The frame at _at is none: it is looked at again byte by byte, and what was gathered before it is lost."""
        self._reset_telegram()
        if self._staged:
            self._more = False
        else:
            self._start = self._position
        return self._fail(reason, detail, 1)

    def _take_frame(self):
        buf, at, n = self._buf, self._at, self._n
        first = buf[at]
        if first == 0x7E:
            used = self._hdlc.find(buf, self._view, at, n)
            frame = self._hdlc
            mistakes = ("HDLC header's check", "HDLC: no closing flag at the announced length", "HDLC FCS mismatch")
        elif first == 0x68:
            used = self._mbus.find(buf, at, n, self._ended)
            frame = self._mbus
            mistakes = ("", "M-Bus frame: no stop byte at the announced length", "M-Bus checksum mismatch")
        else:
            return self._take_bare()
        if used == NONE:
            self._skip_noise(1)
            return None
        if used == SHORT:
            if self._ended and n - at < _LEAST_FRAME:  # the flag behind the last frame
                self._skip_noise(n - at)
                return None
            if n - at >= _MAX_FRAME or self._is_over():
                return self._give_up("incomplete", "frame truncated")
            return NOTHING
        if used < 0:
            return self._give_up("structure" if used == NO_FLAG else "checksum", mistakes[WRONG_HEADER - used])
        if first == 0x7E and frame.info_at == frame.info_end:  # UA and the like
            self._drop(used)
            return None
        return self._take_info(frame.info_at, frame.info_end, used, frame.more, frame.segment)

    def _take_bare(self):
        """A wrapper, or an APDU with its LLC or, at the stream's start, without."""
        buf, at, n = self._buf, self._at, self._n
        if buf[at] == 0:
            if n - at < _WRAPPER_HEAD + 1:
                return self._wait_or_skip()
            length = buf[at + 6] << 8 | buf[at + 7]
            if buf[at + 1] != 1 or buf[at + 8] not in b"\x0f\xdb\xdc\xe0\xe6" or not 0 < length <= _MAX_APDU:
                self._skip_noise(1)
                return None
            used = _WRAPPER_HEAD + length
            if self._was_quiet(used) or n - at < used and self._is_over():
                return self._give_up("incomplete", "wrapper truncated")
            if n - at < used:
                return NOTHING
            self._bare_from = self._position + used
            return self._take_info(at + _WRAPPER_HEAD, at + used, used, False, -1)
        if buf[at] == _SLASH:  # GAMA 350 and Kaifa in Poland: a P1 identification, then ciphered without a title
            end = buf.find(b"\r\n\r\n\x00", at, min(n, at + _MAX_P1_HEADER))
            if end < 0 and n - at < _MAX_P1_HEADER and not self._ended:
                return NOTHING
            if end < 0:
                self._skip_noise(1)
                return None
            self.advice = "the meter encrypts without telling its system title: this cannot be read"
            return self._give_up("security", "P1 header, then ciphered without a system title: title and key missing")
        apdu = at
        if buf[at] == 0xE6:
            if n - at < _LLC + 1:
                return self._wait_or_skip()
            if buf[at + 1] not in b"\xe6\xe7" or buf[at + 2] != 0 or buf[at + 3] not in b"\x0f\xdb\xdc\xe0":
                self._skip_noise(1)
                return None
            apdu += _LLC
        tag = buf[apdu]
        if tag == _GET_REQUEST:
            return self._give_up("no push", "not a DataNotification (0xC0)")
        if n - apdu > _DATE_TIME_AT:  # what cannot be one is noise
            first, length = buf[apdu + 1], buf[apdu + _DATE_TIME_AT]
            if tag == _NOTIFICATION and length not in b"\x00\x09\x0c" or tag in (_GLO, _DED) and first != _TITLE:
                self._skip_noise(1)
                return None
        end = self._apdu_end(apdu, n)
        if self._was_quiet(n - at + 1 if end is None else end - at):
            return self._give_up("incomplete", "a silence in an APDU without a frame")
        if end is None:
            if n - at > _MAX_APDU or self._is_over():
                return self._give_up("A-XDR" if buf[apdu] == _NOTIFICATION else "incomplete", "APDU truncated")
            return NOTHING
        self._bare_from = self._position + end - at
        event = self._take_info(apdu, end, end - at, False, -1)
        if event == REJECTED and apdu == 0 and self.system_title is None:  # noise whose first byte looks like an APDU's
            self._used = 1
        return event

    def _is_over(self):
        """Will no byte come that has room: is the stream at its end, or the buffer full?"""
        return self._ended or self._n - self._at + self._staged >= len(self._buf)

    def _was_quiet(self, n):
        """Was there a silence inside the n bytes from _buf[_at]? What has no frame has no other sign of a gap."""
        return 0 < (self._quiet_at - self._position) & _POSITION_MASK < min(n, self._n - self._at + 1)

    def _wait_or_skip(self):
        if self._ended or self._was_quiet(_MAX_APDU):
            self._skip_noise(1)
            return None
        return NOTHING

    def _apdu_end(self, at, n):
        """Where the bare APDU at `at` ends, None where not all of it is there yet."""
        buf = self._buf
        try:
            if buf[at] == _NOTIFICATION:
                body = self._notification_body(at, n)
                return self._cosem.end_of(buf, body, n)
            if buf[at] == _BLOCK:
                length, body = ber_length(buf, at + _BLOCK_HEAD, n)
                return body + length if body + length <= n else None
            length, body = ber_length(buf, at + 2 + _TITLE, n)
            return body + length if body + length <= n else None
        except Malformed:
            return None

    # -- gathering

    def _take_info(self, at, end, used, more, segment):
        """A frame's information _buf[at:end], `used` bytes with its frame; None to go on."""
        self.proven = self._buf[self._at] in b"\x7e\x68"
        self._reset_telegram()  # nothing of the telegram before is said of this one
        buf = self._buf
        llc = end - at > _LLC and buf[at] == 0xE6 and buf[at + 1] in b"\xe6\xe7" and buf[at + 2] == 0
        if llc:
            at += _LLC
        if segment >= 0:
            begins = segment == 0
        else:
            begins = llc or not self._more or self._next > 0
        block = 0
        last = not more
        if begins and buf[at] == _BLOCK and end - at > _BLOCK_HEAD:
            try:
                length, data = ber_length(buf, at + _BLOCK_HEAD, end)
            except Malformed:
                length, data = -1, end
            block = buf[at + 2] << 8 | buf[at + 3]
            if length < 0 or data + length > end or not block:
                return self._refuse("structure", "GBT block 0, or longer than its frame", used)
            last = bool(buf[at + 1] & _LAST_BLOCK)
            begins = block == 1
            at, end = data, data + length
        if self._staged and (begins or block and block != self._next or segment > 0 and segment != self._next):
            what = "GBT block sequence error" if block else "segments out of order" if not begins else "no last part"
            self._more = False
            self._next = 0
            return self._fail("incomplete", what, 0 if begins else used)
        if not self._staged:
            if not begins or segment < 0 and not llc and not block and buf[at] not in b"\x0f\xdb\xdc\xc0\xe0":
                what = "GBT block %d without block 1" % block if block else "a later segment without the first"
                self._start = self._position
                return self._refuse("incomplete", what, used)
            self._start = self._position
        if self._staged + end - at > _MAX_APDU:
            return self._refuse("too long", "an APDU of more than %d bytes" % _MAX_APDU, used)
        copy_bytes(buf, self._staged, buf, at, end - at)
        self._staged += end - at
        self._more = not last
        self._next = (block or segment) + 1 if block or segment >= 0 else 0
        if not last:
            self._drop(used)
            return None
        self._more = False
        self._next = 0
        return self._take_apdu(used)

    def _refuse(self, reason, detail, used):
        self._more = False
        self._next = 0
        if reason in KEY_REASONS:
            self.recognised += 1
        if reason == "key needed":
            self.advice = "key needed: the meter encrypts (%s), enter its key as meter_key" % self._title()
        elif reason in ("key wrong", "tag"):
            tag = "its telegrams carry no tag, so a wrong key shows as noise"
            self.advice = "meter_key or meter_auth_key is wrong (%s): %s" % (
                self._title(),
                detail if self.security_control & _AUTHENTICATED else tag,
            )
        elif reason == "security":
            self.advice = "the meter's telegrams are protected in another way (%s): %s" % (self._title(), detail)
        elif reason == "replay":
            cure = "a replay; if the meter was reset, delete counters.json"
            self.advice = "the meter's counter went back (%s): %s" % (self._title(), cure)
        return self._fail(reason, detail, used)

    def _title(self):
        return "system title " + hex_text(self.system_title or b"")

    # -- the APDU, gathered at _buf[0:_staged]

    def _notification_body(self, at, end):
        """Where the body of the DataNotification at `at` begins. Raises Malformed."""
        buf = self._buf
        at += 5
        if at >= end:
            raise Malformed("A-XDR truncated")
        if buf[at] == 0x09:  # Kaifa and old Kamstrup tag it
            at += 1
        n = buf[at]
        if n not in (0, 12) or at + 1 + n > end:
            raise Malformed("no date-time of %d bytes" % n)
        self._date_at = at + 1 if n else 0
        return at + 1 + n

    def _take_apdu(self, used):
        buf, end = self._buf, self._staged
        self._apdu_length = end
        at = 0
        tag = buf[0]
        if tag in (_GLO, _DED):
            failed = self._decipher(end)
            if failed:
                return self._refuse(failed[0], failed[1], used)
            at, end = self._plain_at, self._plain_end
            tag = buf[at]
            if tag != _NOTIFICATION and tag != _SLASH and not self.authenticated:
                return self._refuse("key wrong", "decryption gives no DataNotification", used)
        if tag == _SLASH and self.system_title is not None and bytes(self._view[at + 1 : at + 4]).isalpha():
            return self._take_p1(at, end, used)
        if tag != _NOTIFICATION:
            return self._refuse("no push", "not a DataNotification (0x%02X)" % tag, used)
        try:
            body = self._notification_body(at, end)
            behind = self._cosem.parse(buf, body, end)
        except Malformed as error:
            unsure = self.system_title is not None and not self.authenticated
            return self._refuse("key wrong" if unsure else "A-XDR", str(error), used)
        if behind != end:  # a part repeated, or noise deciphered
            unsure = self.system_title is not None and not self.authenticated
            return self._refuse("key wrong" if unsure else "A-XDR", "%d bytes are left over" % (end - behind), used)
        if self.system_title is not None and not self._is_new():
            return self._refuse("replay", "counter %d is not above the last" % self.invocation_counter, used)
        self.n_values = self._cosem.n_values
        self.advice = ""
        return self._believe(used)

    def _take_p1(self, at, end, used):
        """What was ciphered is a P1 telegram in ASCII (Sagemcom T210-D-r)."""
        from metering.iec62056_21.data_block import Iec62056_21
        from metering.listener import TELEGRAM

        inner = Iec62056_21(end - at + _MAX_APDU)
        inner.feed(self._buf, at, end)
        inner.finish()
        event = inner.next_event()
        if event != TELEGRAM or not (inner.checked or self.authenticated):
            return self._refuse("key wrong", "decryption gives no telegram", used)
        if not self._is_new():
            return self._refuse("replay", "counter %d is not above the last" % self.invocation_counter, used)
        self._inner = inner
        for _ in self.readings():
            self.n_values += 1
        self.advice = ""
        return self._believe(used)

    def _decipher(self, end):
        """Take the ciphering off; (reason, detail) where that cannot be, None when _plain_at.._plain_end is plain."""
        buf = self._buf
        try:
            if buf[1] != _TITLE:
                return "security", "no system title"
            length, at = ber_length(buf, 2 + _TITLE, end)
            if length > end - at or length < 5:
                raise Malformed("ciphered length longer than data")
            if length < end - at:  # a segment came twice
                raise Malformed("ciphered length shorter than data")
        except Malformed as error:
            return "structure", str(error)
        end = at + length
        title = bytes(self._view[2 : 2 + _TITLE])
        counter = bytes(self._view[at + 1 : at + 5])
        control = buf[at]
        self.system_title = title
        self.security_control = control
        self.invocation_counter = int.from_bytes(counter, "big")
        at += 5
        if control & _COMPRESSED or control & _SUITE > 1:
            return "security", "security control 0x%02X is not known" % control
        if control & _ENCRYPTED and self._gcm is None:
            return "key needed", "encrypted, key needed (%s)" % self._title()
        if control & _AUTHENTICATED:
            end -= _TAG
            if end < at:
                return "structure", "no room for the tag"
            if self._auth_key is not None and self._gcm is not None:
                aad = bytes((control,)) + self._auth_key
                n = end - at
                if not control & _ENCRYPTED:
                    aad += bytes(self._view[at:end])
                    n = 0
                if not self._gcm.tag_holds(buf, at, n, title, counter, aad, bytes(self._view[end : end + _TAG])):
                    return "tag", "key wrong or telegram changed: GCM tag mismatch"
                self.authenticated = self.proven = True
        if self._gcm is not None and not self.authenticated and not control & _ENCRYPTED:
            return "security", "neither encrypted nor with a tag that holds, though there is a key"
        if control & _ENCRYPTED:
            self._gcm.decrypt(buf, at, end - at, title, counter)
        self._plain_at, self._plain_end = at, end
        return None

    def _is_new(self):
        """Is the invocation counter above the last one of this meter? Remembers it; a fifth meter is not believed."""
        for row in self._last_counters:
            if row[0] == self.system_title:
                if self.refuses_replays and self.invocation_counter <= row[1]:
                    return False
                row[1] = self.invocation_counter
                return True
        if self.refuses_replays and len(self._last_counters) == _MAX_METERS:
            return False
        self.restore_counter(self.system_title, self.invocation_counter)
        return True

    # -- what comes out

    def readings(self):
        if self._inner is None:
            return self._cosem.readings(self._buf)
        return self._inner_readings()

    def _inner_readings(self):
        for reading in self._inner.readings():
            if reading.unit is not None and not reading.is_companion:
                yield Reading(reading.obis, reading.value, reading.exponent, reading.unit)

    def date_time(self):
        """(year, month, day, hour, minute, second, deviation) of the meter's clock; None where it has none.

        Local time; UTC is it plus the deviation in minutes (None: not sent). Green Book, 4.1.6.1.
        """
        buf = self._buf
        at = self._cosem.date_at or self._date_at
        if self._inner is not None or not at or buf[at] == 0xFF or buf[at + 2] > 12 or buf[at + 3] > 31:
            return None
        deviation = signed(buf[at + 9] << 8 | buf[at + 10], 16)
        if deviation == -0x8000:
            deviation = None
        return buf[at] << 8 | buf[at + 1], buf[at + 2], buf[at + 3], buf[at + 5], buf[at + 6], buf[at + 7], deviation

    def raw(self):
        """The plain APDU of the telegram in hand, to be looked at where no register of it is known."""
        end = self._plain_end or self._apdu_length
        return bytes(self._view[self._plain_at : end])

    def printed_id(self):
        """The number that a register tells, "" where none does."""
        return "" if self._inner is not None else self._cosem.meter_id(self._buf)

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
