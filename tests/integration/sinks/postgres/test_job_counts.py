"""Counts of jobs while several sinks, the publisher and clients work on the same jobs at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from console.settings import ConsoleSettings
from infra.database.pool import Database
from infra.errors import ImageCorruptError
from schemas.events import FrameCaptured
from sinks.postgres.jobs import JobFailures
from sinks.postgres.sink import PostgresSink
from tests.harnesses.job_site import JobSite, answer_of, job_site, letter_of

pytestmark = pytest.mark.integration

JOBS, FILES = 8, 4


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    async with job_site(tmp_path, database, ConsoleSettings(job_window=3)) as found:
        yield found


def is_broken(frame: FrameCaptured) -> bool:
    return frame.original_filename == "picture0.jpg"


async def write_again_and_again(site: JobSite, frames: Sequence[FrameCaptured], seed: int) -> None:
    """Write the ends of ``frames`` as two processes of a sink would: in any order, some of them twice."""
    rng = random.Random(seed)
    sink, failures = PostgresSink(site.database), JobFailures(site.database)
    order = [*frames, *rng.sample(list(frames), len(frames) // 2)]
    rng.shuffle(order)
    for first in range(0, len(order), 5):
        batch = order[first : first + 5]
        made = [answer_of(frame, (0.5, 0.5)) for frame in batch if not is_broken(frame)]
        dead = [letter_of(frame, ImageCorruptError("x")) for frame in batch if is_broken(frame)]
        if made:
            await sink.write(made)
        if dead:
            await failures.write(dead)


async def test_writers_at_once_count_each_file_once_without_deadlocks(site: JobSite) -> None:
    jobs = [await site.job(FILES) for _ in range(JOBS)]
    cancelled = jobs[5]
    sent: list[FrameCaptured] = []
    for turn in range(FILES):
        frames = await site.publish()
        sent += frames
        work = [write_again_and_again(site, sent, seed) for seed in range(turn * 2, turn * 2 + 2)]
        also = [site.console.post(f"/api/v1/jobs/{cancelled}/cancel")] if turn == 0 else []
        await asyncio.gather(*work, *also, site.publisher().publish_some())
        sent += [
            frame for record in site.topics.records[len(sent) :] for frame in [FrameCaptured.from_bytes(record.value)]
        ]
    await write_again_and_again(site, sent, 99)
    for job_id in jobs:
        done = await site.status(job_id)
        if job_id == cancelled:
            assert done["status"] in ("cancelled", "completed")
            continue
        assert (done["status"], done["progress"]["failed_images"]) == ("completed", 1), job_id
        assert done["summary"]["total_detections"] == 2 * (FILES - 1)
    rows = await site.rows(
        "SELECT j.processed_images, j.failed_images, j.total_detections, count(f.*) FILTER (WHERE f.status IN "
        "('completed', 'failed')) AS ended, count(f.*) FILTER (WHERE f.status = 'failed') AS failed, "
        "sum(f.num_detections) AS found FROM jobs j JOIN job_files f ON f.job_id = j.id GROUP BY j.id"
    )
    for row in rows:
        assert (row["processed_images"], row["failed_images"], row["total_detections"]) == (
            row["ended"],
            row["failed"],
            row["found"],
        )
    events = await site.finished()
    assert (len(events), len({event.job_id for event in events})) == (JOBS, JOBS)
