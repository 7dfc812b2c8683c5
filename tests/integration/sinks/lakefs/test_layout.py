"""Tests layout, commits and reports of the archive, in a folder and in LakeFS."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID, uuid4

import cv2
import numpy as np
import pytest

from schemas.archive_paths import archive_path
from schemas.events import FrameBatch
from schemas.ids import frame_batch_id
from sinks.lakefs import listing
from sinks.lakefs.removal import ArchivedFrames
from standgale.services.drawn_frames import FrameDrawer
from standgale.testing.factories import START
from tests.harnesses.archive import ArchiveHarness
from tests.servers.gateway import jpeg

pytestmark = pytest.mark.integration


async def test_image_is_at_the_path_that_the_gateway_returned(archive: ArchiveHarness) -> None:
    # C-S1-005, C-S1-070
    event = archive.event(0, device="drone-7")
    sink = archive.make_sink()
    await sink.open()
    await sink.write([event])
    path = archive_path("drone-7", event.captured_at, event.image.sha256, "image/jpeg")
    assert path == f"images/drone-7/2026-05-01/12-00-00_{event.image.sha256[:4]}.jpg"
    assert set(archive.committed()) == {path, "images/drone-7/2026-05-01/metadata.json"}
    assert archive.committed()[path] == b"drone-7 0"
    await sink.close()


async def test_metadata_json_lists_the_images_of_its_folder(archive: ArchiveHarness) -> None:
    # C-S1-071
    events = [archive.event(number, device="drone-1") for number in range(3)]
    next_day = archive.event(9, device="drone-1", captured_at=START + timedelta(days=1))
    sink = archive.make_sink()
    await sink.open()
    await sink.write([*events, next_day])
    document = json.loads(archive.committed()["images/drone-1/2026-05-01/metadata.json"])
    assert [entry["frame_id"] for entry in document["images"]] == [str(event.frame_id) for event in events]
    first = document["images"][0]
    assert first["original_filename"] == "DJI_0001.JPG"
    assert first["camera"]["latitude"] == 50.5
    assert first["metadata"] == {"flight": "7", "wind": [1, 2.5, None]}
    assert "images/drone-1/2026-05-02/metadata.json" in archive.committed()
    await sink.close()


async def test_two_frames_of_a_second_with_the_same_digits_get_more_digits(archive: ArchiveHarness) -> None:
    # C-S1-071
    contents: dict[str, bytes] = {}
    for number in range(100_000):
        data = f"picture {number}".encode()
        digits = archive.event(0, stored=False, data=data).image.sha256[:4]
        if digits in contents:
            break
        contents[digits] = data
    events = [archive.event(0, device="d", data=each) for each in (contents[digits], data)]
    for again in range(2):
        sink = archive.make_sink()
        await sink.open()
        await sink.write(events[: 1 + again])
        await sink.close()
    names = [entry["file"] for entry in archive.listed()]
    assert names == [f"12-00-00_{digits}.jpg", f"12-00-00_{events[1].image.sha256[:5]}.jpg"]


async def test_same_picture_twice_in_a_second_is_one_file_and_two_entries(archive: ArchiveHarness) -> None:
    events = [
        archive.event(0, device="d", data=b"same", captured_at=START + timedelta(milliseconds=ms)) for ms in (0, 500)
    ]
    sink = archive.make_sink()
    await sink.open()
    await sink.write(events)
    assert len({entry["frame_id"] for entry in archive.listed()}) == 2
    assert len({entry["path"] for entry in archive.listed()}) == 1
    await sink.close()


async def test_frames_are_committed_ten_at_a_time(archive: ArchiveHarness) -> None:
    # C-S1-074
    sink = archive.make_sink()
    await sink.open()
    await sink.write([archive.event(number) for number in range(25)])
    assert [commit["metadata"]["images"] for commit in archive.commits()] == ["10", "10", "5"]
    assert archive.commits()[0]["message"] == "10 images of drone-0, drone-1, drone-2"
    await sink.close()


async def test_frames_of_one_batch_are_one_commit(archive: ArchiveHarness) -> None:
    # C-S1-016, C-S1-074
    frames = [archive.event(number, device="drone-1") for number in range(23)]
    batch = FrameBatch(id=frame_batch_id(event.frame_id for event in frames), frames=23)
    events = [event.model_copy(update={"batch": batch}) for event in frames]
    sink = archive.make_sink()
    await sink.open()
    await sink.write([archive.event(90), *events[:20], archive.event(91), *events[20:]])
    assert [commit["metadata"]["images"] for commit in archive.commits()] == ["23", "2"]
    assert archive.commits()[0]["batch"] == str(batch.id)
    await sink.close()


async def test_commit_is_reported_with_the_path_of_each_frame(archive: ArchiveHarness) -> None:
    # C-S1-075
    events = [archive.event(number) for number in range(12)]
    sink = archive.make_sink()
    await sink.open()
    await sink.write(events)
    reported = await archive.reported()
    found = {image.frame_id: image.path for report in reported for image in report.images}
    assert found == {UUID(entry["frame_id"]): entry["path"] for entry in archive.listed()}
    assert {(report.repository, report.branch) for report in reported} == {("bird-detection", "main")}
    await sink.write(events)
    again = await archive.reported()
    assert {report.id for report in again} == {report.id for report in reported}, "the same events again"
    assert len(archive.commits()) == 2, "what is committed is not committed again"
    await sink.close()


async def test_frames_of_jobs_are_archived_on_demand_only(archive: ArchiveHarness) -> None:
    event = archive.event(0, job_id=uuid4())
    for jobs in (False, True):
        sink = archive.make_sink(jobs=jobs)
        await sink.open()
        await sink.write([event])
        assert len(archive.commits()) == jobs
        await sink.close()


async def test_full_listing_goes_on_in_parts_that_never_change(
    archive: ArchiveHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MOST_ENTRIES", 20)
    events = [archive.event(number, device="drone-1") for number in range(75)]
    for first in range(0, 75, 15):
        sink = archive.make_sink()
        await sink.open()
        await sink.write(events[first : first + 15])
        # Those of earlier parts are known, too.
        await sink.write(events[: first + 15])
        await sink.close()
    files = archive.committed()
    folder = "images/drone-1/2026-05-01/"
    assert json.loads(files[folder + "metadata.json"])["parts"] == [
        f"metadata-000{number}.json" for number in (1, 2, 3)
    ]
    assert len(json.loads(files[folder + "metadata-0001.json"])["images"]) == 20
    assert [entry["frame_id"] for entry in archive.listed()].count(str(events[0].frame_id)) == 1
    assert len(archive.listed()) == 75


async def test_odd_metadata_is_listed_and_the_listing_stays_readable(archive: ArchiveHarness) -> None:
    odd = {"a": 10**40, "b": float("nan"), "c": 'quote " and \0', "d": {"e": [-(10**30)]}, "f": "x" * 600_000}
    sink = archive.make_sink()
    await sink.open()
    await sink.write([archive.event(0, metadata=odd), archive.event(3, metadata=odd)])
    await sink.write([archive.event(6, metadata=odd)])
    entries = archive.listed()
    assert len(entries) == 3
    assert entries[0]["metadata"]["a"] == str(10**40)
    assert entries[0]["metadata"]["b"] is None
    await sink.close()


async def test_damaged_listing_holds_the_sink_and_loses_nothing(archive: ArchiveHarness) -> None:
    sink = archive.make_sink()
    await sink.open()
    await sink.write([archive.event(0, device="d")])
    damaged = archive.make_archive()
    await damaged.open()
    path = "images/d/2026-05-01/metadata.json"
    whole = archive.committed()[path]
    await damaged.add_document(path, b"{ damaged")
    await damaged.commit("damage", "damage", {})
    with pytest.raises(listing.ArchiveDamagedError, match="put the version of an earlier commit back"):
        await sink.write([archive.event(1, device="d")])
    await damaged.add_document(path, whole)
    await damaged.commit("repair", "repair", {})
    await sink.write([archive.event(1, device="d")])
    assert len(archive.listed()) == 2
    await damaged.close()
    await sink.close()


async def test_drawn_pictures_are_beside_the_images_on_demand(archive: ArchiveHarness) -> None:
    # C-S1-072
    picture = jpeg(seed=1)
    found = archive.event(0, device="d", data=picture)
    nothing = archive.event(1, device="d", data=jpeg(seed=2), detections=[])
    broken = archive.event(2, device="d", data=b"no picture")
    sink = archive.make_sink(draw=FrameDrawer(archive.store, 10_000_000).draw)
    await sink.open()
    await sink.write([found, nothing, broken])
    await sink.write([found, nothing, broken])
    drawn = {path: data for path, data in archive.committed().items() if path.startswith("with-detections/")}
    assert list(drawn) == [f"with-detections/d/2026-05-01/12-00-00_{found.image.sha256[:4]}.jpg"]
    (data,) = drawn.values()
    shape = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR).shape
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == shape
    assert data != picture
    assert len(archive.listed()) == 3
    await ArchivedFrames(archive.make_archive).remove([entry["path"] for entry in archive.listed()])
    assert not any(path.endswith(".jpg") for path in archive.committed())
    await sink.close()
