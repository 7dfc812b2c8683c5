"""The page of the metrics is new for ordinary requests, and not rendered for each one of a flood."""

from __future__ import annotations

import pytest

from infra.telemetry import metrics_page
from infra.telemetry.metrics_page import MetricsPage


def test_metrics_page_is_rendered_at_most_four_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now, rendered = [100.0], [0]

    def render() -> bytes:
        rendered[0] += 1
        return str(rendered[0]).encode()

    monkeypatch.setattr(metrics_page, "generate_latest", render)
    monkeypatch.setattr(metrics_page.time, "monotonic", lambda: now[0])
    page = MetricsPage()
    assert [page.render() for _ in range(50)] == [b"1", b"2", b"3", *[b"4"] * 47]
    now[0] += 1.0
    assert page.render() == b"5"
