"""Knocks: who is there that neither pushes nor answers a sign-on? Part of metering.detection.search_story, loaded for
a moment behind its questions. A knock takes less than a second and holds no password.

Whoever answers is read by its own conversation, and that alone is a proof; but for a meter whose owner has set a
password: it is left for who reads it then. Where an identification offered mode E (\\2) and no data block came, the
sign-on is made again, by who speaks behind one.
"""

from metering import protocols
from metering.compat import const
from metering.detection.candidates import Proven, line_words
from metering.detection.questions import in_polarity
from metering.line import SWITCH, WAIT, Line

_READ_OUTS = const(2)
_MODE_E_READ_OUTS = const(4)
_MODE_E_REST_MS = const(4000)  # of a meter that waits for the other side of mode C, and is deaf for a sign-on


def ask_others(detection, idle_lit):
    """Generator of line actions: knocks, and reads who answers; returns how many knocks were not answered. `detection`
    as in metering.detection.questions.ask().
    """
    asking = detection.asking
    is_awake = asking.is_awake()
    if is_awake:  # once a day
        asking.verdict = ""
    n = 0
    for name in protocols.knocked_for():
        detection.unload()
        knock = protocols.load_knock(name)
        advice, on_battery, sign_on = knock.ADVICE, knock.ON_BATTERY, knock.SIGN_ON
        if asking.offers_mode_e:
            knock = None
            if sign_on and not asking.verdict:
                yield from _sign_on(detection, idle_lit, name, advice, sign_on)
        elif is_awake if on_battery else not asking.verdict:
            line = Line(knock.LINE[0], 8, knock.LINE[1], knock.LINE[2])
            detection.line = Line(knock.LINE[0], 8, knock.LINE[1], knock.LINE[2], idle_lit)
            is_there = asking.wake_up and knock.WAKES  # its conversation knows how
            if not is_there:
                is_there = yield from in_polarity(_on(line, knock, asking), idle_lit, None)
            knock = None  # who reads has code of its own
            tries = _READ_OUTS if on_battery else 1
            if is_there and (yield from _read_out(detection, idle_lit, name, advice, tries, line)):
                break
            n += 1
        if detection.proven is not None:
            break
    if asking.verdict and detection.proven is None:
        detection.say(asking.verdict)
    return n


def _on(line, knock, asking):
    yield SWITCH, line
    return (yield from knock.knock(asking))


def _sign_on(detection, idle_lit, name, advice, options):
    for _ in range(_MODE_E_READ_OUTS):
        yield WAIT, _MODE_E_REST_MS
        if (yield from _read_out(detection, idle_lit, name, advice, 1, None, options)):
            return


def _read_out(detection, idle_lit, name, advice, tries, line, options=""):
    """Generator of line actions: what the conversation of protocol `name` reads, on `line`, behind a sign-on if that is
    None. Is it proven, or told why not?"""
    asking = detection.asking
    detection.say("asking by %s" % name.upper())
    listener, conversation = detection.load(name, True)
    listener.line = line
    conversation.password_withheld = True
    if line is None:
        conversation.take_options((asking.options + " " + options).strip())
    for _ in range(tries):
        conversation.answers = False
        actions = conversation.read_out()
        has_read = yield from in_polarity(actions, idle_lit, detection if line is None else None)
        wants_password = advice and conversation.answers and not conversation.failures
        if has_read or wants_password:
            conversation.password_withheld = False
            detection.say("answers when asked: %s, %s" % (line_words(detection.line), name.upper()))
            if not has_read:
                detection.listener = None
            detection.prove(Proven(name, detection.line), has_read)
            return True
        if not conversation.answers:
            return False
    asking.verdict = advice % conversation.explanation if advice else conversation.explanation
    return True
