"""The watched folder, with real events of the system and without."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingest.edge.folder import source as source_module
from ingest.edge.folder.inotify import FolderEvents
from ingest.edge.folder.source import FolderSource
from ingest.edge.port import NewFrame, SpoolUnavailableError, Taken
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.history import History
from tests.harnesses.edge_process import small_jpeg


class ListSpool:
    """Takes frames into a list, or has no room, as a test sets."""

    def __init__(self) -> None:
        self.frames: list[NewFrame] = []
        self.responds: Taken | SpoolUnavailableError = Taken.SPOOLED
        self.tries = 0

    async def add(self, frame: NewFrame) -> Taken:
        self.tries += 1
        if isinstance(self.responds, SpoolUnavailableError):
            raise self.responds
        if self.responds is Taken.SPOOLED:
            self.frames.append(frame)
        return self.responds

    async def wait_for_space(self) -> None:
        await asyncio.sleep(0.02)

    @property
    def names(self) -> list[str | None]:
        return [frame.name for frame in self.frames]


class Site:
    def __init__(self, folder: Path, spool: ListSpool, source: FolderSource) -> None:
        self.folder, self.spool, self.source = folder, spool, source

    def write(self, name: str, number: int = 1) -> Path:
        path = self.folder / name
        path.write_bytes(small_jpeg(number))
        return path

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not reached():  # noqa: ASYNC110 (it reads files, too)
                await asyncio.sleep(0.01)


@asynccontextmanager
async def watching(folder: Path, *, before: tuple[str, ...] = (), **settings: object) -> AsyncIterator[Site]:
    """Run a source on a folder, in which the files ``before`` are there from the start."""
    (folder / "in").mkdir(exist_ok=True)
    given = EdgeSettings.model_validate({"settle_s": 0.15, "scan_s": 30.0, **settings})
    history, spool = History(folder / "history.sqlite"), ListSpool()
    site = Site(folder / "in", spool, FolderSource(folder / "in", given, history))
    for number, name in enumerate(before):
        path = site.write(name, number)
        os.utime(path, (1_000_000 + number, 1_000_000 + number))
    stop = asyncio.Event()
    running = asyncio.create_task(site.source.run(spool, stop))
    await asyncio.sleep(0.05)
    try:
        yield site
    finally:
        stop.set()
        await asyncio.wait_for(running, 10)
        history.close()


async def test_files_that_are_there_at_the_start_are_taken_in_the_order_of_writing(tmp_path: Path) -> None:
    async with watching(tmp_path, before=("c.jpg", "a.jpg", "b.jpg")) as site:
        await site.until(lambda: len(site.spool.frames) == 3)
    assert site.spool.names == ["c.jpg", "a.jpg", "b.jpg"]


async def test_file_is_taken_when_its_writer_closes_it(tmp_path: Path) -> None:
    image = small_jpeg(1)
    async with watching(tmp_path, settle_s=20.0) as site:
        with (site.folder / "a.jpg").open("wb") as file:
            file.write(image[:500])
            file.flush()
            await asyncio.sleep(0.2)
            assert site.spool.tries == 0
            file.write(image[500:])
        await site.until(lambda: site.spool.names == ["a.jpg"])
    assert site.spool.frames[0].image == image


async def test_file_is_taken_when_it_gets_its_name_by_renaming(tmp_path: Path) -> None:
    async with watching(tmp_path, settle_s=20.0) as site:
        hidden = site.write(".a.jpg.part")
        await asyncio.sleep(0.1)
        hidden.rename(site.folder / "a.jpg")
        await site.until(lambda: site.spool.names == ["a.jpg"])


async def test_new_folders_are_watched_too(tmp_path: Path) -> None:
    async with watching(tmp_path) as site:
        (site.folder / "flight" / "1").mkdir(parents=True)
        site.write("flight/1/early.jpg")
        await site.until(lambda: site.spool.names == ["early.jpg"])
        site.write("flight/1/late.jpg", 2)
        await site.until(lambda: site.spool.names == ["early.jpg", "late.jpg"])


async def test_network_share_without_events_is_listed(tmp_path: Path) -> None:
    image = small_jpeg(1)
    async with watching(tmp_path, watch="poll", scan_s=0.1, settle_s=1.0) as site:
        with (site.folder / "a.jpg").open("wb") as file:
            for start in range(0, len(image), 400):
                file.write(image[start : start + 400])
                file.flush()
                await asyncio.sleep(0.1)
                assert site.spool.frames == []
        await site.until(lambda: site.spool.names == ["a.jpg"])
    assert site.spool.frames[0].image == image


async def test_system_without_events_is_reported_and_the_folder_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left() -> FolderEvents:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(source_module, "FolderEvents", none_left)
    async with watching(tmp_path, scan_s=0.1) as site:
        site.write("a.jpg")
        await site.until(lambda: site.spool.names == ["a.jpg"])
    assert "is listed every 0.1 s (edge.scan_s)" in caplog.text


async def test_released_files_are_deleted_with_their_side_files(tmp_path: Path) -> None:
    async with watching(tmp_path, release="delete") as site:
        (site.folder / "a.jpg.json").write_text('{"metadata": {"mission": "north"}}')
        site.write("a.jpg")
        (site.folder / "notes.txt").write_text("stays")
        await site.until(lambda: [path.name for path in site.folder.iterdir()] == ["notes.txt"])
    assert site.spool.frames[0].metadata == {"mission": "north"}


async def test_kept_files_are_taken_once_also_after_a_restart(tmp_path: Path) -> None:
    async with watching(tmp_path, before=("a.jpg",)) as site:
        await site.until(lambda: site.spool.names == ["a.jpg"])
    async with watching(tmp_path, scan_s=0.1) as site:
        site.write("b.jpg", 2)
        await site.until(lambda: site.spool.names == ["b.jpg"])
        await asyncio.sleep(0.4)
        assert site.spool.tries == 1
        site.write("a.jpg", 3)
        await site.until(lambda: site.spool.names == ["b.jpg", "a.jpg"])


async def test_file_stays_while_the_spool_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with watching(tmp_path, release="delete") as site:
        site.spool.responds = Taken.FULL
        site.write("a.jpg")
        await site.until(lambda: site.spool.tries > 2)
        assert (site.folder / "a.jpg").exists()
        assert site.source.problem == "the spool has no room for 1 file in the folder"
        site.spool.responds = Taken.SPOOLED
        await site.until(lambda: not (site.folder / "a.jpg").exists())
        assert site.source.problem is None
    assert caplog.text.count("the spool has no room; files stay") == 1


async def test_dropped_frame_is_released(tmp_path: Path) -> None:
    async with watching(tmp_path, release="delete") as site:
        site.spool.responds = Taken.DROPPED
        site.write("a.jpg")
        await site.until(lambda: not (site.folder / "a.jpg").exists())


async def test_file_stays_while_the_spool_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with watching(tmp_path, release="delete") as site:
        site.spool.responds = SpoolUnavailableError("the spool cannot be written: Input/output error")
        site.write("a.jpg")
        await site.until(lambda: site.spool.tries > 2)
        assert "Input/output error" in (site.source.problem or "")
        site.spool.responds = Taken.SPOOLED
        await site.until(lambda: not (site.folder / "a.jpg").exists())
        await site.until(lambda: site.source.problem is None)
    assert "no room" not in caplog.text


async def test_picture_waits_for_its_required_side_file(tmp_path: Path) -> None:
    async with watching(tmp_path, side_files="required") as site:
        site.write("a.jpg")
        await site.until(lambda: "its side file is missing" in (site.source.problem or ""))
        (site.folder / "a.json").write_text('{"altitude_m": 80}')
        await site.until(lambda: site.spool.names == ["a.jpg"])
    assert site.spool.frames[0].camera == {"altitude_m": 80.0}


async def test_wrong_side_file_is_reported_and_read_again_when_it_is_corrected(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with watching(tmp_path) as site:
        (site.folder / "a.json").write_text('{"altitude_m": ')
        site.write("a.jpg")
        await site.until(lambda: "is not JSON" in (site.source.problem or ""))
        (site.folder / "a.json").write_text('{"altitude_m": 80}')
        await site.until(lambda: site.spool.names == ["a.jpg"])
    assert caplog.text.count("is not JSON") == 1


async def test_folder_that_is_unmounted_is_reported_and_taken_up_again(tmp_path: Path) -> None:
    async with watching(tmp_path, scan_s=0.1) as site:
        away = site.folder.rename(tmp_path / "unmounted")
        await site.until(lambda: "cannot be read: No such file" in (site.source.problem or ""))
        away.rename(site.folder)
        site.write("a.jpg")
        await site.until(lambda: site.spool.names == ["a.jpg"] and site.source.problem is None)


async def test_folder_inside_that_is_not_listed_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "in").joinpath(*["d"] * 33).mkdir(parents=True)
    listings: list[Path] = []

    async with watching(tmp_path, scan_s=0.1) as site:
        listed = site.source._list

        async def count(events: FolderEvents | None) -> None:
            listings.append(site.folder)
            await listed(events)

        site.source._list = count  # type: ignore[method-assign]
        site.write("a.jpg")
        await site.until(lambda: len(listings) > 3 and site.spool.names == ["a.jpg"])
        assert "more than 32 folders deep" in (site.source.problem or "")
    assert caplog.text.count("more than 32 folders deep") == 1
    assert "can be read again" not in caplog.text


async def test_file_that_is_written_again_before_its_deletion_stays(tmp_path: Path) -> None:
    async with watching(tmp_path, release="delete") as site:
        first = site.spool.add

        async def add(frame: NewFrame) -> Taken:
            if site.spool.tries == 0:
                site.write("a.jpg", 2)
            return await first(frame)

        site.spool.add = add  # type: ignore[method-assign]
        site.write("a.jpg", 1)
        await site.until(lambda: len(site.spool.frames) == 2 and not (site.folder / "a.jpg").exists())
    assert [frame.image for frame in site.spool.frames] == [small_jpeg(1), small_jpeg(2)]


async def test_files_whose_names_are_no_text_are_taken_or_shown(tmp_path: Path) -> None:
    odd = os.fsdecode(b"a\xff.jpg")
    async with watching(tmp_path, before=(odd,)) as site:
        await site.until(lambda: len(site.spool.frames) == 1)
        (site.folder / os.fsdecode(b"empty\xff.jpg")).touch()
        await site.until(lambda: site.source.problem is not None)
        problem = site.source.problem
    assert site.spool.names == ["a\ufffd.jpg"]
    # The status is JSON.
    assert problem is not None and problem.encode().endswith(b"empty\\udcff.jpg: it is empty")
