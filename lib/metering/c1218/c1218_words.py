"""What is said of a session with an ANSI C12.18 meter that failed, in the order of metering.c1218.c1218_poll's REASONS.
Loaded for a moment.
"""

SENTENCES = (
    "the meter does not answer: hold the head over its eye, and turn it",
    "the meter does not identify itself (%s): move the head, keep light away",
    "the meter's answers fail to come (%s): move the head, keep light away",
    "the meter refuses to go on: %s",
    "the meter tells nothing that is certain: %s, so that nothing is published",
    "the meter refuses the password: %s. It is not tried again for hours, as meters lock",
    "the meter address of such a meter is its user id, 0 to 65535, or user id:user of ten characters at most; "
    "the password has twenty at most",
)
