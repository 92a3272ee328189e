"""What the guard held, in words. Loaded by metering.guard while somebody asks, and dropped again."""

from metering.obis import obis_text
from metering.reading import decimal_text

_NOTICE = (
    "%s became %d times what it was, %s after %s: held, as its scale has changed. Compare the display; if it shows the "
    "new one, restart the probe, and Home Assistant books the difference"
)

_FALL = "all counters fell and are held: %s; if so, restart the probe, and Home Assistant books the whole new reading"


def _code_text(code):
    return code if isinstance(code, str) else obis_text(code)


def explanation_of(reason, details):
    """One sentence: `reason` as in guard.REASONS, `details` as they were given to the guard's _hold()."""
    if reason == "other meter":
        return "meter %s instead of %s: waiting for it again" % details
    code = _code_text(details[0])
    details = details[1:]
    if reason == "no number":
        return "%s: %s is no number" % (code, details[0])
    if reason == "too many":
        return "%s is past the %d counters followed" % (code, details[0])
    if reason == "unit":
        return "%s came in another unit than before, or in none: restart the probe if it stays so" % code
    if reason == "scale":
        return "%s became %d times what it was: its scale has changed" % (code, details[0])
    number = decimal_text(details[0], details[1])
    if reason == "too much power":
        return "%s: %s is beyond the connection's %d W" % (code, number, details[2])
    if reason == "went back":
        later = decimal_text(details[2], details[3])
        return "%s fell from %s to %s: the higher one stands; restart the probe if the meter was reset" % (
            code,
            number,
            later,
        )
    _, _, seconds, most_w = details
    if most_w:
        most = "%d W can bring: waiting for the next telegram" % most_w
    else:
        most = "a house can use: waiting until it has stood for a while"
    return "%s rose by %s in %d s, more than %s" % (code, number, seconds, most)


def scale_notice(code, factor, new, last):
    """What the owner must decide where a counter's scale has changed; `new` and `last` are values of the guard's."""
    before, after = decimal_text(last.value, last.exponent), decimal_text(new.value, new.exponent)
    return _NOTICE % (_code_text(code), factor, after, before)


def fall_notice(is_model_only):
    """What the owner must decide where all of a meter's counters have fallen; `is_model_only`: it tells no number."""
    if is_model_only:
        return _FALL % "this may be another meter of the same model, as it tells no number"
    return _FALL % "the meter may have been reset"
