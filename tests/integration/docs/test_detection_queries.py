"""C-S1-061 to C-S1-064, C-S1-067: the page's queries are those that are measured, and give what the plain ones give."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from bench import queries
from infra.database.pool import Database
from schemas.events import DetectionsMade
from schemas.timestamps import utc_now
from sinks.postgres.sink import PostgresSink
from standgale.testing.factories import detections_made
from tests.paths import ROOT

pytestmark = pytest.mark.integration

_PLAIN = {
    "images with several": """
        SELECT i.*, count(d.id) AS detection_count, max(d.confidence) AS max_confidence
        FROM images i JOIN detections d ON d.image_id = i.id WHERE d.confidence > 0.7
        GROUP BY i.id HAVING count(d.id) >= 2 ORDER BY i.captured_at DESC LIMIT 100""",
    "30 days, day by day": """
        SELECT date(i.captured_at) AS date, count(DISTINCT i.id) AS images_with_detections,
            count(d.id) AS total_detections, avg(d.confidence) AS avg_confidence
        FROM images i JOIN detections d ON d.image_id = i.id WHERE i.captured_at > now() - interval '30 days'
        GROUP BY date(i.captured_at) ORDER BY date DESC""",
    "1,000 images to train with": """
        SELECT i.id, i.lakefs_path, i.captured_at, count(d.id) AS num_birds
        FROM images i JOIN detections d ON d.image_id = i.id
        WHERE d.confidence > 0.8 AND i.captured_at > now() - interval '300 days'
        GROUP BY i.id HAVING count(d.id) BETWEEN 1 AND 5 ORDER BY i.captured_at DESC LIMIT 1000""",
}


def recent(number: int, *scores: float, days: float, device: str = "drone-07", version: str = "1.0") -> DetectionsMade:
    """A frame of some days ago with detections of these scores."""
    event = detections_made(number, labels=["bird"] * len(scores), device=device, version=version)
    found = [one.model_copy(update={"confidence": score}) for one, score in zip(event.detections, scores, strict=True)]
    return event.model_copy(update={"captured_at": utc_now() - timedelta(days=days), "detections": found})


@pytest.fixture
async def filled(database: Database) -> Database:
    sink = PostgresSink(database)
    await sink.open()
    await sink.write(
        [
            recent(1, 0.9, 0.8, 0.3, days=1),
            recent(1, 0.95, 0.85, days=1, version="2.0"),
            recent(2, 0.9, days=1.5),
            recent(3, days=2),
            recent(4, *[0.99] * 6, days=3, device="drone-08"),
            recent(5, 0.71, 0.72, days=20),
            recent(6, 0.99, days=40),
        ]
    )
    return database


async def rows(database: Database, statement: str) -> list[dict[str, Any]]:
    async with database.acquire() as connection:
        return [dict(row) for row in await connection.fetch(statement)]


@pytest.mark.parametrize("name", _PLAIN)
async def test_a_quick_query_gives_the_rows_of_the_plain_one(filled: Database, name: str) -> None:
    quick, plain = await rows(filled, queries.QUERIES[name]), await rows(filled, _PLAIN[name])
    assert len(quick) >= 3
    for mine, theirs in zip(quick, plain, strict=True):
        average = theirs.pop("avg_confidence", None)
        assert mine.pop("avg_confidence", None) == (None if average is None else pytest.approx(average))
        assert mine == theirs


async def test_the_newest_detections_of_a_device_are_those_above_the_score(filled: Database) -> None:
    found = await rows(filled, queries.RECENT_OF_A_DEVICE)
    assert sorted(round(row["confidence"], 2) for row in found) == [0.8, 0.85, 0.9, 0.9, 0.95]


def test_the_page_has_the_queries_that_are_measured() -> None:
    page = (ROOT / "docs" / "detections.md").read_text(encoding="utf-8")
    assert [name for name, statement in queries.QUERIES.items() if f"```sql\n{statement}\n```" not in page] == []
