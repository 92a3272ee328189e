"""What is said of a read-out by LIS-200 that failed, in the order of metering.iec62056_21.lis200_poll's REASONS. Loaded
for a moment.
"""

SENTENCES = (
    "the meter does not answer: turn the head until its transmitter faces the meter's receiver; "
    "some want a wake-up (wake_up), some a key pressed first",
    "the meter answers, but not with the identification of a corrector that speaks LIS-200 (Els, then EK2, DL2 or "
    "TC2): set protocol to auto",
    "the meter identifies itself, but does not enter its programming mode: move the head, keep light away",
    "the meter's answers were damaged: move the head, keep light away",
    "",
    "the meter refuses to tell its values (%s)%s",
)
