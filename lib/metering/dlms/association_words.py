"""How a meter refuses an association, in words (DLMS UA 1000-2, 9.4.2; ISO 8650). Loaded for a moment, and dropped."""

_RESULTS = ("accepted", "refused for good", "refused for now")
_OF_USER = (
    "", "no reason given", "application context not supported",
    "AP title", "AP invocation identifier", "AE qualifier", "AE invocation identifier",  # calling, of ours
    "AP title", "AP invocation identifier", "AE qualifier", "AE invocation identifier",  # called, of the meter's
    "authentication mechanism not recognised", "authentication mechanism required", "authentication failed",
    "authentication required",
)  # fmt: skip
_OF_PROVIDER = ("", "no reason given", "no common version of the association's protocol")
_OF_INITIATE = (
    "another reason", "its version of DLMS is another", "it can do nothing of what is asked for",
    "our PDUs are too small for it", "its virtual device refuses",
)  # fmt: skip
_MECHANISMS = ("None", "Low", "High", "HighMd5", "HighSha1", "HighGmac", "HighSha256", "HighEcdsa")


def verdict(association):
    """Of an answer to an association: "accepted", or how and why it is refused."""
    result, number = association.result, association.diagnostic
    text = _RESULTS[result] if 0 <= result < len(_RESULTS) else "refused (result %d)" % result
    words = _OF_PROVIDER if association.by_provider else _OF_USER
    if number >= len(words):
        why = "diagnostic %d%s" % (number, " of the provider" if association.by_provider else "")
    else:
        why = words[number]
        if 3 <= number <= 10:
            why = "%s %s not recognised" % ("called" if number > 6 else "calling", why)
    error = association.detail
    if error >= 0:
        error = _OF_INITIATE[error] if error < len(_OF_INITIATE) else "initiate error %d" % error
        why = why + ", " + error if why else error
    if why and association.mechanism:
        why += ", by mechanism " + mechanism_text(association.mechanism)
    return "%s: %s" % (text, why) if why else text


def mechanism_text(number):
    """An authentication mechanism by number and name."""
    return "%d, %s" % (number, _MECHANISMS[number]) if number < len(_MECHANISMS) else "%d" % number
