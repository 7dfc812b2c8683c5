"""A job whose real processes, database and broker are killed has a true status all the time, and each file once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign.jobs.kills import Kills, run_kills
from tests.campaign.jobs.site import open_fleet

pytestmark = [pytest.mark.integration, pytest.mark.faults]

KILLED = ("console", "detector", "database", "broker")


async def test_small_job_campaign_kills_processes_and_its_status_stays_true(server_dir: Path) -> None:
    settings = {"CONSOLE__JOB_WINDOW": "2", "CONSOLE__HEARTBEAT_S": "0.5"}
    async with open_fleet(server_dir, "embedded", 1, **settings) as site:
        account = await run_kills(site, Kills(files=20, broken=2, times=1, seed=1, only=KILLED))
    assert account.problems == []
    assert (account.results, dict(account.codes)) == (18, {"FILE_ERROR": 2})
    assert dict(account.faults) == dict.fromkeys(KILLED, 1)
    assert account.asked > 10
    assert account.events > 2
