"""Data-access-results in words (DLMS UA 1000-2, 9.5). Loaded for a moment where a meter refuses something."""

_NUMBERS = b"\x01\x02\x03\x04\x09\x0b\x0c\x0d\x0e\x0f\x10\x13\xfa\xfb"
_TEXTS = (
    "hardware fault", "temporary failure", "access denied", "object undefined", "class inconsistent",
    "object unavailable", "type unmatched", "scope of access violated", "data block unavailable",
    "long reading aborted", "no long reading in progress", "block number invalid", "other reason",
    "data of an odd type",
)  # fmt: skip


def result_text(result):
    """A data-access-result; 251 is one of our own."""
    k = _NUMBERS.find(bytes((result,)))
    return _TEXTS[k] if k >= 0 else "result %d" % result


def register_refusal(code, result):
    """In a sentence: the register `code` is not to be had."""
    name = ".".join([str(part) for part in code])
    return "the meter gives no %s (%s): it is asked for again after a day" % (name, result_text(result))
