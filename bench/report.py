"""Shows results as tables on the terminal, as JSON, and between markers in the documentation."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Self

import orjson
import psutil
from rich.console import Console
from rich.table import Table

from bench.result import RATIO, Figure, Result
from schemas.errors import StandgaleError
from schemas.timestamps import format_utc

_PACKAGES = ("openvino", "onnxruntime", "numpy", "uvicorn", "uvloop", "aiokafka", "asyncpg")
MACHINE = "machine"
"""The name of the markers around the description of the machine."""


class MarkersError(StandgaleError):
    """A document has no place for a table."""

    code = "MARKERS_MISSING"


@dataclass(frozen=True, slots=True)
class Machine:
    """Says where and when something was measured."""

    measured_at: str
    processor: str
    cores: int
    memory_gb: float
    system: str
    python: str
    versions: dict[str, str]
    load: float

    @classmethod
    def now(cls) -> Self:
        """Return this machine; ``load`` is its load average over the last minute, which should be near 0."""
        return cls(
            measured_at=format_utc(datetime.now(UTC)),
            processor=_processor(),
            cores=psutil.cpu_count() or 1,
            memory_gb=psutil.virtual_memory().total / 1e9,
            system=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
            python=platform.python_version(),
            versions={name: version(name) for name in _PACKAGES},
            load=psutil.getloadavg()[0],
        )

    def as_markdown(self) -> str:
        """Return one paragraph."""
        packages = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return (
            f"Measured {self.measured_at[:16].replace('T', ' ')} UTC on {self.cores} cores of {self.processor}, "
            f"{self.memory_gb:.0f} GB of memory, {self.system}; load average at the start {self.load:.1f}. "
            f"Python {self.python}; {packages}."
        )


def _processor() -> str:
    """Return the processor's name; platform.processor() is empty or vague on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def print_result(console: Console, result: Result) -> None:
    """Print one table."""
    table = Table(title=result.title, title_justify="left")
    table.add_column("")
    table.add_column("measured", justify="right")
    table.add_column("goal", justify="right")
    for figure in result.figures:
        colour = {True: "green", False: "red", None: ""}[figure.passed]
        shown = show(figure)
        table.add_row(figure.name, f"[{colour}]{shown}[/{colour}]" if colour else shown, show_goal(figure))
    console.print(table)
    if any(figure.value is None for figure in result.figures):
        for note in result.notes:
            console.print(note, style="dim")


def write_json(path: Path, machine: Machine, results: Sequence[Result]) -> None:
    """Write ``results`` and their machine as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {"machine": machine, "results": [result.as_json() for result in results]}
    path.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))


def write_document(path: Path, machine: Machine, results: Sequence[Result]) -> None:
    """Write each result's table between its markers in ``path``. Raises MarkersError when there are none."""
    text = path.read_text(encoding="utf-8")
    for result in results:
        text = between_markers(text, result.name, markdown(result, machine))
    path.write_text(between_markers(text, MACHINE, machine.as_markdown()), encoding="utf-8")


def between_markers(text: str, name: str, content: str) -> str:
    """Return ``text`` with ``content`` between ``<!-- bench:name -->`` and ``<!-- /bench:name -->``."""
    first, last = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    before, found, rest = text.partition(first)
    _, closed, after = rest.partition(last)
    if not found or not closed:
        raise MarkersError(f"the document has no {first} … {last}; put both where the table belongs")
    return f"{before}{first}\n{content.strip()}\n{last}{after}"


def markdown(result: Result, machine: Machine) -> str:
    """Return the table of ``result``, its notes, and the command that measures it again."""
    lines = ["| figure | measured | goal |", "| --- | ---: | ---: |"]
    for figure in result.figures:
        mark = {True: " ✓", False: " ✗", None: ""}[figure.passed]
        lines.append(f"| {figure.name} | {show(figure)} | {show_goal(figure)}{mark} |")
    notes = "".join(f"\n{note}\n" for note in result.notes)
    return "\n".join(lines) + f"\n\n`{result.command}`, {machine.measured_at[:10]}\n{notes}"


def show(figure: Figure) -> str:
    """Return the value with its unit: ratios with two decimals, large numbers without; or that there is none."""
    if figure.value is None:
        return "not measured"
    return f"{_number(figure.value, figure.unit)} {figure.unit}"


def show_goal(figure: Figure) -> str:
    """Return the goal as text, or nothing."""
    if figure.goal is None:
        return ""
    sign = "≥" if figure.goal.kind == "at least" else "<"
    return f"{sign} {_number(figure.goal.bound, figure.unit)} {figure.unit}"


def _number(value: float, unit: str) -> str:
    if unit == RATIO:
        return f"{value:.2f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"
