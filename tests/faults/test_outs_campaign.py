"""Runs a small campaign over the ways out, and tests its accounting and its figures."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from tests.campaign.outs.faults import OutsOptions
from tests.campaign.outs.lag import Lag
from tests.campaign.outs.load import Rates
from tests.campaign.outs.reconcile import OutsAccount, compare_ids
from tests.campaign.outs.report import OutsReport, Phase, lag_table
from tests.campaign.outs.run import OutsCampaign, run
from tests.servers.mosquitto import require_mosquitto

_SINKS = ("postgres", "lakefs", "mqtt")
_FAULTS = ("kill postgres", "PostgreSQL is restarted", "LakeFS: 400 no changes", "LakeFS: 410")


@pytest.mark.integration
@pytest.mark.faults
@pytest.mark.timeout(420)
async def test_small_campaign_finds_every_frame_once_in_every_sink(server_dir: Path) -> None:
    require_mosquitto()
    options = OutsOptions(kills=1, quiet_s=1.0, hold_s=0.5, answer_s=0.5, only=_FAULTS)
    campaign = OutsCampaign(sinks=_SINKS, options=options, rates=Rates(devices=3, interval_s=0.5))
    report = await run(campaign, server_dir)
    assert report.problems == {}
    assert [phase.name for phase in report.phases] == ["quiet", *_FAULTS, "quiet"]
    assert report.account.counts["table inference_sessions"] > 10
    assert report.account.counts["MQTT"] == report.account.counts["listings of the archive"]


def test_compare_ids_counts_repetitions_only_where_they_are_allowed() -> None:
    first, second = uuid4(), uuid4()
    account = OutsAccount()
    compare_ids(account, "MQTT", [first, second], [first, first, second], may_repeat=True)
    assert (account.again, account.doubled) == ({"MQTT": 1}, {})
    compare_ids(account, "tables", [first, second], [first, first])
    assert list(account.doubled.values()) == [["tables (2 times)"]]
    assert list(account.lost.values()) == [["tables"]]
    account.require("detections", 3, 4)
    assert account.different == ["detections: 3, and 4 were expected"]
    assert set(OutsReport("embedded", 1, Path("logs"), account=account).problems) == {"lost", "doubled", "different"}


def test_lag_of_samples_is_sorted_into_shares() -> None:
    assert Lag.of(reversed(range(100))) == Lag(50, 95, 99)
    assert Lag.of([]) == Lag(0, 0, 0)


def test_phase_names_healthy_sinks_that_were_further_behind_than_without_a_fault() -> None:
    quiet = Phase("quiet", 0, 60.0, 0.0, {"mqtt": Lag(0, 1, 2), "lakefs": Lag(0, 1, 2), "sse": Lag(0, 0, 3)})
    lags = {"mqtt": Lag(0, 1, 9), "lakefs": Lag(0, 50, 90), "sse": Lag(0, 0, 3)}
    broken = Phase("LakeFS: 503", 1, 8.0, 1.25, lags, frozenset({"lakefs"}))
    assert broken.above(quiet) == {"mqtt": 7}
    assert lag_table([quiet, broken])[-1] == "| LakeFS: 503 | 1 | 8 | 1.2 | 1 / 9 | (50 / 90) | 0 / 3 |"
