"""What is said of a DLMS meter that was asked in vain, in the order of metering.dlms.asked_values' REASONS.

Loaded for a moment.
"""

SENTENCES = (
    "the meter does not answer in HDLC: turn the head until its transmitter faces the meter's receiver; many meters "
    "want their own address, or mode=IEC (meter_options)",
    "the meter answers, but not with an identification line: move the head, keep light away",
    "the meter's identification names no rate for mode E: leave mode=IEC out",
    "the meter reads out by itself behind the acknowledge of mode E, and its data block came damaged: move the head",
    "the meter refuses the association (%s): it may want another client_address or a password",
    "the meter refuses the password or key (%s): it is not tried again for hours, as meters lock",
    "the conversation with the meter broke off: %s",
    "the meter lets this client read no register: it wants a client_address and a password of its operator's",
)
