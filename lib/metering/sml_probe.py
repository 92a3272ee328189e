"""What a search must know of SML: see metering.protocols."""

question = None  # meters push it


def signature(data, n, begun):
    """Is there an escape sequence in data[:n]? It begins and ends each telegram (BSI TR-03109-1 IV, 8.2)."""
    return data.find(b"\x1b\x1b\x1b\x1b", 0, n) >= 0
