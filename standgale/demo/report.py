"""Prints the result of a demonstration: counts that must be equal, latencies, quality, and where files are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class OutputLocations:
    """Names the folders, files and addresses of a demonstration."""

    data_dir: Path
    frames: Path
    postgres_url: str
    broker: Path
    log: Path
    picture: Path | None = None
    """The frame with the most detections, with its boxes drawn; None when nothing was found."""


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Holds the result of one demonstration. Latencies are from the start of an upload to the event over SSE."""

    sent: int
    accepted: int
    refused: tuple[str, ...]
    detected: int
    in_postgres: int
    seen: int
    repeated: int
    detections: int
    p50_ms: float | None
    p95_ms: float | None
    recall: float | None
    precision: float | None
    places: OutputLocations
    trust: tuple[str, ...] = ()
    """How far the results on own pictures can be trusted, a sentence each."""

    @property
    def complete(self) -> bool:
        """Whether every frame that was sent was accepted, detected, stored in PostgreSQL and seen, once."""
        counts = {self.sent, self.accepted, self.detected, self.in_postgres, self.seen}
        return len(counts) == 1 and not self.repeated and not self.refused and self.sent > 0

    def as_json(self) -> dict[str, object]:
        """Return the report for scripts."""
        places = {name: None if value is None else str(value) for name, value in asdict(self.places).items()}
        return {**asdict(self), "places": places, "complete": self.complete}


def percentiles_ms(latencies_s: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the median and the 95th percentile in milliseconds; None if there is no latency."""
    if not latencies_s:
        return None, None
    p50, p95 = np.percentile(np.asarray(latencies_s) * 1_000, [50, 95])
    return float(p50), float(p95)


def print_report(console: Console, report: DemoReport) -> None:
    """Print the table at the end of `standgale demo`."""
    table = Table(title="Standgale demo", show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    table.add_row("frames sent", str(report.sent))
    table.add_row("accepted (202)", str(report.accepted))
    table.add_row("detected (topic detections)", str(report.detected))
    table.add_row("in PostgreSQL", str(report.in_postgres))
    table.add_row("seen over SSE", str(report.seen))
    table.add_section()
    table.add_row("detections", str(report.detections))
    table.add_row("upload to detection, p50", _ms(report.p50_ms))
    table.add_row("upload to detection, p95", _ms(report.p95_ms))
    table.add_row("recall at IoU 0.5", _share(report.recall))
    table.add_row("precision at IoU 0.5", _share(report.precision))
    console.print(table)
    for name, value in asdict(report.places).items():
        if name != "picture":
            console.print(f"  {name.replace('_', ' '):<13} {value}", soft_wrap=True, highlight=False, markup=False)
    if str(report.places.data_dir) in report.places.postgres_url:
        text = f"PostgreSQL has ended with the demo; to look into it: standgale up --data-dir {report.places.data_dir}"
        console.print(text, soft_wrap=True, highlight=False, markup=False)
    for line in report.trust:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if report.places.picture is None:
        console.print("Nothing was found in any frame, so there is no picture of a result.")
    else:
        console.print(f"A picture of a result: {report.places.picture}", soft_wrap=True, highlight=False, markup=False)
    if report.complete:
        console.print("Every frame reached every output exactly once.", style="green")
    else:
        console.print("The counts differ: something was lost, repeated or refused; see the log.", style="red")
        for refusal in sorted(set(report.refused)):
            console.print(f"  refused: {refusal}", highlight=False)


def _ms(value: float | None) -> str:
    return "—" if value is None else f"{value:.0f} ms"


def _share(value: float | None) -> str:
    return "no ground truth" if value is None else f"{value:.3f}"
