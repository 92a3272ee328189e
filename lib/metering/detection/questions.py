"""Asks: where nothing is heard a meter may wait for a question. Part of metering.detection.search_story, loaded while
it asks.
"""

from metering import protocols
from metering.compat import const
from metering.detection.candidates import Proven, line_words
from metering.line import SWITCH, Line

_READ_OUTS = const(6)
_MUTE_READ_OUTS = const(2)


def ask(detection, idle_lit):
    """Generator of line actions: the question of each protocol that has one, the gentlest first; what answers is read.

    `detection` is the metering.detection.search_story.Detection that asks: it has been given the proof then. Returns
    why there is none from a meter that answers, "" where nothing does.
    """
    explanation = ""
    asking = detection.asking
    asking.offers_mode_e = False
    for name in protocols.searched():
        detection.unload()
        probe = protocols.load_probe(name)
        if probe.question is None:
            continue
        detection.say("dark: asking by %s" % name.upper())
        answer = b""
        if not asking.wake_up:  # else its conversation asks, which knows how to wake it
            answer = yield from in_polarity(probe.question(asking.address), idle_lit, detection)
            name = probe.answered_by(answer)
            asking.offers_mode_e = _may_speak_mode_e(bytes([byte & 0x7F for byte in answer]))
        probe = None
        if name:
            explanation = (yield from _read_out(detection, idle_lit, name, answer)) or explanation
        if detection.proven is not None:
            return ""
        detection.say(explanation or "dark: no light comes from the meter, and it does not answer")
    return explanation


def _may_speak_mode_e(answer):
    """Does an identification in `answer` offer HDLC (\\2), or is it of a maker whose meters speak it unsaid (Itron)?"""
    return answer.find(b"\\2") >= 0 or answer.find(b"/ACE") >= 0 or answer.find(b"/ITR") >= 0


def _read_out(detection, idle_lit, name, answer):
    """The proof of an answer: what the conversation of protocol `name` reads. Returns why it is none, "" where it is
    one or nothing answers any more."""
    _, conversation = detection.load(name, True)
    for _ in range(_READ_OUTS):  # one that answers may have to be read at a lower rate
        conversation.answers = False
        if (yield from in_polarity(conversation.read_out(answer), idle_lit, None if answer else detection)):
            detection.say("answers when asked: %s, %s" % (line_words(detection.line), name.upper()))
            detection.prove(Proven(name, detection.line), True)
            return ""
        if not conversation.answers:
            return ""
        answer = b""
        if detection.asking.offers_mode_e and conversation.failed["no data"] == _MUTE_READ_OUTS:
            return conversation.explanation  # it speaks in mode E alone
    detection.asking.offers_mode_e = False
    return conversation.explanation


def in_polarity(actions, idle_lit, detection):
    """Generator of the same line actions for a receiver whose level is the idle one's; the first line they switch to
    is what `detection`, if not None, tells of."""
    answer = None
    while True:
        try:
            action = actions.send(answer)
        except StopIteration as end:
            return end.value
        if action[0] == SWITCH:
            line = action[1]
            line = Line(line.baud, line.bits, line.parity, line.stop, line.invert != idle_lit)
            action = SWITCH, line
            if detection is not None:
                detection.line = line
                detection = None
        answer = yield action
