"""The folder of the spool is removed or replaced while a client has it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.edge.port import NewFrame, SpoolGoneError, SpoolUnavailableError, Taken
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.counts import Counts
from ingest.edge.spool.entry import Lane
from ingest.edge.spool.spool import WAITING_FOLDER, Spool

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
