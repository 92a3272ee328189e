"""Which rate light is of: the UART as a sampler. Part of metering.detection.search_story, loaded while it samples."""

from metering.compat import const

SAMPLE_BAUDS = (345600, 115200, 28800, 7200, 1800)  # three times a rate, six times half of it
_USUAL = const(2)
_RUNS = const(12)  # of light that are enough to tell; where there is more time, twice as many


class LightRuns:
    """The UART as a sampler of light: it receives 8N1 at SAMPLE_BAUDS[index], so that the zeros behind a start bit tell
    how long the light was: 2, 5 and 8 of them for one, two and more bits of a third of that rate, 5 and 8 of a sixth.
    """

    def __init__(self):
        self._runs = [0] * 9  # [zeros]: how many bytes had so many
        self.count = 0
        self.index = _USUAL

    def start(self, index):
        """Sample at the rate that is returned; what was seen before is forgotten."""
        self.index = index
        self.count = 0
        for zeros in range(len(self._runs)):
            self._runs[zeros] = 0
        return SAMPLE_BAUDS[index]

    def add(self, data, start, end):
        """Take the bytes data[start:end]; True when there are enough for a verdict. Allocates nothing."""
        for i in range(start, end):
            zeros = 0
            while zeros < 8 and not data[i] >> zeros & 1:
                zeros += 1
            self._runs[zeros] += 1
        self.count += end - start
        return self.count >= (_RUNS if self.index <= _USUAL else 2 * _RUNS)

    def verdict(self, rejected_baud):
        """The rate, but not `rejected_baud`; -1 - index of the sample to take next where it was too fast or too slow a
        one; 0 where no sample can tell.

        A rate needs four fifths of the runs on its comb, and an eighth or a sixth of them as short as a bit.
        """
        runs, n = self._runs, self.count
        baud = SAMPLE_BAUDS[self.index]
        for late in (0, 1, -1):  # a slow receiver makes all of them longer, a weak light shorter
            one, two = runs[2 + late], runs[5 + late]
            more = runs[8] + (runs[7] if late < 0 else 0)
            if 8 * one >= n and 5 * (one + two + more) >= 4 * n and baud // 3 != rejected_baud:
                return baud // 3
            if 6 * two >= n > 12 * one and 5 * (two + more) >= 4 * n and baud // 6 != rejected_baud:
                return baud // 6
        if 5 * runs[8] >= 4 * n:
            return -2 - self.index if _USUAL <= self.index < len(SAMPLE_BAUDS) - 1 else 0
        return -self.index if 0 < self.index <= _USUAL else 0
