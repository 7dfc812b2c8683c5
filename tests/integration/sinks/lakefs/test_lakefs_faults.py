"""Tests the archive while LakeFS fails, hangs, loses responses and refuses, and its links of frames in S3."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from infra.errors import ImageCorruptError, ImageMissingError, RefusedError, TransientError
from infra.storage.frames.port import StoredObject
from schemas.events import DetectionsMade
from sinks.lakefs.sink import ArchiveSink
from tests.harnesses.archive import LakeFsHarness

pytestmark = pytest.mark.integration


async def written_at_last(sink: ArchiveSink, events: list[DetectionsMade]) -> int:
    """Write ``events`` as the loop does, again after each transient error; return how often that took."""
    for attempt in range(1, 60):
        try:
            await sink.write(events)
        except TransientError:
            # As the loop does, so that sinks that commit at once come one after the other.
            await asyncio.sleep(0.02 * min(attempt, 5))
            continue
        return attempt
    raise AssertionError("it is never written")


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "update branch: predicate failed"),
        (500, "branch is currently locked"),
        (429, "slow down"),
        (503, "busy"),
        (409, "conflict"),
        (401, "error authenticating request"),
        (403, "cannot write to protected branch"),
        (404, "repository not found"),
    ],
)
async def test_each_request_may_fail_and_each_frame_is_there_once(
    lakefs: LakeFsHarness, status: int, message: str
) -> None:
    # C-S1-110
    sink, events = lakefs.make_sink(), [lakefs.event(number) for number in range(4)]
    await sink.open()
    requests = ("objects", "objects/stat", "/diff", "/commits")
    for number, event in enumerate(events):
        lakefs.server.fail = [(requests[number], status, message)] * 2
        await written_at_last(sink, [event])
    assert len(await lakefs.stored()) == 4
    assert len(lakefs.commits()) == 4
    assert lakefs.repository.empty_commits == 0
    await sink.close()


async def test_lost_responses_commit_once(lakefs: LakeFsHarness) -> None:
    sink, events = lakefs.make_sink(), [lakefs.event(number) for number in range(30)]
    await sink.open()
    for first in range(0, 30, 10):
        # Every change of the first attempts is made, and its response lost.
        lakefs.server.lose_responses = 14
        await written_at_last(sink, events[first : first + 10])
    assert len(await lakefs.stored()) == 30
    assert [commit["metadata"]["images"] for commit in lakefs.commits()] == ["10", "10", "10"]
    reported = await lakefs.reported()
    assert {report.commit_id for report in reported} == {each.id for each in lakefs.repository.log("main")[:3]}
    await sink.close()


async def test_server_that_hangs_is_unavailable_and_nothing_is_lost(lakefs: LakeFsHarness) -> None:
    sink = ArchiveSink(lakefs.make_archive(timeout_s=0.3), lakefs.broker, frames_per_commit=10)
    await sink.open()
    lakefs.server.hang_s = 2.0
    async with asyncio.timeout(5):
        with pytest.raises(TransientError, match="STANDGALE_LAKEFS__TIMEOUT_S"):
            await sink.write([lakefs.event(0)])
    lakefs.server.hang_s = 0.0
    await sink.write([lakefs.event(0)])
    assert len(await lakefs.stored()) == 1
    await sink.close()


async def test_listing_whose_bytes_are_gone_holds_and_is_not_written_anew(lakefs: LakeFsHarness) -> None:
    sink = lakefs.make_sink()
    await sink.open()
    await sink.write([lakefs.event(number, device="one") for number in range(5)])
    listing = next(entry for path, entry in lakefs.repository.head.objects.items() if path.endswith("metadata.json"))
    file = lakefs.server.file_of(listing)
    file.rename(file.with_suffix(".away"))
    with pytest.raises(RefusedError, match=r"metadata\.json is listed, but .* \(410\)"):
        await sink.write([lakefs.event(5, device="one")])
    file.with_suffix(".away").rename(file)
    await sink.write([lakefs.event(5, device="one")])
    assert len(await lakefs.stored()) == 6
    await sink.close()


async def test_two_sinks_commit_at_once_and_each_frame_is_there_once(lakefs: LakeFsHarness) -> None:
    sinks = [lakefs.make_sink() for _ in range(4)]
    for sink in sinks:
        await sink.open()
    events = [[lakefs.event(number, device=f"d{each}") for number in range(20)] for each in range(4)]
    await asyncio.gather(*(written_at_last(sink, mine) for sink, mine in zip(sinks, events, strict=True)))
    assert len(await lakefs.stored()) == 80
    # Each looks first; another one may commit everything between its look and its commit.
    assert lakefs.repository.empty_commits < len(sinks)
    for report in await lakefs.reported():
        commit = lakefs.repository.commits[report.commit_id]
        assert all(image.path in commit.objects for image in report.images)
    for sink in sinks:
        await sink.close()


async def test_wrong_settings_are_named_and_hold_the_sink(lakefs: LakeFsHarness) -> None:
    # C-S1-076, C-S1-097
    for changes, words in (
        ({"repository": "elsewhere"}, "STANDGALE_LAKEFS__REPOSITORY"),
        ({"secret_key": "hush-wrong"}, "STANDGALE_LAKEFS__SECRET_KEY"),
        ({"endpoint_url": f"{lakefs.gate.url}/ui"}, "STANDGALE_LAKEFS__ENDPOINT_URL"),
    ):
        archive = lakefs.make_archive(**changes)
        with pytest.raises(RefusedError, match=words) as caught:
            await archive.open()
        assert "hush" not in str(caught.value)
        await archive.close()


async def test_branch_for_an_experiment_is_created_from_main(lakefs: LakeFsHarness) -> None:
    # C-S1-073
    sink = lakefs.make_sink()
    await sink.open()
    await sink.write([lakefs.event(0)])
    other = ArchiveSink(lakefs.make_archive(branch="experiment-yolo"), lakefs.broker, frames_per_commit=1)
    for _ in range(2):
        await other.open()
    await other.write([lakefs.event(1)])
    assert len(lakefs.repository.log("experiment-yolo")) == 3
    assert len(lakefs.commits()) == 1
    await other.close()
    await sink.close()


class S3Store:
    """Stands for a frame store in S3, of which only HEAD and the reading of a file are needed."""

    def __init__(self, lakefs: LakeFsHarness) -> None:
        self.objects: dict[str, bytes] = {}
        self.heads = 0
        self._lakefs = lakefs

    async def find(self, digests: Collection[str]) -> Mapping[str, StoredObject]:
        self.heads += len(digests)
        now = datetime.now(UTC)
        return {
            each: StoredObject(f"s3://frames/{each}.jpg", len(self.objects[each]), now)
            for each in digests
            if each in self.objects
        }

    def local(self, image: Any) -> Any:
        file = self._lakefs.frames / image.sha256[:2] / f"{image.sha256}.jpg"
        return self._lakefs.store.local(image.model_copy(update={"uri": file.as_uri()}))

    def event(self, number: int, *, stored: bool = True) -> DetectionsMade:
        event = self._lakefs.event(number)
        if stored:
            data = f"drone-{number % 3} {number}".encode()
            self.objects[event.image.sha256] = data
        uri = f"s3://frames/{event.image.sha256}.jpg"
        return event.model_copy(update={"image": event.image.model_copy(update={"uri": uri})})


def sink_of(lakefs: LakeFsHarness, store: S3Store, **changes: object) -> ArchiveSink:
    archive = lakefs.make_archive(**changes)
    archive._store = store  # type: ignore[assignment]
    return ArchiveSink(archive, lakefs.broker, frames_per_commit=10)


async def test_frames_in_s3_are_linked_and_not_copied(lakefs: LakeFsHarness) -> None:
    store = S3Store(lakefs)
    lakefs.server.external = lambda address: store.objects.get(address.rpartition("/")[2].removesuffix(".jpg"))
    sink = sink_of(lakefs, store)
    await sink.open()
    await sink.write([store.event(number) for number in range(10)])
    images = {path: each for path, each in lakefs.repository.head.objects.items() if path.endswith(".jpg")}
    assert len(images) == 10
    assert all(each.address.startswith("s3://frames/") for each in images.values())
    assert store.heads == 10, "LakeFS checks nothing, so each is looked up before"
    assert not any("POST" in each and each.endswith(".jpg") for each in lakefs.server.requests)
    await sink.close()


async def test_missing_and_cut_frames_are_not_linked(lakefs: LakeFsHarness) -> None:
    store = S3Store(lakefs)
    sink = sink_of(lakefs, store, link="always")
    await sink.open()
    with pytest.raises(ImageMissingError, match="was removed before it was archived"):
        await sink.write([store.event(0, stored=False)])
    event = store.event(1)
    store.objects[event.image.sha256] += b"more"
    with pytest.raises(ImageCorruptError, match="bytes, the event names"):
        await sink.write([event])
    assert not lakefs.repository.branches["main"].staged
    await sink.close()


async def test_frames_are_copied_while_the_server_cannot_read_the_bucket(lakefs: LakeFsHarness) -> None:
    store = S3Store(lakefs)
    sink = sink_of(lakefs, store)
    await sink.open()
    await sink.write([store.event(number) for number in range(10)])
    assert len(await lakefs.stored()) == 10, "all were read from the repository's own storage"
    await sink.close()
