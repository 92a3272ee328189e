"""What a simulated DLMS meter answers: the association, GET and READ, its objects. How that travels: dlms_asked_meter.

Sources: IEC 62056-5-3 (association, GET, READ), IEC 62056-6-2 (objects).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from . import dlms_asked_profile
from . import dlms_encoder as enc
from .dlms_asked_security import Demands, MeterSecurity
from .household import DWMS_PER_WH, Counters, Household

_LOCK_AFTER = 3
PUBLIC = b"\x21"  # client 16, which is told the invocation counter
_TOLD_TO_ALL = ("0-0:43.1.0*255", "0-0:42.0.0*255")
EPOCH = datetime(2026, 3, 2, 11, 30)

Row = tuple[str, int, int, int]  # OBIS code, count, scaler, unit
ENERGIES = {"1-0:1.8.0*255": 0, "1-0:2.8.0*255": 1, "1-0:1.8.1*255": 2, "1-0:1.8.2*255": 3}


class AskedServices:
    """The room of AskedDlmsMeter (dlms_asked_meter) that answers; what is public is said there."""

    def __init__(
        self,
        quirks: Iterable[str],
        password: str,
        seed: int,
        client: int | None,
        short_names: bool,
        demands: Demands | None,
    ) -> None:
        self.quirks = frozenset(quirks)
        self.password = password.encode("ascii")
        self.security = MeterSecurity(demands, seed) if demands else None
        usual = 1 if demands and demands.key else 32 if demands or password else 16
        self.client = self._partner = enc.hdlc_address(client if client is not None else usual)
        self.number = f"{50_000_000 + seed * 7_331 % 10_000_000:08d}"
        self.has_short_names = short_names
        self.events: list[str] = []
        self.wrong_passwords = 0
        self.served: set[int] = set()
        self.sealed_tags: set[int] = set()  # as they came, ciphered
        self.refused: list[str] = []
        self.read: list[Row] = []
        self.requests = 0
        self.is_associated = False
        self._home = Household(seed)
        self._counters = Counters(self._home, 4_711_000 + seed * 1000, 12_000 + seed)
        self._blocks: list[bytes] = []
        self._block = 0
        self._selector = b"\x00"
        self.firmware = "1.07"  # "": it tells none
        self.first_name = 0x7000
        self.names_read: list[int] = []

    @property
    def _is_public(self) -> bool:
        return self._partner == PUBLIC and self._partner != self.client

    def _serve(self, apdu: bytes, at_s: float) -> bytes:
        self.sealed_tags.add(apdu[0])
        security = self.security
        if security is None or apdu[0] in (0x60, 0x62) or self._is_public:
            return self._serve_plain(apdu, at_s)
        plain, refusal = security.opened(apdu)
        if refusal:
            self.events.append("refuses the counter" if refusal[2] == 6 else "cannot decipher")
            return refusal
        if not security.waits_for_proof:
            return security.sealed(self._serve_plain(plain, at_s))
        self.served.add(plain[0])
        answer = security.proven(plain)
        self.is_associated = not security.waits_for_proof
        if not self.is_associated:
            self._count_wrong()
        return security.sealed(answer)

    def _count_wrong(self) -> None:
        self.wrong_passwords += 1
        locked = " and locks" if self.wrong_passwords >= _LOCK_AFTER else ""
        self.events.append(f"refuses a password{locked}")

    def _serve_plain(self, apdu: bytes, at_s: float) -> bytes:
        self.served.add(apdu[0])
        if apdu[0] == 0x60:
            return self._associate(apdu)
        if apdu[0] == 0x62:
            self.is_associated = False
            return b"\x63\x03\x80\x01\x00"
        if apdu[0] == 0x05 and self.is_associated and self.has_short_names:
            return self._read_names(apdu, at_s)
        if apdu[0] != 0xC0 or not self.is_associated or self.has_short_names or len(apdu) < 4:
            return b"\xd8\x01\x02"
        invoke = apdu[2:3]
        if apdu[1] == 2:
            block = int.from_bytes(apdu[3:7], "big")
            if not self._blocks or block != self._block:
                self._blocks = []
                return b"\xc4\x02" + invoke + b"\x01\x00\x00\x00\x00\x01\x13"
            return self._next_block(invoke)
        if apdu[1] == 1:
            self.requests += 1
            self._selector = apdu[12:]
            result = self._get(apdu[3:12], at_s)
            self._selector = b"\x00"
            if "blocks" in self.quirks and result[0] == 0 and len(result) > 8 or len(result) > 400:
                data = result[1:]
                size = 8 if len(data) < 100 else 200
                self._blocks = [data[k : k + size] for k in range(0, len(data), size)]
                self._block = 0
                return self._next_block(invoke)
            return b"\xc4\x01" + invoke + result
        if apdu[1] == 3:
            items = [apdu[4 + 10 * k : 13 + 10 * k] for k in range(apdu[3])]
            self.requests += len(items)
            results = apdu[3:4] + b"".join(self._get(item, at_s) for item in items)
            if "blocks" in self.quirks or len(results) > 400:
                self._blocks = [results[k : k + 200] for k in range(0, len(results), 200)]
                self._block = 0
                return self._next_block(invoke)
            return b"\xc4\x03" + invoke + results
        return b"\xd8\x01\x02"

    def _read_names(self, apdu: bytes, at_s: float) -> bytes:
        """READ of variable names, or of the next block."""
        if apdu[1] == 1 and apdu[2] == 5:
            if not self._blocks or int.from_bytes(apdu[3:5], "big") != self._block:
                return b"\x0c\x01\x01\x13"
            return self._next_read_block()
        results = b""
        for k in range(apdu[1]):
            name = int.from_bytes(apdu[3 + 3 * k : 5 + 3 * k], "big")
            self.requests += 1
            results += self._read_name(name, at_s) if apdu[2 + 3 * k] == 2 else b"\x01\x0b"
        data = apdu[1:2] + results
        if len(data) > 400 or "blocks" in self.quirks and len(data) > 10:
            size = 8 if len(data) < 100 else 200
            self._blocks = [data[k : k + size] for k in range(0, len(data), size)]
            self._block = 0
            return self._next_read_block()
        return b"\x0c" + data

    def _next_read_block(self) -> bytes:
        data = self._blocks.pop(0)
        self._block += 1
        head = b"\x0c\x01\x02" + bytes((not self._blocks,)) + self._block.to_bytes(2, "big")
        return head + enc.ber_length(len(data)) + data

    def _read_name(self, name: int, at_s: float) -> bytes:
        found = self._objects(at_s)
        self.names_read.append(name)
        if name == 0xFD08:  # reserved for the logical device name
            return b"\x00" + found["0-0:42.0.0*255"][1][2]
        if name >= 0xFA00:
            listed = [
                enc.structure(
                    (
                        enc.number(enc.INT16, self.base_of(k) - (1 << 16 if self.base_of(k) >> 15 else 0)),
                        enc.number(enc.UINT16, 12 if class_id == 15 else class_id),
                        enc.number(enc.UINT8, 0),
                        enc.octets(enc.obis_bytes(obis)),
                    )
                )
                for k, (obis, (class_id, _)) in enumerate(found.items())
            ]
            return b"\x00" + enc.array(listed) if name == 0xFA08 else b"\x01\x04"
        for k, (obis, (class_id, _)) in enumerate(found.items()):
            attribute, odd = divmod(name - self.base_of(k), 8)
            if 0 <= attribute < 8 and not odd and class_id != 15:
                item = class_id.to_bytes(2, "big") + enc.obis_bytes(obis) + bytes((attribute + 1,))
                return self._get(item, at_s)
        return b"\x01\x04"

    def base_of(self, k: int) -> int:
        """The short name of object `k`; another firmware has others."""
        return self.first_name + 0x100 * k

    def _next_block(self, invoke: bytes) -> bytes:
        data = self._blocks.pop(0)
        self._block += 1
        head = b"\xc4\x02" + invoke + bytes((not self._blocks,)) + self._block.to_bytes(4, "big")
        return head + b"\x00" + enc.ber_length(len(data)) + data

    def _associate(self, apdu: bytes) -> bytes:
        mechanism, secret, title, wanted = 0, b"", b"", b""
        at = 2
        while at + 1 < len(apdu):
            tag, n = apdu[at], apdu[at + 1]
            content = apdu[at + 2 : at + 2 + n]
            if tag == 0x8B:
                mechanism = content[-1]
            elif tag == 0xAC and n > 2:
                secret = content[2:]
            elif tag == 0xA6:
                title = content[2:]
            elif tag == 0xBE:
                wanted = content[2:]
            at += 2 + n
        if self.security and not self._is_public:
            return self._associate_by(self.security, apdu, mechanism, secret, title, wanted)
        result, diagnostic = 0, 0
        if self.wrong_passwords >= _LOCK_AFTER:
            result, diagnostic = 1, 13
        elif mechanism > 1:
            result, diagnostic = 1, 11
        elif self.password and not mechanism and not self._is_public:
            result, diagnostic = 1, 14
        elif mechanism and secret != self.password:
            self._count_wrong()
            result, diagnostic = 1, 13
        self.is_associated = not result
        context = 2 if self.has_short_names else 1
        if not result and self._context_of(apdu) != context:
            result, diagnostic, self.is_associated = 1, 2, False
        return self._accept(context, result, diagnostic, b"" if result else self._initiate())

    @staticmethod
    def _context_of(apdu: bytes) -> int:
        return apdu[apdu.find(b"\x06\x07\x60\x85\x74\x05\x08\x01") + 8]

    def _initiate(self) -> bytes:
        if self.has_short_names:
            return b"\x08\x00\x06\x5f\x1f\x04\x00\x10\x12\x00\x01\xf4\xfa\x00"
        return b"\x08\x00\x06\x5f\x1f\x04\x00\x00\x12\x14\x01\xf4\x00\x07"

    @staticmethod
    def _accept(context: int, result: int, diagnostic: int, initiate: bytes, proof: bytes = b"") -> bytes:
        body = b"\xa1\x09\x06\x07\x60\x85\x74\x05\x08\x01" + bytes((context, 0xA2, 3, 2, 1, result))
        body += b"\xa3\x05\xa1\x03\x02\x01" + bytes((diagnostic,)) + proof
        if initiate:
            body += bytes((0xBE, len(initiate) + 2, 0x04, len(initiate))) + initiate
        return bytes((0x61, len(body))) + body

    def _associate_by(
        self, security: MeterSecurity, apdu: bytes, mechanism: int, secret: bytes, title: bytes, wanted: bytes
    ) -> bytes:
        """An association that convinces in four passes, or whose services are ciphered."""
        demands = security.demands
        context = (2 if self.has_short_names else 1) + (2 if demands.policy else 0)
        self.is_associated = False
        security.client_title = title
        diagnostic = 0
        if self.wrong_passwords >= _LOCK_AFTER:
            diagnostic = 13
        elif self._context_of(apdu) != context:
            diagnostic = 2
        elif mechanism != demands.mechanism:
            diagnostic = 11 if mechanism else 14
        elif len(secret) < 8:
            diagnostic = 13
        elif security.initiate(wanted) is None:
            self._count_wrong()
            diagnostic = 13
        if diagnostic:
            return self._accept(context, 1, diagnostic, b"")
        challenge = security.challenge(secret)
        proof = b"\xa4\x0a\x04\x08" + demands.title + b"\x88\x02\x07\x80"
        proof += b"\x89\x07\x60\x85\x74\x05\x08\x02" + bytes((mechanism, 0xAA, 18, 0x80, 16)) + challenge
        return self._accept(context, 0, 14, security.granted(self._initiate()), proof)

    # --- objects ---

    def _get(self, item: bytes, at_s: float) -> bytes:
        """Get-Data-Result of class, OBIS code and attribute."""
        class_id, attribute = int.from_bytes(item[:2], "big"), item[8]
        obis = "{}-{}:{}.{}.{}*{}".format(*item[2:8])
        if self._is_public and obis not in _TOLD_TO_ALL:
            return b"\x01\x03"
        found = self._objects(at_s).get(obis)
        if found is None or found[0] != class_id:
            self.refused.append(obis)
            return b"\x01\x04"
        value = found[1].get(attribute)
        if value is None:
            return b"\x01\x03"
        if class_id == 3 and attribute == 2:
            rows = {row[0]: row for row in self._rows(at_s)}
            self.read.append(rows[obis])
        return b"\x00" + value

    def _rows(self, at_s: float) -> list[Row]:
        self._counters.advance(int(at_s * 1000))
        counters = self._counters
        second = int(at_s)
        phases = self._home.phases_dw(second)
        total = sum(phases)
        counts = (counters.imported, counters.exported, *counters.tariff)
        rows = [(obis, counts[k] // DWMS_PER_WH, 0, 30) for obis, k in ENERGIES.items()]
        rows += [("1-0:1.7.0*255", max(total, 0), -1, 27), ("1-0:2.7.0*255", max(-total, 0), -1, 27)]
        for k in range(3):
            voltage = self._home.voltage_dv(second, k)
            rows.append((f"1-0:{32 + 20 * k}.7.0*255", voltage, -1, 35))
            rows.append((f"1-0:{31 + 20 * k}.7.0*255", abs(phases[k]) * 100 // voltage, -2, 33))
        return [*rows, ("1-0:14.7.0*255", self._home.frequency_chz(second), -2, 44)]

    def _objects(self, at_s: float) -> dict[str, tuple[int, dict[int, bytes]]]:
        """OBIS code -> class and attributes."""
        clock = enc.date_time_octets(EPOCH + timedelta(seconds=int(at_s)), deviation=-60)
        found = {
            "0-0:42.0.0*255": (1, {2: enc.octets(b"OPT" + self.number.encode())}),
            "0-0:1.0.0*255": (8, {2: enc.octets(clock)}),
        }
        if self.security is not None:
            found["0-0:43.1.0*255"] = (1, {2: enc.number(enc.UINT32, self.security.highest)})
        if "nameless" not in self.quirks:
            found["0-0:96.1.0*255"] = (1, {2: enc.octets(self.number.encode())})
        for obis, count, scaler, unit in self._rows(at_s):
            value = enc.number(enc.UINT32, count)
            if "floats" in self.quirks and unit == 35:
                value, scaler = enc.float32(count / 10), 0
            if "odd" in self.quirks and unit == 35:
                value = b"\x04\x08\x55"  # a bit string
            found[obis] = (3, {2: value, 3: enc.scaler_unit(scaler, unit)})
        if self.firmware:
            found["1-0:0.2.0*255"] = (1, {2: enc.octets(self.firmware.encode())})
        until = EPOCH + timedelta(seconds=int(at_s))
        found[dlms_asked_profile.OBIS] = (7, dlms_asked_profile.attributes(until, self._selector))
        listed = [
            enc.structure(
                (enc.number(enc.UINT16, class_id), enc.number(enc.UINT8, 0), enc.octets(enc.obis_bytes(obis)), rights)
            )
            for obis, (class_id, _) in found.items()
            for rights in (enc.structure((enc.array(()), enc.array(()))),)
        ]
        name = enc.octets(enc.obis_bytes("0-0:40.0.0*255"))
        for obis in found:
            found[obis][1][1] = enc.octets(enc.obis_bytes(obis))
        found["0-0:40.0.0*255"] = (15, {1: name, 2: enc.array(listed)})
        return found
