"""The queue on the disk: limits, order, restarts and damaged files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest.edge.port import NewFrame, SpoolUnavailableError, Taken
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool import spool as spool_module
from ingest.edge.spool.counts import Counts
from ingest.edge.spool.entry import Entry, Lane
from ingest.edge.spool.frame_file import DamagedFrameError
from ingest.edge.spool.refused import Refusal, refused_frames
from ingest.edge.spool.spool import WAITING_FOLDER, Spool

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
OpenSpool = Callable[..., Spool]


def frame(number: int, size: int = 1_000) -> NewFrame:
    return NewFrame((number + 1).to_bytes(2, "big") * (size // 2), START + timedelta(seconds=number), f"{number}.jpg")


@pytest.fixture
def open_spool(tmp_path: Path) -> Iterator[OpenSpool]:
    """Opens the spool of the test's folder, as often as the client starts."""
    opened: list[Spool] = []

    def open_it(**settings: object) -> Spool:
        given = EdgeSettings.model_validate({"min_free_bytes": 0, "max_frame_bytes": 5_000, **settings})
        opened.append(Spool(tmp_path / "spool", given, Counts()))
        return opened[-1]

    yield open_it
    for each in opened:
        each.close()


def next_entry(spool: Spool) -> Entry:
    entry = spool.next_of(Lane.BACKLOG) or spool.next_of(Lane.LIVE)
    assert entry is not None
    return entry


async def drain(spool: Spool) -> list[str | None]:
    """Send everything in the order of the queue; return the names."""
    names: list[str | None] = []
    while spool.frames:
        entry = next_entry(spool)
        found = await spool.open(entry)
        assert found is not None
        names.append(found.header.name)
        await spool.finish(entry)
    return names


def files(folder: Path) -> list[Path]:
    return sorted((folder / "spool" / WAITING_FOLDER).iterdir())


async def test_add_keeps_order_and_fields_over_a_restart(open_spool: OpenSpool, tmp_path: Path) -> None:
    spool = open_spool()
    for number in range(3):
        assert await spool.add(frame(number)) is Taken.SPOOLED
    spool = open_spool()
    assert spool.frames == 3
    assert spool.used_bytes == sum(path.stat().st_size for path in files(tmp_path))
    assert await spool.add(frame(3)) is Taken.SPOOLED
    assert await drain(spool) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert (files(tmp_path), spool.used_bytes) == ([], 0)


async def test_add_the_same_frame_again_is_known_while_waiting_and_after_sending(open_spool: OpenSpool) -> None:
    spool = open_spool()
    assert await spool.add(frame(1)) is Taken.SPOOLED
    assert await spool.add(frame(1)) is Taken.KNOWN
    assert await drain(spool) == ["1.jpg"]
    assert await spool.add(frame(1)) is Taken.KNOWN
    spool = open_spool()
    assert await spool.add(frame(1)) is Taken.KNOWN
    assert spool.frames == 0


async def test_full_spool_with_stop_keeps_the_frame_with_its_source(open_spool: OpenSpool) -> None:
    spool = open_spool(max_frames=2)
    assert [await spool.add(frame(number)) for number in range(3)] == [Taken.SPOOLED, Taken.SPOOLED, Taken.FULL]
    waiting = asyncio.create_task(spool.wait_for_space())
    await asyncio.sleep(0)
    await spool.finish(next_entry(spool))
    await asyncio.wait_for(waiting, 0.5)
    assert await spool.add(frame(2)) is Taken.SPOOLED


async def test_full_spool_with_drop_oldest_drops_until_the_new_one_fits(
    open_spool: OpenSpool, caplog: pytest.LogCaptureFixture
) -> None:
    spool = open_spool(max_bytes=6_000, when_full="drop_oldest")
    for number in range(4):
        await spool.add(frame(number))
    assert await spool.add(frame(4, 3_000)) is Taken.SPOOLED
    assert await drain(spool) == ["2.jpg", "3.jpg", "4.jpg"]
    assert spool.counts.dropped_oldest == 2
    assert "edge.max_bytes is 6000; the oldest frame in the queue is dropped" in caplog.text


async def test_drop_oldest_never_drops_the_frame_that_is_being_sent(open_spool: OpenSpool) -> None:
    spool = open_spool(max_frames=2, when_full="drop_oldest")
    await spool.add(frame(0))
    await spool.add(frame(1))
    entry = next_entry(spool)
    assert await spool.open(entry) is not None
    await spool.add(frame(2))
    await spool.finish(entry)
    assert await drain(spool) == ["2.jpg"]
    assert spool.counts.dropped_oldest == 1


async def test_open_a_dropped_frame_returns_none(open_spool: OpenSpool) -> None:
    spool = open_spool(max_frames=1, when_full="drop_oldest")
    await spool.add(frame(0))
    entry = next_entry(spool)
    await spool.add(frame(1))
    assert await spool.open(entry) is None


async def test_full_spool_with_drop_newest_counts_the_new_frame(
    open_spool: OpenSpool, caplog: pytest.LogCaptureFixture
) -> None:
    spool = open_spool(max_frames=1, when_full="drop_newest")
    assert [await spool.add(frame(number)) for number in range(3)] == [Taken.SPOOLED, Taken.DROPPED, Taken.DROPPED]
    assert spool.counts.dropped_newest == 2
    assert "the new frame 1.jpg is dropped (edge.when_full is drop_newest)" in caplog.text
    assert await drain(spool) == ["0.jpg"]


async def test_too_little_free_space_on_the_disk_is_a_full_spool(open_spool: OpenSpool) -> None:
    spool = open_spool(min_free_bytes=10**18)
    assert await spool.add(frame(0)) is Taken.FULL


async def test_drop_oldest_keeps_the_queue_when_dropping_gives_no_space(open_spool: OpenSpool) -> None:
    spool = open_spool()
    for number in range(20):
        await spool.add(frame(number))
    spool = open_spool(min_free_bytes=10**18, when_full="drop_oldest", max_frame_bytes=5_000)
    big = [Entry(100 + each, f"{each}", 3_000_000, None) for each in range(3)]
    for entry in big:  # as large as real frames, so that two of them are the bound
        spool._by_key[entry.key] = entry
        spool._backlog.appendleft(entry)
    assert await spool.add(frame(99)) is Taken.FULL
    assert (spool.counts.dropped_oldest, spool.frames) == (2, 21)


async def test_unfinished_files_are_removed_at_the_start(open_spool: OpenSpool, tmp_path: Path) -> None:
    await open_spool().add(frame(0))
    files(tmp_path)[0].with_suffix(".frame.unfinished").write_bytes(b"half")
    assert open_spool().frames == 1
    assert len(files(tmp_path)) == 1


@pytest.mark.parametrize("damage", ["cut off", "zeros", "empty"])
async def test_damaged_frame_is_written_again_in_its_place_from_its_source(
    open_spool: OpenSpool, tmp_path: Path, damage: str
) -> None:
    spool = open_spool()
    for number in range(2):
        await spool.add(frame(number))
    whole = files(tmp_path)[0].read_bytes()
    files(tmp_path)[0].write_bytes({"cut off": whole[:-10], "zeros": whole[:-10] + bytes(10), "empty": b""}[damage])
    spool = open_spool()
    assert await spool.add(frame(0)) is Taken.SPOOLED
    assert spool.used_bytes == sum(path.stat().st_size for path in files(tmp_path))
    assert await drain(spool) == ["0.jpg", "1.jpg"]


async def test_damaged_frame_is_set_aside_and_forgotten_when_it_comes_again(
    open_spool: OpenSpool, tmp_path: Path
) -> None:
    await open_spool().add(frame(0))
    files(tmp_path)[0].write_bytes(b"{}")
    spool = open_spool()
    entry = next_entry(spool)
    with pytest.raises(DamagedFrameError, match="does not begin with a frame's description") as caught:
        await spool.open(entry)
    await spool.set_damaged_aside(entry, caught.value)
    assert (spool.frames, len(list((tmp_path / "spool" / "damaged").iterdir()))) == (0, 1)
    spool = open_spool()
    assert spool.used_bytes == 2
    await spool.add(frame(0))
    assert list((tmp_path / "spool" / "damaged").iterdir()) == []
    assert await drain(spool) == ["0.jpg"]
    assert spool.used_bytes == 0


async def test_damaged_frame_that_was_just_written_again_stays_in_the_queue(
    open_spool: OpenSpool, tmp_path: Path
) -> None:
    await open_spool().add(frame(0))
    files(tmp_path)[0].write_bytes(b"{}")
    spool = open_spool()
    entry = next_entry(spool)
    with pytest.raises(DamagedFrameError) as caught:
        await spool.open(entry)
    assert await spool.add(frame(0)) is Taken.SPOOLED
    await spool.set_damaged_aside(entry, caught.value)
    assert await drain(spool) == ["0.jpg"]
    assert spool.counts.damaged == 0


async def test_damaged_file_of_a_frame_that_was_sent_is_not_written_again(
    open_spool: OpenSpool, tmp_path: Path
) -> None:
    spool = open_spool()
    await spool.add(frame(0))
    path = files(tmp_path)[0]
    await drain(spool)
    path.write_bytes(b"{}")
    assert await open_spool().add(frame(0)) is Taken.KNOWN


async def test_frame_whose_file_came_back_after_sending_is_not_sent_again(
    open_spool: OpenSpool, tmp_path: Path
) -> None:
    spool = open_spool()
    await spool.add(frame(0))
    path = files(tmp_path)[0]
    content = path.read_bytes()
    await drain(spool)
    path.write_bytes(content)
    spool = open_spool()
    assert spool.frames == 1
    assert await spool.open(next_entry(spool)) is None
    assert (spool.frames, files(tmp_path)) == (0, [])


async def test_refused_frame_is_a_picture_with_its_reason(
    open_spool: OpenSpool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = open_spool()
    await spool.add(NewFrame(b"no picture", START, "../odd name?.jpg", {"altitude_m": 80.0}, {"mission": "north"}))
    entry = next_entry(spool)
    found = await spool.open(entry)
    assert found is not None
    await spool.refuse(entry, found, Refusal(code="INVALID_FORMAT", reason="not an image"))
    assert "the gateway refuses a frame (INVALID_FORMAT: not an image)" in caplog.text
    [(picture, _, again)] = refused_frames(tmp_path / "spool" / "refused")
    assert picture.name.endswith("-.._odd_name_.jpg")
    assert picture.read_bytes() == b"no picture"
    assert again == NewFrame(b"no picture", START, "../odd name?.jpg", {"altitude_m": 80.0}, {"mission": "north"})
    assert spool.frames == 0
    assert open_spool().used_bytes > len(b"no picture")


async def test_frames_stop_being_live_with_age_and_keep_their_order(open_spool: OpenSpool) -> None:
    spool = open_spool(live_s=0.15)
    await spool.add(frame(0))
    await asyncio.sleep(0.2)
    await spool.add(frame(1))
    live, backlog = spool.next_of(Lane.LIVE), spool.next_of(Lane.BACKLOG)
    assert live is not None
    assert backlog is not None
    assert (backlog.number, live.number) == (1, 2)
    await asyncio.sleep(0.2)
    assert spool.next_of(Lane.LIVE) is None
    assert spool.behind(backlog, Lane.BACKLOG) is live
    assert await drain(spool) == ["0.jpg", "1.jpg"]


async def test_no_frame_is_live_when_live_s_is_0(open_spool: OpenSpool) -> None:
    spool = open_spool(live_s=0)
    await spool.add(frame(0))
    assert spool.next_of(Lane.LIVE) is None


async def test_late_frame_of_a_source_is_never_live(open_spool: OpenSpool) -> None:
    spool = open_spool()
    await spool.add(replace(frame(0), is_late=True))
    assert spool.next_of(Lane.LIVE) is None
    assert spool.next_of(Lane.BACKLOG) is not None


async def test_backlog_waits_for_the_live_frame_before_it_that_is_being_sent(
    open_spool: OpenSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a live upload that fails would put its frame behind later ones."""
    now_s = [100.0]
    monkeypatch.setattr(spool_module, "monotonic_s", lambda: now_s[0])
    spool = open_spool(live_s=5)
    await spool.add(frame(0))
    await spool.add(frame(1))
    first = spool.next_of(Lane.LIVE)
    assert first is not None
    assert await spool.open(first, Lane.LIVE) is not None
    now_s[0] += 6
    assert spool.next_of(Lane.BACKLOG) is None
    spool.put_back(first)
    assert spool.next_of(Lane.BACKLOG) is first


async def test_several_frames_of_the_backlog_are_given_out_in_order(open_spool: OpenSpool) -> None:
    spool = open_spool(live_s=0)
    for number in range(3):
        await spool.add(frame(number))
    taken = []
    while (entry := spool.next_of(Lane.BACKLOG)) is not None:
        await spool.open(entry)
        taken.append(entry)
    assert [entry.number for entry in taken] == [1, 2, 3]
    spool.put_back(taken[1])
    assert spool.next_of(Lane.BACKLOG) is taken[1]


async def test_unavailable_folder_is_an_error_with_its_reason(open_spool: OpenSpool, tmp_path: Path) -> None:
    spool = open_spool()
    away = (tmp_path / "spool" / WAITING_FOLDER).rename(tmp_path / "away")
    with pytest.raises(SpoolUnavailableError, match="cannot be written: No such file or directory"):
        await spool.add(frame(0))
    away.rename(tmp_path / "spool" / WAITING_FOLDER)
    assert await spool.add(frame(0)) is Taken.SPOOLED


async def test_damaged_history_is_begun_anew(
    open_spool: OpenSpool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = open_spool()
    await spool.add(frame(0))
    await drain(spool)
    spool.close()
    for path in (tmp_path / "spool").glob("history.sqlite*"):
        path.write_bytes(b"\0garbage" * 1000)
    caplog.set_level(logging.WARNING)
    spool = open_spool()
    assert "is damaged" in caplog.text
    assert await spool.add(frame(0)) is Taken.SPOOLED
    assert await drain(spool) == ["0.jpg"]
