"""Runs benchmarks and shows their tables: ``python -m bench [NAME …] [--quick] [--json FILE] [--write]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from rich.console import Console

from bench.report import Machine, print_result, write_document, write_json
from bench.result import Bench, Result
from schemas.errors import StandgaleError

NAMES = (
    "detector",
    "sahi",
    "merging",
    "rules",
    "raster",
    "rollout",
    "gateway",
    "attack",
    "video",
    "replay",
    "broker",
    "kafka",
    "pipeline",
    "detect",
    "postgres",
    "queries",
    "sse",
    "mqtt",
    "retention",
    "statistics",
    "lakefs",
)
_ROOT = Path(__file__).resolve().parent.parent
_RESULTS = _ROOT / "bench" / "results"
_DOCUMENT = _ROOT / "docs" / "performance.md"
_QUIET_LOAD = 0.5


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Holds the options of the command line."""

    names: tuple[str, ...]
    quick: bool
    json: Path | None
    write: bool


def _wanted(arguments: Sequence[str] | None) -> _Wanted:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure Standgale and what it is compared with."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)}; default all")
    parser.add_argument("--quick", action="store_true", help="smaller and less exact, a few minutes for all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results to FILE as well")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    found = parser.parse_args(arguments)
    unknown = [name for name in found.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; choose from {', '.join(NAMES)}")
    if found.quick and found.write:
        parser.error("--quick is not exact enough for the documentation; leave out one of --quick and --write")
    return _Wanted(tuple(found.names) or NAMES, found.quick, found.json, found.write)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; return 1 when a goal was missed or a benchmark could not run."""
    wanted, console = _wanted(arguments), Console()
    machine = Machine.now()
    if machine.load > _QUIET_LOAD:
        console.print(f"[yellow]load average {machine.load:.1f}: something else runs, so figures will be off[/yellow]")
    results: list[Result] = []
    failed = False
    for name in wanted.names:
        bench: Bench = import_module(f"bench.{name}").run
        try:
            with console.status(f"measuring {name} …"):
                result = bench(wanted.quick)
        except StandgaleError as error:
            console.print(f"[red]{name} could not be measured:[/red] {error}")
            failed = True
            continue
        print_result(console, result)
        write_json(_RESULTS / f"{name}.json", machine, [result])
        results.append(result)
    if wanted.json is not None:
        write_json(wanted.json, machine, results)
    if wanted.write:
        write_document(_DOCUMENT, machine, results)
    return 0 if not failed and all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
