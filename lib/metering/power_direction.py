"""Meters of SML that send the sign of a power wrongly: which, how it is known, and what they mean.

Loaded by metering.sml for the makers below, and for a power in Wh, alone. A rule is a row with its evidence; where none
fits, the power stays as it was sent. A telegram without a status word of a known form is judged by the DZG's serial
number alone.
"""

from metering.compat import const

_POWER = b"\x01\x00\x10\x07\x00\xff"  # 1-0:16.7.0*255
_VOLTAGE_L1 = const(32)  # C of an OBIS code; 20 more for each further phase
_CURRENT_L1 = const(31)
_POWER_L2 = const(56)
_W = const(27)  # DLMS unit codes
_WH = const(30)
_FNN = const(0x04)  # the low byte of a status word of the FNN's form
_FNN_EXPORT = const(0x0800)

_WRAPPED = const(1)  # add 256 for each byte sent
_SIGN_LOST = const(2)  # negate
_LOW_BYTE = const(3)  # the low byte alone is the signed number

# The maker; the direction by the status word, is it export (None: either); most bytes of the number; the values as read
# that are wrong, from and to; what is to be done.
_RULES = (
    # DVS74, DWS7412: a positive number in 1 to 3 bytes, marked as signed. Their genuine negatives, and those of their
    # siblings, come with the status of export. volkszaehler/libsml 59, 125, 132, 136, volkszaehler/vzlogger 544:
    # 356.24 W as 53 8b28, 507.00 W as -148.36 in 36.7.0
    (b"DZG", False, 3, -(1 << 23), -1, _WRAPPED),
    # DTZ541: the number is without a sign. Apollon77/ioBroker.smartmeter 306: 425 where it is -425 W
    (b"HLY", True, 8, 1, 1 << 62, _SIGN_LOST),
    # SGM-DD: -57 W as 53 00c7, atc1441/OBI 59. An SGM-C2 sends a right 145 W as 53 0091 beside 230.9 V and 0.73 A: so
    # only with the status of export, or where voltage times current is less than the number as sent
    (b"EFR", None, 2, 0x80, 0xFF, _LOW_BYTE),
)


def has_sign_fault(server_id):
    """Is this a DZG DVS74 that sends 1-0:16.7.0 as a signed number of 1 to 3 bytes though it means it unsigned?

    For telegrams without a status word that says it. By serial number only: its siblings outside these ranges send
    genuine negatives of the same width, and the faulty ones send theirs in 4 bytes. Source: volkszaehler/libsml issues
    59, 132 and 136; captures of both.
    """
    if not server_id or len(server_id) != 10 or server_id[:5] != b"\x0a\x01DZG":
        return False
    serial = int.from_bytes(server_id[5:10], "big")
    return 42000000 <= serial <= 48999999 or 55000000 <= serial <= 58999999


def _exports(status):
    """Does the status word say so? None where it has no known form."""
    return status & _FNN_EXPORT != 0 if status & 0xFF == _FNN else None


def power_meant(value, status):
    """What is meant by an unsigned 16.7.0 in tenths of a Wh: value, power of ten and unit.

    Honeywell's AS2020 gives it the unit and scaler of its energies, and says in the status word alone that it exports:
    mikrocontroller.net 538936, arendst/Tasmota 15886 and the script of its author. It stays as sent
    where the form of that word is not known.
    """
    exporting = _exports(status)
    if exporting is None:
        return value, -1, _WH
    return -value if exporting else value, 0, _W


class SignRules:
    """What holds for one telegram. `server_id` names its maker; `status` is the low two bytes of its status word;
    `instantaneous(c)` is the value of 1-0:c.7.0 in thousandths, None where it is not sent.
    """

    def __init__(self, server_id, status, instantaneous):
        exporting = _exports(status)
        self._maker = bytes(server_id[2:5])
        self._exporting = exporting
        self._instantaneous = instantaneous
        self._by_number = exporting is None and has_sign_fault(server_id)

    def meant(self, value, n, exponent, obis):
        """What is meant by the power `value` * 10**exponent that was sent in n bytes as a signed number."""
        if self._exporting is None:
            return value + (1 << 8 * n) if self._by_number and n < 4 and value < 0 and obis == _POWER else value
        for maker, exporting, most, least, highest, fault in _RULES:
            if maker != self._maker or n > most or not least <= value <= highest:
                continue
            if exporting is not None and exporting != self._exporting:
                continue
            if fault == _WRAPPED:  # of several phases one may export while all together import
                if obis == _POWER or self._instantaneous(_POWER_L2) is None:
                    return value + (1 << 8 * n)
            elif obis == _POWER:
                if fault == _SIGN_LOST:
                    return -value
                if self._exporting or self._is_beyond(value, exponent):
                    return value - 0x100
        return value

    def _is_beyond(self, value, exponent):
        """Is value * 10**exponent W more than voltage times current of all phases?"""
        limit = 0  # in millionths
        for c in range(0, 60, 20):
            volts, amperes = self._instantaneous(_VOLTAGE_L1 + c), self._instantaneous(_CURRENT_L1 + c)
            if (volts is None) != (amperes is None):
                return False
            if volts is not None:
                limit += volts * amperes
        return 0 < limit < value * 10 ** (exponent + 6) if exponent >= -6 else False
