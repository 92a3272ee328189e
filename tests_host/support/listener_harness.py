"""Drives a listener as its driver does and keeps what it made of a stream; what no stream may do to it is asserted."""

from metering.listener import NOTHING, REJECTED, TELEGRAM


class Heard:
    """What `listener` made of `chunks`: `telegrams` (lists of row(reading)), `offsets`, `rejected` ((reason, offset)).

    `finish`: the stream has ended with them.
    """

    def __init__(self, listener, chunks, row, finish=False):
        self.listener = listener
        self.telegrams, self.offsets, self.rejected = [], [], []
        self._row = row
        good, refused, fed = listener.accepted, sum(listener.rejected.values()), 0
        for chunk in chunks:
            at = 0
            while at < len(chunk):
                taken = listener.feed(chunk, at, len(chunk))
                assert taken > 0, "a stall: nothing is due and nothing is taken"
                at += taken
                fed += taken
                self._drain(fed)
        if finish:
            listener.finish()
            self._drain(fed)
        assert listener.accepted - good == len(self.telegrams)
        assert sum(listener.rejected.values()) - refused == len(self.rejected)

    def _drain(self, fed):
        listener = self.listener
        while (event := listener.next_event()) != NOTHING:
            if event == TELEGRAM:
                self.note()
                assert listener.n_values == len(self.telegrams[-1])
            else:
                assert event == REJECTED
                assert listener.reason in listener.REASONS and listener.detail
                self.rejected.append((listener.reason, listener.offset))
            # every event gives up a byte at least, so no stream has more events than bytes
            assert len(self.telegrams) + len(self.rejected) <= fed + 4096, "events without progress"

    def note(self):
        """Keep what is asked of a telegram in hand."""
        self.telegrams.append([self._row(reading) for reading in self.listener.readings()])
        self.offsets.append(self.listener.offset)

    @property
    def reasons(self):
        return [reason for reason, _ in self.rejected]


def in_pieces(data, step):
    """`data` cut every `step` bytes; None: whole."""
    return [data[k : k + step] for k in range(0, len(data), step)] if step else [data]
