"""The edge client loses no frame, keeps their order and sends each once, while gateway and device fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harnesses.edge_outages import Outages, send_through_outages

pytestmark = [pytest.mark.integration, pytest.mark.faults]


async def test_edge_every_frame_arrives_once_in_order_through_outages(tmp_path: Path) -> None:
    """C-S1-114: 503 and cut connections are tried again with back-off, and pictures are kept meanwhile."""
    outages = Outages(frames=60, power_cuts=4, kills=1, freezes=1, refusals=1)
    account = await send_through_outages(tmp_path, outages)
    assert (account.frames, account.missing, account.in_order) == (60, 0, True), account
    assert (account.refused, account.damaged, account.left) == (0, 0, 0), account
    lost_responses = account.responses["lost"] + account.responses["cut"]
    assert account.repeated <= lost_responses + sum(account.faults.values()), account
    assert account.responses["500"] + lost_responses > 0
    assert account.faults == {"power cut": 4, "gateway killed": 1, "gateway frozen": 1, "port closed": 1}


async def test_edge_frames_of_kept_files_arrive_once_through_power_cuts(tmp_path: Path) -> None:
    outages = Outages(frames=30, power_cuts=3, kills=0, freezes=0, refusals=0, fails=0.0, release="keep")
    account = await send_through_outages(tmp_path, outages)
    assert (account.frames, account.missing, account.in_order) == (30, 0, True), account
    assert (account.refused, account.damaged) == (0, 0), account
    # An upload that was in progress when the power was cut is the only one that is sent again.
    assert account.repeated <= 3, account
