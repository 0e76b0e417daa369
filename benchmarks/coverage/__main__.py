"""Simulate studies with known differences, and report how often a verdict is wrong.

`python -m benchmarks.coverage` writes benchmarks/COVERAGE.md. It takes a quarter of an hour; with `--studies 200` less
than a minute, but the rates are less exact.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.coverage import diverged, gate, images, later, races, studies
from benchmarks.coverage.shared import LEVEL, MARGIN, Section
from many_seeds.commands import console
from many_seeds.errors import UserError
from stages.study import files

REPORT = Path("benchmarks/COVERAGE.md")
QUESTIONS = (studies, later, races, diverged, images, gate)


def page(sections: Sequence[Section], count: int) -> str:
    error = 100 * 1.96 * (LEVEL * (1 - LEVEL) / count) ** 0.5
    introduction = f"""\
# How often is a verdict wrong?

Simulated studies with known true differences, {count:,} for each row, written by
`python -m benchmarks.coverage --studies {count}`. All differences are in percentage points.

- Wrong verdict: the share of studies with any wrong verdict, such as *equivalent* for a difference equal to the margin,
  {MARGIN:g}. Guaranteed: {100 * LEVEL:g} % at most; larger values are in bold. Simulation error: ± {error:.1f} at 5 %.
- Null: no variant differs from another, so *better* and *worse* are wrong."""
    return "\n".join([introduction, "", *map(str, sections)])


@console.command
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.coverage",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--studies", type=int, default=10_000, help="studies of each kind (default: 10,000)")
    count = parser.parse_args().studies
    if count < 1:
        raise UserError(f"expected --studies of 1 or more, received {count}")
    sections = []
    for question in QUESTIONS:
        start = time.monotonic()
        found = question.sections(count)
        for section in found:
            print(section.title)
        print(f"{time.monotonic() - start:.0f} s", flush=True)
        sections += found
    files.write_bytes(REPORT, page(sections, count).encode())
    print(f"written: {REPORT}")


if __name__ == "__main__":
    main()
