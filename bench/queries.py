"""Measures the queries of people who analyse detections, and of the API, on ten million generated detections."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from bench.detection_rows import PER_IMAGE, fill
from bench.processes import home, measured
from bench.result import Figure, Goal, Result
from console.detections.query import DetectionsQuery
from console.detections.records import chosen_by

_DETECTIONS, _QUICK_DETECTIONS = 10_000_000, 200_000
_ROUNDS = 3

RECENT_OF_A_DEVICE = """\
SELECT d.*, i.lakefs_path, i.captured_at
FROM detections d JOIN images i ON d.image_id = i.id JOIN devices v ON v.id = i.device_id
WHERE v.device_id = 'drone-07' AND i.captured_at > now() - interval '7 days' AND d.confidence > 0.5
ORDER BY i.captured_at DESC LIMIT 100"""
IMAGES_WITH_SEVERAL = """\
SELECT i.*, d.detection_count, d.max_confidence
FROM images i CROSS JOIN LATERAL (
    SELECT count(*) AS detection_count, max(confidence) AS max_confidence
    FROM detections WHERE image_id = i.id AND confidence > 0.7
) d
WHERE d.detection_count >= 2
ORDER BY i.captured_at DESC LIMIT 100"""
DAYS = """\
SELECT date(captured_at) AS date, count(DISTINCT image_id) AS images_with_detections,
    sum(num_detections) AS total_detections, sum(confidence_sum) / sum(num_detections) AS avg_confidence
FROM inference_sessions
WHERE captured_at > now() - interval '30 days' AND num_detections > 0
GROUP BY date(captured_at) ORDER BY date DESC"""
IMAGES_TO_TRAIN_WITH = """\
SELECT i.id, i.lakefs_path, i.captured_at, d.num_birds
FROM images i CROSS JOIN LATERAL (
    SELECT count(*) AS num_birds FROM detections WHERE image_id = i.id AND confidence > 0.8
) d
WHERE i.captured_at > now() - interval '300 days' AND d.num_birds BETWEEN 1 AND 5
ORDER BY i.captured_at DESC LIMIT 1000"""
QUERIES = {
    "recent of a device": RECENT_OF_A_DEVICE,
    "images with several": IMAGES_WITH_SEVERAL,
    "30 days, day by day": DAYS,
    "1,000 images to train with": IMAGES_TO_TRAIN_WITH,
}
"""As docs/detections.md has them."""
_GOAL_MS, _AREA_GOAL_MS = 100.0, 200.0


def run(quick: bool) -> Result:
    """Fill a database, and measure each query in it."""
    count = _QUICK_DETECTIONS if quick else _DETECTIONS
    return measured(lambda folder: _run(folder, count))


async def _run(folder: Path, count: int) -> Result:
    async with home(folder) as place:
        await fill(place.dsn, count)
        return await measure(place.dsn, count)


async def measure(dsn: str, count: int) -> Result:
    """Return the time of each query in a database with ``count`` detections: the best of three runs, with its plan."""
    connection = await asyncpg.connect(dsn)
    figures: list[Figure] = []
    plans: list[str] = []
    try:
        for name, (statement, values, goal_ms) in _statements().items():
            took_ms, plan = await _best(connection, statement, values)
            figures.append(Figure(name, took_ms, "ms", Goal(goal_ms, "below")))
            plans.append(f"{name}: {plan}")
    finally:
        await connection.close()
    notes = (
        f"{count:,} detections of {count // PER_IMAGE:,} frames within a year, PostgreSQL with default settings; "
        "time of planning and execution in the server, the best of three runs, so pages are in memory.",
        f"Plans. {'; '.join(plans)}.",
    )
    return Result("queries", "Queries on ten million detections", tuple(figures), notes)


def _statements() -> dict[str, tuple[str, tuple[Any, ...], float]]:
    """Return each query with its values and its goal."""
    found: dict[str, tuple[str, tuple[Any, ...], float]] = {
        name: (statement, (), _GOAL_MS) for name, statement in QUERIES.items()
    }
    hour = datetime.now(UTC) - timedelta(days=50)
    page = chosen_by(DetectionsQuery(label=["boat"], confidence=0.5)).where("s.job_id IS NULL")
    area = chosen_by(
        DetectionsQuery(
            area="POLYGON((30.1 50.1, 30.9 50.2, 30.5 50.9))", captured_from=hour, captured_to=hour + timedelta(hours=1)
        )
    ).where("s.job_id IS NULL")
    found["API: a page of a class"] = (page.statement(1_000), page.values, _GOAL_MS)
    found["API: a polygon and an hour"] = (area.statement(1_000), area.values, _AREA_GOAL_MS)
    return found


async def _best(connection: Any, statement: str, values: tuple[Any, ...]) -> tuple[float, str]:
    best: tuple[float, str] | None = None
    for _ in range(_ROUNDS):
        (explained,) = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", *values))
        took = explained["Planning Time"] + explained["Execution Time"]
        if best is None or took < best[0]:
            best = took, " ← ".join(_steps(explained["Plan"]))
    assert best is not None
    return best


def _steps(node: dict[str, Any]) -> Iterator[str]:
    """Yield the steps of a plan, the outermost first, with the table or index that each reads."""
    read = node.get("Index Name") or node.get("Relation Name")
    yield f"{node['Node Type']} {read}" if read else str(node["Node Type"])
    for child in node.get("Plans", ()):
        yield from _steps(child)
