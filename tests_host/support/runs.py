"""How often random tests draw: OPTOPROBE_TIMES=4 has them draw four times as often as by default."""

import os


def times(n: int) -> int:
    return n * int(os.environ.get("OPTOPROBE_TIMES", "1"))
