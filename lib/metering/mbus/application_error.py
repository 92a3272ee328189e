"""The error that a meter reports over M-Bus instead of records (CI 70), in words: loaded when one comes.

Source: EN 13757-3:2018, clause 10; libmbus f09d613 has the same ten.
"""

_WORDS = (
    "it does not say which",
    "it does not know what it was asked",
    "it was told too much",
    "too many records",
    "a record was cut off",
    "more than 10 DIFEs",
    "more than 10 VIFEs",
    "",
    "it is busy",
    "it was read too often",
)


def words(data):
    """Of what stands behind the CI: "code 09: it was read too often"."""
    if not data:
        return "without a code"
    code = data[0]
    text = _WORDS[code] if code < len(_WORDS) else ""
    return "code %02x%s" % (code, text and ": " + text)
