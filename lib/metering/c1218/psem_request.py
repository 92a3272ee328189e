"""What is asked of a meter in ANSI C12.18: these eight services read, and no other is encoded here.

Source: ANSI C12.18-2006, 4.2. Writing (4F, 40) and procedures, which are writes to table 7, do not exist in this code.
"""

from metering.compat import const

IDENT = b"\x20"
TERMINATE = b"\x21"
LOGOFF = b"\x52"

_NEGOTIATE = const(0x60)  # without a rate: this one stays
_READ = const(0x30)
_READ_PART = const(0x3F)
_LOGON = const(0x50)
_SECURITY = const(0x51)
_USER_BYTES = const(10)
_PASSWORD_BYTES = const(20)

_REFUSALS = (
    "an error that it does not explain (err)",
    "it does not know this service (sns)",
    "its security does not allow it (isc)",
    "this operation is not possible (onp)",
    "this action is inappropriate now (iar)",
    "it is busy (bsy)",
    "its data are not ready (dnr)",
    "its data are locked (dlk)",
    "it wants the session begun anew (rno)",
    "the service does not fit the state of the session (isss)",
)


def refusal(code):
    """Why, in words, where an answer begins with `code`; "" for 0, all is well."""
    if not code:
        return ""
    return _REFUSALS[code - 1] if code <= len(_REFUSALS) else "code %02x" % code


def logon(user_id, user):
    """`user_id` 0 to 65535; `user` at most ten bytes."""
    return bytes((_LOGON, user_id >> 8, user_id & 0xFF)) + (user + b" " * _USER_BYTES)[:_USER_BYTES]


def security(password):
    """`password` at most twenty bytes. A shorter one ends in zeros, as termineter 1.0.6 sends it: the standard does not
    say, and the captured one has all twenty. Whose meter wants blanks sets them with the password."""
    return bytes((_SECURITY,)) + (password + bytes(_PASSWORD_BYTES))[:_PASSWORD_BYTES]


def negotiate(packet_bytes, packets):
    """So long packets, head and CRC counted, and so many for a reply may come."""
    return bytes((_NEGOTIATE, packet_bytes >> 8, packet_bytes & 0xFF, packets))


def agreed(reply):
    """Bytes of data that a reply to negotiate() lets come at once, 0 for none."""
    if len(reply) < 4 or reply[0]:
        return 0
    return max(0, (reply[1] << 8 | reply[2]) - 8) * reply[3]


def read(table):
    return bytes((_READ, table >> 8, table & 0xFF))


def read_part(table, offset, count):
    """`count` bytes of the table from `offset` on."""
    at = offset.to_bytes(3, "big")
    return bytes((_READ_PART, table >> 8, table & 0xFF)) + at + bytes((count >> 8, count & 0xFF))


def table_data(reply):
    """The table's bytes in a reply to read() or read_part(); None where length or checksum are wrong.

    00 | count, two bytes | the bytes | two's complement of their sum
    """
    if len(reply) < 4 or reply[0]:
        return None
    count = reply[1] << 8 | reply[2]
    if len(reply) != count + 4 or (sum(reply) - reply[1] - reply[2]) & 0xFF:
        return None
    return reply[3:-1]
