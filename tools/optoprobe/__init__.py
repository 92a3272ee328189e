"""optoprobe: the host command, the virtual line and the virtual board around the metering core.

    import optoprobe
    for telegram in optoprobe.decode(data):     # the bytes of a capture, in whatever pieces the meter's light gave
        if isinstance(telegram, optoprobe.Telegram):
            print(telegram.meter_id, [(r.obis, r.value, r.unit) for r in telegram.readings])

Importing this costs little: what a subcommand needs beyond the core is imported when it runs.
"""

from .decoding import Register, Rejected, Telegram, decode

__version__: str
__all__ = ["Register", "Rejected", "Telegram", "decode"]


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module 'optoprobe' has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version  # it takes 40 ms, and decoding does not ask

    try:
        return version("optoprobe")
    except PackageNotFoundError:
        return "unknown"
