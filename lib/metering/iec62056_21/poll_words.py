"""What is said of a meter that was asked in vain, in the order of metering.iec62056_21.poll's REASONS.

Loaded for a moment.
"""

SENTENCES = (
    "the meter does not answer: turn the head until its transmitter faces the meter's receiver; "
    "some meters want their number (meter address), battery meters a wake-up",
    "the meter answers, but not with an identification line: move the head, keep light away",
    "the meter identifies itself, but sends no data block%s",
    "the data block at %d baud was damaged %d times (%s): move the head, keep light away",
    "the meter refuses the password: it is not tried again for hours, as meters lock",
    "%s: it is read as a whole",
    # how "no data" ends: of a meter that nothing is known of, and of one that offers mode E
    ": what it sends can be recorded (Capture)",
    ": it speaks DLMS (mode E), set protocol dlms-client and meter_options mode=IEC",
)
