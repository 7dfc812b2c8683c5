"""The folder of the spool, or a file in it, is removed, replaced or unreadable while a client has it."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest.edge.port import NewFrame, SpoolGoneError, SpoolUnavailableError, Taken
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool import frame_file
from ingest.edge.spool.counts import Counts
from ingest.edge.spool.entry import Lane
from ingest.edge.spool.frame_file import DamagedFrameError, SpooledFrame
from ingest.edge.spool.spool import WAITING_FOLDER, Spool
from ingest.edge.status import read_status

WHEN = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool", EdgeSettings.model_validate({"min_free_bytes": 0}), Counts())
    yield opened
    opened.close()


async def test_spool_that_was_removed_raises_spool_gone(spool: Spool, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "spool")
    with pytest.raises(SpoolGoneError, match="was removed, unmounted or replaced"):
        spool.require_there()
    with pytest.raises(SpoolGoneError):
        await spool.add(NewFrame(b"picture", WHEN))


async def test_frame_of_a_replaced_spool_is_not_counted_as_damaged(spool: Spool, tmp_path: Path) -> None:
    await spool.add(NewFrame(b"picture", WHEN))
    (tmp_path / "spool").rename(tmp_path / "away")
    (tmp_path / "spool" / WAITING_FOLDER).mkdir(parents=True)
    entry = spool.next_of(Lane.LIVE)
    assert entry is not None
    with pytest.raises(SpoolGoneError):
        await spool.open(entry, Lane.LIVE)
    assert spool.counts.damaged == 0
    assert len(list((tmp_path / "away" / WAITING_FOLDER).iterdir())) == 1


async def test_queue_folder_alone_that_was_removed_is_made_again(spool: Spool, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "spool" / WAITING_FOLDER)
    with pytest.raises(SpoolUnavailableError, match="No such file"):
        await spool.add(NewFrame(b"picture", WHEN))
    assert await spool.add(NewFrame(b"picture", WHEN)) is Taken.SPOOLED


async def test_frame_that_the_disk_cannot_read_is_set_aside_and_holds_no_other_back(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        await spool.add(NewFrame(b"picture", WHEN + timedelta(seconds=number)))
    bad = spool.next_of(Lane.LIVE)
    assert bad is not None
    read = frame_file.read_frame

    def with_bad_block(path: Path) -> SpooledFrame:
        if path.name == bad.file_name:
            raise OSError(errno.EIO, "Input/output error")
        return read(path)

    monkeypatch.setattr(frame_file, "read_frame", with_bad_block)
    with pytest.raises(DamagedFrameError, match="cannot be read: Input/output error") as damaged:
        await spool.open(bad, Lane.LIVE)
    await spool.set_damaged_aside(bad, damaged.value)
    assert [path.name for path in (tmp_path / "spool" / "damaged").iterdir()] == [bad.file_name]
    other = spool.next_of(Lane.LIVE)
    assert other is not None and await spool.open(other, Lane.LIVE) is not None


def test_status_of_a_spool_with_a_file_that_cannot_be_read(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "spool" / WAITING_FOLDER / f"000000000001-key{frame_file.SUFFIX}").mkdir()
    found = read_status(tmp_path / "spool")
    assert (found.frames, found.oldest_captured_at) == (1, None)
