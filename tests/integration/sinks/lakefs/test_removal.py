"""Retention removes frames from the archive: images, their entries and parts, in one commit."""

from __future__ import annotations

import json

import pytest

from infra.errors import TransientError
from sinks.lakefs import listing
from sinks.lakefs.removal import ArchivedFrames
from tests.harnesses.archive import ArchiveHarness, LakeFsHarness

pytestmark = pytest.mark.integration


async def test_removed_frames_are_neither_listed_nor_there(archive: ArchiveHarness) -> None:
    events = [archive.event(number) for number in range(9)]
    sink = archive.make_sink()
    await sink.open()
    await sink.write(events)
    gone = [entry["path"] for entry in archive.listed() if entry["path"].startswith("images/drone-1/")][:2]
    removal = ArchivedFrames(archive.make_archive)
    for _ in range(2):
        await removal.remove([*gone, "images/drone-1/2026-05-01/missing.jpg", "images/never/2026-05-01/x.jpg"])
    assert len(await archive.stored()) == 7
    assert not set(gone) & set(archive.committed())
    assert [commit["message"] for commit in archive.commits()][1:] == ["4 images removed by retention"]
    await sink.write(events)
    assert len(await archive.stored()) == 9, "sent again, a frame is archived again"
    await sink.close()


async def test_parts_without_removed_frames_get_other_names(
    archive: ArchiveHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MOST_ENTRIES", 5)
    events = [archive.event(number, device="d") for number in range(18)]
    sink = archive.make_sink()
    await sink.open()
    await sink.write(events)
    paths = [
        f"images/d/2026-05-01/{entry['file']}" for entry in sorted(archive.listed(), key=lambda e: e["captured_at"])
    ]
    # All of the first part, and one of the second.
    await ArchivedFrames(archive.make_archive).remove(paths[:6])
    head = json.loads(archive.committed()["images/d/2026-05-01/metadata.json"])
    assert head["parts"] == ["metadata-0004.json", "metadata-0003.json"]
    assert len(await archive.stored()) == 12
    await sink.write(events[:8])
    assert len(await archive.stored()) == 18
    await sink.close()


async def test_everything_may_be_removed(archive: ArchiveHarness) -> None:
    events = [archive.event(number) for number in range(3)]
    sink = archive.make_sink()
    await sink.open()
    await ArchivedFrames(archive.make_archive).remove(["images/drone-1/2026-05-01/missing.jpg"])
    await sink.write(events)
    await ArchivedFrames(archive.make_archive).remove([entry["path"] for entry in archive.listed()])
    assert await archive.stored() == []
    await sink.close()


async def test_removal_that_was_ended_at_any_request_is_repeated(
    lakefs: LakeFsHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.lakefs.commits._ATTEMPTS", 1)
    sink = lakefs.make_sink()
    await sink.open()
    await sink.write([lakefs.event(number) for number in range(40)])
    removal = ArchivedFrames(lakefs.make_archive)
    for step in range(40):
        paths = [entry["path"] for entry in lakefs.listed()]
        lakefs.server.end_at(step, done=bool(step % 2))
        try:
            await removal.remove(paths[:1])
        except TransientError:
            lakefs.server.go_on()
            await removal.remove(paths[:1])
        else:
            assert step > 5
            break
        assert len(await lakefs.stored()) == len(paths) - 1
    lakefs.server.go_on()
    await sink.close()
