"""The client of docs/stream.md loses no frame and repeats none, in order, while everything behind it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harnesses.stream_outages import StreamOutages, stream_through_outages

pytestmark = [pytest.mark.integration, pytest.mark.faults]


async def test_stream_publishes_every_frame_once_in_order_through_outages(tmp_path: Path) -> None:
    outages = StreamOutages(frames=300)
    account = await stream_through_outages(tmp_path, outages)
    assert (account.missing, account.repeated, account.in_order) == (0, 0, True), account
    assert account.acknowledged == account.frames, account
    assert account.acknowledged + account.refused == 300, account
    assert account.refused > 100 and account.cuts >= 2, account
