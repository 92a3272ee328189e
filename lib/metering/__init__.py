"""The metering core: bytes from a meter's optical port in, exact readings out.

Knows no hardware, no clock and no network; the same files run on MicroPython and on CPython.
"""
