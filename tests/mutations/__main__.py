"""Runs mutated inputs: ``python -m tests.mutations --count 10000000 --processes 2 --seed 1``; see CONTRIBUTING.md."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from random import Random

from tests.mutations.run import Tally, run_in_processes, run_inputs, table, write_failures
from tests.mutations.targets import make_input


def main() -> int:
    """Run the inputs; return 0 when none failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="number of inputs")
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same inputs")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, default=Path("mutations"), help="where failing inputs are written")
    parser.add_argument("--only", type=int, help="run this one input, in this process, and show its error")
    given = parser.parse_args()
    if given.only is not None:
        target, data = make_input(Random(), given.seed, given.only)
        print(f"{target.name}: {len(data)} bytes, {data[:200]!r}")
        start = time.thread_time()
        try:
            target.read(data)
        finally:
            print(f"{(time.thread_time() - start) * 1000:.1f} ms of CPU time")
        return 0
    # Once in this process: an error in a target itself is shown at once.
    run_inputs(given.seed, range(200), Tally())
    start = time.monotonic()
    tally = run_in_processes(given.seed, range(given.first, given.first + given.count), given.processes, show=True)
    for line in write_failures(given.folder, given.seed, tally):
        print(line)
    for line in table(tally):
        print(line)
    print(f"seed {given.seed}, {given.processes} processes, {time.monotonic() - start:.0f} s")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
