"""Which registers a meter refuses, kept over restarts: [[check, number, refused], what metering.dlms.kept_names has].

It belongs to one meter and to the registers that are wanted: `check` is a CRC over all of it. `memory`: (load, save),
as metering.dlms.client's keep_by() has them. What is kept may be anything. Loaded for a moment, which drops it.
"""

from metering.checksum import X25_INIT, crc16
from metering.compat import const, hex_text
from metering.dlms.hdlc import X25_TABLE
from metering.unload import unload

_UNKNOWN = const(0)  # as metering.dlms.asked_registers has them
_REFUSED = const(2)
_LONGEST = const(64)  # of a number


def kept_parts(memory):
    """The two parts, [] for what is of no use."""
    record = memory[0]()
    if not isinstance(record, list) or len(record) != 2:
        return [[], []]
    return [part if isinstance(part, list) else [] for part in record]


def check_of(*texts):
    crc = X25_INIT
    for text in texts:
        crc = crc16(text, crc, X25_TABLE)
    return crc


def _part_of(wanted, number, refused):
    codes = b"".join([wanted.code(k) for k in range(wanted.n)])
    return [check_of(wanted.jobs, codes, number, refused), hex_text(number), refused.decode()]


def recall_refused(memory, wanted, number):
    """What the meter `number` has refused before is not asked for: marks it in `wanted` (asked_registers' Wanted)."""
    part = kept_parts(memory)[0]
    refused = part[2] if len(part) == 3 and isinstance(part[2], str) else ""
    if len(refused) == wanted.n and part == _part_of(wanted, number, refused.encode()):
        wanted.is_kept = True
        if wanted.jobs and "x" in refused:
            wanted.told = "the meter has refused registers of obis_job: they are asked for again after a day"
        for k in range(wanted.n):
            if refused[k] == "x" and wanted.states[k] == _UNKNOWN:
                wanted.states[k] = _REFUSED
    unload("metering.dlms.meter_memory")


def keep_refused(memory, wanted, number):
    """What the meter refuses now is kept; nothing is written that stands there."""
    refused = bytearray(b"." * wanted.n)
    for k in range(wanted.n):
        if wanted.states[k] == _REFUSED:
            refused[k] = 0x78
    part = _part_of(wanted, number, bytes(refused))
    parts = kept_parts(memory)
    if part != parts[0] and len(number) <= _LONGEST:
        memory[1]([part, parts[1]])
    wanted.is_kept = True
    unload("metering.dlms.meter_memory")
