"""The publisher of jobs' frames: fair, limited, and each file once, wherever it is interrupted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from console.jobs.queue import take_files
from console.settings import ConsoleSettings
from infra.broker.port import OutRecord
from infra.database.pool import Database
from infra.errors import BrokerUnavailableError, DatabaseUnavailableError, RecordTooLargeError
from infra.process.health import Health
from schemas.cloudevents import decode
from schemas.events import FrameCaptured
from standgale.testing.waiting import until
from tests.harnesses.job_site import JobSite, Published, job_site

pytestmark = pytest.mark.integration


@pytest.fixture
async def site(tmp_path: Path, database: Database) -> AsyncIterator[JobSite]:
    settings = ConsoleSettings(job_window=3, max_published=10, publish_again_s=10)
    async with job_site(tmp_path, database, settings) as found:
        yield found


class Stopping(Published):
    """Publishes, and waits then until the test goes on, as a process that is killed before its note."""

    def __init__(self) -> None:
        super().__init__()
        self.published, self.go_on = asyncio.Event(), asyncio.Event()

    async def publish(self, records: Sequence[OutRecord]) -> None:
        await super().publish(records)
        self.published.set()
        await self.go_on.wait()


class Small(Published):
    """Is a topic that takes no frames with rules."""

    async def publish(self, records: Sequence[OutRecord]) -> None:
        if any(decode(record.headers, record.value, FrameCaptured).rules for record in records):
            raise RecordTooLargeError("a record is larger than the topic takes")
        await super().publish(records)


async def counts(site: JobSite) -> Counter[str]:
    rows = await site.rows("SELECT j.job_id FROM job_files f JOIN jobs j ON j.id = f.job_id WHERE f.status='published'")
    return Counter(row["job_id"] for row in rows)


async def test_a_window_limits_the_files_of_a_job_and_of_all_jobs(site: JobSite) -> None:
    jobs = [await site.job(8) for _ in range(4)]
    frames = await site.publish()
    assert len(frames) == 10
    assert sorted((await counts(site)).values()) == [2, 2, 3, 3]
    assert await site.publish() == []
    await site.answer(*frames[:4])
    assert len(await site.publish()) == 4
    assert max((await counts(site)).values()) == 3
    assert set(await counts(site)) == set(jobs)


async def test_a_client_with_one_job_gets_its_window_beside_one_with_many(site: JobSite) -> None:
    key = await site.console.other_client("tablet")
    for _ in range(6):
        await site.job(3)
    upload = await site.upload(8, client="tablet")
    (other,) = [(await site.ask(upload, key=key)).json["data"]["job_id"]]
    await site.publish()
    # The window of its one job; the others get what is left.
    assert (await counts(site))[other] == 3
    assert (await counts(site)).total() == 10


async def test_all_files_of_many_jobs_are_published_once(site: JobSite) -> None:
    jobs = [await site.job(5) for _ in range(5)]
    sent: Counter[object] = Counter()
    while frames := await site.publish():
        sent.update((frame.job_id, frame.frame_id) for frame in frames)
        await site.answer(*frames)
    assert (len(sent), set(sent.values())) == (25, {1})
    assert {(await site.status(job))["status"] for job in jobs} == {"completed"}


async def test_frames_are_published_again_with_the_same_ids_after_a_kill(site: JobSite) -> None:
    """The kill comes after the publish and before the commit."""
    job_id, topics = await site.job(3), Stopping()
    task = asyncio.create_task(site.publisher(topics).publish_some())
    await topics.published.wait()
    assert (await site.status(job_id))["status"] == "queued"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    again = await site.publish()
    assert [record.value for record in topics.records] == [record.value for record in site.topics.records]
    await site.answer(*again, *again)
    done = await site.status(job_id)
    assert (done["status"], done["summary"]["total_detections"]) == ("completed", 3)


async def test_one_process_publishes_at_a_time(site: JobSite) -> None:
    await site.job(3)
    topics = Stopping()
    task = asyncio.create_task(site.publisher(topics).publish_some())
    await topics.published.wait()
    assert await site.publish() == []
    topics.go_on.set()
    assert await task == 3
    assert len(site.topics.records) == 0


async def test_a_frozen_process_gives_its_turn_back(site: JobSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.database.transaction.IDLE_LIMIT_S", 0.2)
    job_id, frozen = await site.job(3), Stopping()
    task = asyncio.create_task(site.publisher(frozen).publish_some())
    await frozen.published.wait()
    await until(site.publish, "the other process publishes")
    frozen.go_on.set()
    with pytest.raises(DatabaseUnavailableError):
        await task
    await site.answer(*(decode(record.headers, record.value, FrameCaptured) for record in site.topics.records))
    assert (await site.status(job_id))["status"] == "completed"


async def test_a_cancel_between_publish_and_its_note_stays(site: JobSite) -> None:
    job_id, topics = await site.job(2), Stopping()
    task = asyncio.create_task(site.publisher(topics).publish_some())
    await topics.published.wait()
    assert (await site.console.post(f"/api/v1/jobs/{job_id}/cancel")).status == 200
    topics.go_on.set()
    await task
    assert (await site.status(job_id))["status"] == "cancelled"
    assert {row["status"] for row in await site.rows("SELECT status FROM job_files")} == {"cancelled"}


@pytest.mark.parametrize("published", ["- interval '11 s'", "+ interval '1 day'"], ids=["late", "clock set back"])
async def test_files_without_any_end_for_long_are_published_again(site: JobSite, published: str) -> None:
    """The broker lost them: retention, or a topic that was made anew."""
    job_id = await site.job(2)
    lost = await site.publish()
    assert await site.publish() == []
    async with site.database.acquire(writing=True) as connection:
        await connection.execute(f"UPDATE job_files SET published_at = now() {published}")
    again = await site.publish()
    assert {frame.frame_id for frame in again} == {frame.frame_id for frame in lost}
    assert await site.publish() == []
    await site.answer(*again)
    assert (await site.status(job_id))["status"] == "completed"


async def test_lost_files_of_a_cancelled_job_make_room_for_others(site: JobSite) -> None:
    job_id = await site.job(3)
    await site.publish()
    await site.console.post(f"/api/v1/jobs/{job_id}/cancel")
    assert (await counts(site)).total() == 3
    async with site.database.acquire(writing=True) as connection:
        await connection.execute("UPDATE job_files SET published_at = now() - interval '11 s'")
    assert await site.publish() == []
    assert (await counts(site)).total() == 0


async def test_a_job_of_another_version_fails_and_others_go_on(site: JobSite) -> None:
    odd = await site.job(2)
    async with site.database.acquire(writing=True) as connection:
        await connection.execute("""UPDATE jobs SET config = '{"asked": {"of_tomorrow": 1}}'""")
    other = await site.job(2)
    await site.answer(*await site.publish())
    failed = await site.status(odd)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "INFERENCE_ERROR")
    assert "another version" in failed["error"]["message"]
    assert (await site.status(other))["status"] == "completed"


async def test_a_frame_that_its_topic_does_not_take_fails_alone(site: JobSite) -> None:
    large = await site.job(2, config={"symbolic_reasoning": {"rules_file": "drop(x)."}})
    small, topics = await site.job(2), Small()
    await site.publisher(topics).publish_some()
    assert (await site.status(large))["error"]["code"] == "STORAGE_ERROR"
    await site.answer(*(decode(record.headers, record.value, FrameCaptured) for record in topics.records))
    assert (await site.status(small))["status"] == "completed"


async def test_frames_wait_for_the_broker_and_health_has_the_reason(site: JobSite) -> None:
    job_id = await site.job(2)
    site.topics.error = BrokerUnavailableError("the broker is away")
    health, stop = Health(), asyncio.Event()
    part = health.part("job-frames")
    task = asyncio.create_task(site.publisher().run(stop, part))
    await until(lambda: "the broker is away" in (part.report().reason or ""), "the reason")
    assert (await site.status(job_id))["status"] == "queued"
    site.topics.error = None
    await until(lambda: len(site.topics.records) == 2 and part.report().ready, "the frames")
    stop.set()
    await task


async def test_files_are_taken_in_turns_when_the_database_joins_by_hashes(site: JobSite) -> None:
    key = await site.console.other_client("phone")
    jobs = [await site.job(30)]
    asked = await site.ask(await site.upload(30, client="phone"), key=key)
    jobs.append(asked.json["data"]["job_id"])
    async with site.database.acquire(writing=True) as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_nestloop = off; SET LOCAL enable_mergejoin = off")
        files = await take_files(connection, window=100, most_published=1_000, most=100)
    assert [file.position for file in files] == [place for place in range(30) for _ in jobs]
