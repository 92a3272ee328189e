"""Prints the table of the search's matrix: `python tests_host/support/detection_table.py [phases]` (8 in the docs).

Measured: time to the first reading, till the meter is asked, or from its third pulse on. The targets are a period and
3 s, 12 s, and 3 s. Ends with 1 where a cell is not right.
"""

import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]  # for a command; pytest has its own

from support.detection_matrix import ROWS, Cell, Row, cells, run_cell  # noqa: E402


def measured(row: Row, cell: Cell) -> tuple[float, float]:
    """(what is measured, what it should not exceed)."""
    assert cell.first_s is not None
    if not row.period_s:
        assert cell.asked_s is not None
        return cell.asked_s, row.asked_s
    if row.kind == "blink":
        assert cell.third_s is not None
        return cell.first_s - cell.third_s, 3.0
    return cell.first_s, row.period_s + 3


def line_of(name: str, n: int, right: list[Cell]) -> str:
    """The table's line of a row of which `n` cells were run."""
    row = ROWS[name]
    line = f"{name:20} {n:5} {len(right):5} |"
    if not right:
        return line
    first = [cell.first_s for cell in right if cell.first_s is not None]
    times = [measured(row, cell)[0] for cell in right]
    target = measured(row, right[0])[1]
    line += f" {statistics.median(first):9.2f} {max(first):9.2f} |"
    line += f" {statistics.median(times):8.2f} {max(times):8.2f} {target:6.1f}"
    clean = [measured(row, cell)[0] for cell in right if cell.condition == "clean"]
    return line + (f"  clean: {max(clean):.2f}" if clean and max(clean) > target else "")


def _run(cell: tuple[str, bool, str, int]) -> Cell | str:
    """The cell, or in a sentence what is wrong with it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            return run_cell(Path(folder), *cell)
        except AssertionError as error:
            return f"{cell}: {error}"


def main(phases: int) -> int:
    wanted = cells(phases)
    with ProcessPoolExecutor() as pool:
        done = list(zip(wanted, pool.map(_run, wanted, chunksize=8), strict=True))
    print(f"{'meter':20} {'cells':>5} {'right':>5} | {'first reading, s':^19} | {'as measured, s':^24}")
    print(f"{'':20} {'':5} {'':5} | {'median':>9} {'worst':>9} | {'median':>8} {'worst':>8} {'target':>6}")
    for name in ROWS:
        its = [cell for (row, *_), cell in done if row == name]
        print(line_of(name, len(its), [cell for cell in its if isinstance(cell, Cell)]))
    wrong = [cell for _, cell in done if isinstance(cell, str)]
    print(f"{len(done)} cells, {len(done) - len(wrong)} right", *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
