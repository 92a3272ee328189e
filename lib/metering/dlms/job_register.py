"""A register that the owner names in obis_job: its class is found out once. Loaded where there are such ones.

    class                  value                    scaler and unit
    3 register             2                        3
    4 extended register    2                        3
    5 demand register      2 now, 3 last period     4
    1 data                 2                        none
"""

from metering.compat import const, signed
from metering.dlms.getter import LOST
from metering.reading import Reading

_LATER = const(2)  # data-access-results
_UNDEFINED = const(4)
_ODD = const(251)
_NO_UNIT = const(255)
_KINDS = b"\x03\x04\x05\x01"
_SCALES = b"\x03\x03\x04\x00"  # of these, the attribute; 0 for none


def read(getter, wanted, k, listener):
    """Read register `k` of `wanted`, a Wanted, and note its value: 0, LOST or a data-access-result."""
    code, attribute = wanted.code(k), wanted.jobs[7 * k + 6]
    if not wanted.kinds[k]:
        result = yield from _find(getter, wanted, k, attribute)
        if result:
            return result
    result = yield from getter.get(wanted.kinds[k], code, attribute)
    if result:
        return result
    value, exponent = getter.value(), getter.exponent
    if value is not None:
        if not getter.is_nothing() and wanted.difference(k, value):
            result = yield from _find(getter, wanted, k, attribute)
            if result:
                return result
        unit = wanted.units[k]
        exponent += signed(wanted.exponents[k], 8)
        listener.note(Reading(code, value, exponent, None if unit == _NO_UNIT else unit))
        return 0
    value = getter.text()
    if not value:
        return _LATER if getter.is_nothing() else _ODD
    listener.note(Reading(code, value))
    return 0


def _find(getter, wanted, k, attribute):
    result = _UNDEFINED
    for i in range(len(_KINDS)):
        scale = _SCALES[i]
        if attribute == scale:
            continue
        result = yield from getter.get(_KINDS[i], wanted.code(k), scale or attribute)
        if result in (LOST, _LATER):
            return result
        if result:
            continue
        wanted.exponents[k], wanted.units[k] = 0, _NO_UNIT
        if scale and attribute <= 3:
            if not getter.take(wanted, k):
                return _ODD
        wanted.kinds[k] = _KINDS[i]
        return 0
    return result
