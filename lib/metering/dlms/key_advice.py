"""What the owner can do about a telegram that cannot be read for want of a key. Loaded with the first of them."""

from metering.compat import const

_AUTHENTICATED = const(0x10)


def advice_for(reason, detail, title, control):
    """One sentence, "" where no key is the `reason`. `title` as of Security.title_text(), `control`: SC."""
    if reason == "key needed":
        return "key needed: the meter encrypts (%s), enter its key as meter_key" % title
    if reason in ("key wrong", "tag"):
        if not control & _AUTHENTICATED:
            detail = "its telegrams carry no tag, so a wrong key shows as noise"
        return "meter_key or meter_auth_key is wrong (%s): %s" % (title, detail)
    if reason == "security":
        return "the meter's telegrams are protected in another way (%s): %s" % (title, detail)
    if reason == "replay":
        cure = "a replay; if the meter was reset, delete counters.json"
        return "the meter's counter went back (%s): %s" % (title, cure)
    return ""
