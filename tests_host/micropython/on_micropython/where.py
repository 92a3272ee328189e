"""Prints which implementation runs this, the bits of a machine word, and the file the SML core came from."""

import sys

from metering import sml


def word_bits():
    bits = 1  # the sign
    value = sys.maxsize
    while value:
        bits += 1
        value >>= 1
    return bits


print(sys.implementation.name, word_bits(), sml.__file__)
