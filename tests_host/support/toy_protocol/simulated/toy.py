"""Simulated meters of the tests' protocol: one that pushes, one that is asked."""

from support.toy import ToyMeter

METERS = {"toy": "toy", "toy-asked": "toy that is asked"}
QUIRKS = {"slow": "a telegram each 3 s"}


def make(name, quirks, *, seed=1):
    return ToyMeter(0.0 if name == "toy-asked" else 3.0 if "slow" in quirks else 0.5)
