"""Checks what the report at the end of the demonstration says about its places."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from standgale.demo.report import DemoReport, OutputLocations, print_report


@pytest.mark.parametrize(
    ("url", "ended"),
    [("postgresql://a@/b?host=/data/demo/postgres/socket", True), ("postgresql://a@db.example/b", False)],
)
def test_report_names_the_command_that_starts_an_embedded_database(
    capsys: pytest.CaptureFixture[str], url: str, ended: bool
) -> None:
    data = Path("/data/demo")
    places = OutputLocations(data, data / "frames", url, data / "broker.sqlite", data / "log")
    report = DemoReport(
        sent=1,
        accepted=1,
        refused=(),
        detected=1,
        in_postgres=1,
        seen=1,
        repeated=0,
        detections=0,
        p50_ms=None,
        p95_ms=None,
        recall=None,
        precision=None,
        places=places,
    )
    print_report(Console(width=80), report)
    printed = capsys.readouterr().out
    assert (f"standgale up --data-dir {data}\n" in printed) is ended
    assert url in printed
