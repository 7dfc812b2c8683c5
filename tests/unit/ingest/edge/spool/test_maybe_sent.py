"""After a restart, only frames that the former process may have been sending are sent as repeated."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest.edge.port import NewFrame
from ingest.edge.settings import EdgeSettings
from ingest.edge.spool.counts import Counts
from ingest.edge.spool.entry import Lane
from ingest.edge.spool.spool import WAITING_FOLDER, Spool


@pytest.mark.parametrize(("live_s", "last"), [(10.0, 5), (0.0, 0)])
async def test_first_and_newest_frames_may_have_been_sent(tmp_path: Path, live_s: float, last: int) -> None:
    settings = EdgeSettings.model_validate({"min_free_bytes": 0, "live_s": live_s})
    spool = Spool(tmp_path, settings, Counts())
    for number in range(80):
        when = datetime(2026, 5, 1, tzinfo=UTC) + timedelta(seconds=number)
        await spool.add(NewFrame(b"picture", when, f"{number}.jpg"))
    for number, path in enumerate(sorted((tmp_path / WAITING_FOLDER).iterdir())):
        os.utime(path, (number * 10, number * 10))
    spool.close()
    again = Spool(tmp_path, settings, Counts())
    flags = [entry.maybe_sent for entry in again.next_entries(Lane.BACKLOG, 100)]
    assert flags == [True] * 64 + [False] * (16 - last) + [True] * last
    again.close()
