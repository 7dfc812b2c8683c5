"""The flight of a frame is the one that is set when it is taken, and its frames are counted once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest.edge.port import NewFrame, Taken
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.counts import Counts
from ingest.edge.spool.entry import Lane
from ingest.edge.spool.refused import Refusal, refused_frames
from ingest.edge.spool.spool import Spool

OpenSpool = Callable[..., Spool]


def frame(number: int) -> NewFrame:
    return NewFrame(b"picture", datetime(2026, 5, 1, tzinfo=UTC) + timedelta(seconds=number), f"{number}.jpg")


@pytest.fixture
def open_spool(tmp_path: Path) -> Iterator[OpenSpool]:
    opened: list[Spool] = []

    def open_it(flight: str | None, **settings: object) -> Spool:
        given = EdgeSettings.model_validate({"min_free_bytes": 0, "flight": flight, **settings})
        opened.append(Spool(tmp_path / "spool", given, Counts()))
        return opened[-1]

    yield open_it
    for each in opened:
        each.close()


async def test_frame_keeps_the_flight_of_its_arrival_after_a_restart(open_spool: OpenSpool) -> None:
    first = open_spool("north")
    await first.add(frame(1))
    second = open_spool("south")
    await second.add(frame(2))
    found = [await second.header(entry) for entry in second.next_entries(Lane.BACKLOG, 5)]
    assert [header.flight for header in found if header is not None] == ["north"]
    assert (second.history.frames_of("north"), second.history.frames_of("south")) == (1, 1)


async def test_frame_that_is_brought_again_counts_once_for_its_flight(open_spool: OpenSpool) -> None:
    spool = open_spool("north")
    assert await spool.add(frame(1)) is Taken.SPOOLED
    assert await spool.add(frame(1)) is Taken.KNOWN
    assert spool.history.frames_of("north") == 1


async def test_frame_of_a_flight_is_counted_when_it_is_sent_if_a_power_cut_undid_it(
    open_spool: OpenSpool, tmp_path: Path
) -> None:
    await open_spool("north").add(frame(1))
    for path in (tmp_path / "spool").glob("history.sqlite*"):
        path.unlink()
    spool = open_spool(None)
    assert spool.history.frames_of("north") == 0
    entry = spool.next_of(Lane.BACKLOG)
    assert entry is not None
    await spool.open(entry)
    await spool.finish(entry)
    assert spool.history.frames_of("north") == 1


async def test_refused_frame_keeps_its_flight_and_counts(open_spool: OpenSpool, tmp_path: Path) -> None:
    await open_spool("north").add(frame(1))
    spool = open_spool(None)
    entry = spool.next_of(Lane.BACKLOG)
    assert entry is not None
    found = await spool.open(entry)
    assert found is not None
    await spool.refuse(entry, found, Refusal(code="IMAGE_CORRUPT", reason="it ends early"))
    [(_, _, refused)] = refused_frames(tmp_path / "spool" / "refused")
    assert refused.flight == "north"
    assert spool.history.frames_of("north") == 1
