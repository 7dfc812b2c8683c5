"""Frames are removed as the policy says: bytes, rows and places in the archive together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.broker.port import GroupState
from infra.database.pool import Database
from schemas.timestamps import utc_now
from sinks.retention.errors import RetentionBusyError, RetentionHeldError, StoresDifferError
from sinks.retention.looking.plan import Planned
from sinks.retention.removal.lease import RemovalLease
from tests.harnesses.retention import DEVICE, Frame, RetentionSite, kept_by_policy, several

pytestmark = pytest.mark.integration


@pytest.fixture
def site(tmp_path: Path, database: Database) -> RetentionSite:
    return RetentionSite(tmp_path / "frames", database)


class ListArchive:
    """Remembers what was removed from it."""

    def __init__(self) -> None:
        self.removed: list[str] = []

    async def remove(self, paths: Sequence[str]) -> None:
        self.removed += paths


async def test_a_run_removes_as_the_policy_wants_byte_for_byte(site: RetentionSite) -> None:
    """C-S1-101, C-S1-103."""
    frames = several(2_500)
    await site.add(frames)
    limit = 800_000
    wanted = kept_by_policy(frames, days=90, max_bytes=limit)
    retention = site.retention(max_total_gb=limit / 1e9, retention_days=90)
    seen: list[Planned] = []
    dry = await retention.look(seen.extend)
    assert site.stored() == {frame.digest for frame in frames}
    report = await retention.run()
    assert site.stored() == await site.rows() == wanted
    # The dry run has said exactly this.
    removed = {frame.digest: frame.size for frame in frames if frame.digest not in wanted}
    assert {each.sha256: each.size_bytes for each in seen} == removed
    assert report.removed == dry.planned
    assert report.removed_frames == len(removed)
    assert {"age", "size"} == set(report.removed)
    assert await site.value("SELECT count(*) FROM detections") == sum(
        frame.confidence is not None for frame in frames if frame.digest in wanted
    )
    again = await retention.run()
    assert (again.removed, again.planned, again.over_bytes) == ({}, {}, 0)
    assert site.stored() == wanted
    assert await site.value("SELECT count(*) FROM retention_runs WHERE ended_at IS NOT NULL") == 2
    assert await site.value("SELECT stored_bytes FROM retention_runs ORDER BY id DESC LIMIT 1") == sum(
        frame.size for frame in frames if frame.digest in wanted
    )


async def test_frames_without_detections_go_first_and_confident_ones_stay(site: RetentionSite) -> None:
    """C-S1-103."""
    frames = [Frame(0, 5, 0.5), Frame(1, 4), Frame(2, 60, 0.95), Frame(3, 10), Frame(4, 2, 0.4), Frame(5, 200, 0.8)]
    await site.add(frames)
    for limit, left in ((5_000, {0, 1, 2, 4, 5}), (3_500, {2, 4, 5}), (0.000_001 * 1e9, {2, 5})):
        report = await site.retention(max_total_gb=limit / 1e9).run()
        assert site.stored() == {frames[number].digest for number in left}
    assert report.over_bytes == 1_000


async def test_frames_leave_the_archive_and_count_in_their_flight(site: RetentionSite) -> None:
    frames = [
        Frame(1, 100, flight="north"),
        Frame(2, 100, status="failed", flight="north"),
        Frame(3, 1, flight="north"),
    ]
    await site.execute("INSERT INTO devices (id, device_id) VALUES ($1, 'cam-1')", DEVICE)
    await site.execute("INSERT INTO flights (device_id, flight_id) VALUES ($1, 'north')", DEVICE)
    await site.add(frames)
    archive = ListArchive()
    await site.retention(archive).run()
    assert sorted(archive.removed) == ["images/cam-1/1.jpg", "images/cam-1/2.jpg"]
    assert await site.value("SELECT (removed, removed_detected) = (2, 1) FROM flights")


async def test_pictures_without_a_row_are_removed_when_they_are_old(site: RetentionSite) -> None:
    await site.add([Frame(1, 3)])
    orphan, young = site.put(Frame(2, 3)), site.put(Frame(3, 0.5))
    found = await site.retention().audit()
    assert (found.orphans.pictures, found.young, found.missing) == (1, 1, 0)
    assert [Path(uri).name for uri in found.orphan_uris] == [orphan.name]
    report = await site.retention().run()
    assert {reason: tally.pictures for reason, tally in report.removed.items()} == {"orphan": 1}
    assert (orphan.exists(), young.exists()) == (False, True)


async def test_a_pin_keeps_pictures_without_a_row_until_it_expires(site: RetentionSite) -> None:
    frame = Frame(2, 3)
    await site.add([Frame(1, 3)])
    site.put(frame)
    await site.execute(
        "INSERT INTO retention_pins (name, reason, by_digest, expires_at) VALUES ('set', 'x', TRUE, now() + '1 h')"
    )
    await site.execute("INSERT INTO retention_pinned_pictures (sha256, pin) VALUES ($1, 'set')", frame.digest)
    assert (await site.retention().audit()).orphans.pictures == 0
    await site.execute("UPDATE retention_pins SET expires_at = now() - interval '1 s'")
    assert (await site.retention().audit()).orphans.pictures == 1


async def test_a_look_names_frames_that_are_too_young_to_go_for_the_size(site: RetentionSite) -> None:
    await site.add([Frame(1, 0.5), Frame(2, 0.5)])
    report = await site.retention(max_total_gb=0.000_001).look(as_if_read=True)
    assert (report.planned, {why: tally.pictures for why, tally in report.kept.items()}) == ({}, {"young": 2})
    assert report.over_bytes > 0


async def test_the_picture_of_two_frames_stays_for_the_younger_one(site: RetentionSite) -> None:
    older, younger = Frame(1, 100), Frame(1, 50)
    await site.add([older, younger])
    assert (await site.retention().run()).removed == {}
    report = await site.retention(retention_days=40).run()
    assert (report.removed["age"].pictures, report.removed_frames) == (1, 2)


KEEPING = {
    "flagged": "UPDATE images SET is_flagged = TRUE",
    "annotated": "INSERT INTO data_annotations (image_id, annotation_type) SELECT id, 'corrected' FROM images",
    "pinned": "INSERT INTO retention_pins (name, reason, device_id) VALUES ('hold', 'court', 'cam-1')",
    "unread": "UPDATE images SET processed_at = now()",
    "upload": """
        WITH c AS (INSERT INTO api_clients (client_id) VALUES ('c') RETURNING client_id),
        u AS (INSERT INTO uploads (id, upload_id, client_id, expires_at)
            SELECT gen_random_uuid(), 'upl', client_id, now() FROM c RETURNING id)
        INSERT INTO uploaded_files (id, file_id, upload_id, position, filename, size_bytes, media_type, width, height,
            sha256, image_uri, captured_at)
        SELECT gen_random_uuid(), 'f', u.id, 0, 'a', 1, 'image/jpeg', 1, 1, sha256, image_uri, now() FROM u, images
    """,
}


@pytest.mark.parametrize("why", KEEPING)
async def test_an_old_frame_is_kept_while_something_needs_it(site: RetentionSite, why: str) -> None:
    await site.add([Frame(1, 100)])
    await site.execute(KEEPING[why])
    report = await site.retention(max_total_gb=0.000_001).run()
    assert (report.removed, list(report.kept)) == ({}, [why])
    assert len(site.stored()) == len(await site.rows()) == 1


async def test_rows_of_jobs_outlive_their_pictures(site: RetentionSite) -> None:
    frame = Frame(1, 100)
    await site.add([frame, Frame(1, 99)])
    await site.execute("INSERT INTO api_clients (client_id) VALUES ('c')")
    await site.execute(
        "INSERT INTO jobs (id, job_id, client_id, config, total_images, status, finished_at) "
        "VALUES ($1, 'job_a', 'c', '{}', 1, 'completed', now())",
        frame.id,
    )
    await site.execute("UPDATE images SET job_id = id WHERE id = $1", frame.id)
    await site.retention().run()
    assert site.stored() == set()
    assert await site.value("SELECT array_agg(id) FROM images") == [frame.id]
    assert (await site.retention().audit()).missing == 0


async def test_a_frame_that_was_sent_again_is_not_old(site: RetentionSite) -> None:
    frame = Frame(1, 100)
    await site.add([frame])
    await site.store.put(frame.data, sha256=frame.digest, media_type="image/jpeg")
    report = await site.retention().run()
    assert (report.removed, list(report.kept)) == ({}, ["sent again"])


async def test_a_put_that_meets_a_planned_frame_wins(site: RetentionSite) -> None:
    """The intent is written down, then the device sends the frame again, then the run goes on."""
    frames = [Frame(number, 100) for number in range(3)]
    await site.add(frames)
    retention = site.retention()
    policy = await retention._policy()
    stored = [Planned(frame.digest, f"file:///frames/{frame.relative}", 1_000, "age") for frame in frames]
    await retention._write_down(stored, policy)
    await site.store.put(frames[1].data, sha256=frames[1].digest, media_type="image/jpeg")
    report = await retention.run()
    assert site.stored() == await site.rows() == {frames[1].digest}
    assert (report.spared, report.removed["age"].pictures) == (1, 2)


def group(name: str, behind: timedelta | None, topic: str = "detections") -> GroupState:
    oldest = None if behind is None else int((utc_now() - behind).timestamp() * 1000)
    return GroupState(name, 1, (topic,), 0 if behind is None else 5, None, oldest)


async def test_frames_that_a_group_has_not_read_are_kept(site: RetentionSite) -> None:
    await site.add([Frame(1, 100), Frame(2, 95)])
    site.groups.states = [[group("sink.lakefs", timedelta(days=97)), group("other", timedelta(days=300), "jobs")]]
    with pytest.raises(RetentionHeldError, match=r"sink\.lakefs has not read events since"):
        await site.retention().run()
    # Some days ago all had read what was published before, twice; what was made of that is read by now.
    for taken, read in ((98, 98.5), (99, 99.5)):
        days = utc_now() - timedelta(days=taken), utc_now() - timedelta(days=read)
        await site.execute("INSERT INTO retention_snapshots VALUES ($1, $2)", *days)
    report = await site.retention().run()
    assert await site.rows() == {Frame(2, 95).digest}
    assert report.removed["age"].pictures == 1


async def test_nothing_is_removed_before_a_group_has_read_anything(site: RetentionSite) -> None:
    await site.add([Frame(1, 100)])
    site.groups.states = [[group("sink.job-webhooks", None, "jobs")]]
    with pytest.raises(RetentionHeldError, match="no consumer group has read a frame yet"):
        await site.retention().run()
    assert len(site.stored()) == 1


@pytest.mark.parametrize("wrong", ["no rows", "no pictures"])
async def test_a_store_of_another_installation_stops_the_run(site: RetentionSite, wrong: str) -> None:
    frames = [Frame(number, 100) for number in range(20)]
    if wrong == "no rows":
        for frame in frames:
            site.put(frame)
    else:
        await site.add(frames, pictures=False)
    for call in (site.retention(max_orphan_share=0.1).run, site.retention(max_orphan_share=0.1).look):
        with pytest.raises(StoresDifferError, match=r"20 of 20 .*STANDGALE_RETENTION__MAX_ORPHAN_SHARE"):
            await call()
    assert len(site.stored()) + len(await site.rows()) == 20


async def test_one_process_at_a_time_removes(site: RetentionSite) -> None:
    other = RemovalLease(site.database, lease_s=0.5)
    await other.renew()
    with pytest.raises(RetentionBusyError):
        await site.retention().run()
    await other.give_back()
    await site.retention().run()


async def test_a_clock_that_is_wrong_holds(site: RetentionSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sinks.retention.run.utc_now", lambda: datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(RetentionHeldError, match="the clock of the database"):
        await site.retention().run()


def test_settings_name_a_wrong_schedule() -> None:
    from sinks.retention.settings import RetentionSettings

    with pytest.raises(ValueError, match=r"retention\.cleanup_schedule .*received '61 \* \* \* \*'"):
        RetentionSettings(cleanup_schedule="61 * * * *")
    assert json.loads(RetentionSettings().model_dump_json())["cleanup_schedule"] == "0 2 * * *"


async def test_every_put_that_returned_during_a_run_is_stored_afterwards(site: RetentionSite) -> None:
    frames = [Frame(number, 100) for number in range(600)]
    await site.add(frames)

    async def send_again() -> None:
        for frame in frames[::3]:
            await site.store.put(frame.data, sha256=frame.digest, media_type="image/jpeg")

    sending = asyncio.create_task(send_again())
    report = await site.retention().run()
    await sending
    sent = {frame.digest for frame in frames[::3]}
    assert sent <= site.stored()
    # Those that were sent before their turn kept their rows; the others are new frames, which have none yet.
    assert await site.rows() <= sent
    assert site.stored() == sent
    assert report.removed_frames == 600 - len(await site.rows())
