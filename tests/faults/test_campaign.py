"""Runs a small campaign on the embedded broker, and tests its schedule and its accounting."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from uuid import UUID, uuid4

import pytest

from infra.broker.port import TopicDifference
from infra.errors import TopicMismatchError
from schemas.topics import FRAMES_DEAD, TopicSpec, load_topics
from tests.campaign.brokers import CampaignBroker
from tests.campaign.faults.inside import kinds as inside_kinds
from tests.campaign.faults.kafka import DeadTopicRemoved
from tests.campaign.faults.kind import EVERYTHING, Kind, whole
from tests.campaign.reconcile import Account, Frames, compare, compare_order
from tests.campaign.report import CampaignReport
from tests.campaign.run import CampaignOptions, run
from tests.campaign.schedule import FaultRunner, PlanError, plan
from tests.campaign.site import Size

_SMALL = Size(gateway=1, detector=2, postgres=1, sse=1, devices=3, clients=2, interval_s=0.4)

_SHORT = (
    *("kill_gateway", "kill_detector", "kill_postgres", "kill_sse", "freeze_detector", "client_cut_off"),
    *("database_killed", "password_rotated_in_file", "clock_shift", "slow_disk", "disk_full", "engine_fails"),
)


@pytest.mark.integration
@pytest.mark.faults
async def test_small_campaign_accounts_for_every_frame(server_dir: Path) -> None:
    options = CampaignOptions(8, "embedded", 3, size=_SMALL, only=_SHORT, interval_s=0.4, quiet_s=1.0)
    report = await run(options, server_dir)
    assert report.problems == {}
    assert sum(report.faults.values()) == 8
    assert report.account.accepted > 8
    assert report.figures()["lost"] == 0


class Silent:
    """Writes its start and end to a log and does nothing else."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self._log = log

    async def start(self) -> None:
        self._log.append(f"{self.name} starts")

    async def end(self) -> None:
        self._log.append(f"{self.name} ends")


def kinds(log: list[str]) -> list[Kind]:
    return [
        Kind("short", tuple("abcdef"), (0.0, 0.01), lambda target, rng: Silent(f"short {target}", log)),
        Kind("long", tuple("abcdef"), (0.02, 0.05), lambda target, rng: Silent(f"long {target}", log)),
        Kind("alone", ("all",), (0.0, 0.0), lambda t, r: Silent("alone", log), 0.3, whole(EVERYTHING), at_most=2),
    ]


def drawn(seed: int) -> list[tuple[float, str, str]]:
    return [(one.at_s, one.kind.name, one.target) for one in plan(kinds([]), 50, 0.01, seed)]


def test_plan_same_seed_draws_same_faults() -> None:
    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)
    assert sum(name == "alone" for _, name, _ in drawn(7)) == 2


@pytest.mark.parametrize(
    ("possible", "message"),
    [
        ([], "3 faults are wanted and 0 are possible; kinds to draw from: none"),
        ([kinds([])[2]], "3 faults are wanted and 2 are possible; kinds to draw from: alone"),
        (inside_kinds({})[:1], "3 faults are wanted and 0 are possible; kinds to draw from: clock_shift"),
    ],
    ids=["no kind", "not so often", "no target"],
)
def test_plan_more_faults_than_possible_raises_plan_error(possible: list[Kind], message: str) -> None:
    with pytest.raises(PlanError, match=f"^{message}$"):
        plan(possible, 3, 1.0, 1)


async def test_fault_runner_faults_of_one_target_never_overlap() -> None:
    log: list[str] = []
    runner = FaultRunner(plan(kinds(log), 60, 0.01, 1))
    await runner.run()
    assert runner.done.total() == 60
    assert runner.errors == []
    in_progress: dict[str, str] = {}
    for line in log:
        *name, action = line.split()
        target = name[-1]
        if action == "starts":
            assert target not in in_progress
            assert not (in_progress if target == "alone" else {"alone"} & set(in_progress)), line
            in_progress[target] = line
        else:
            del in_progress[target]
    assert in_progress == {}


class BrokerWithoutDeadTopic:
    """A broker on which ``apply`` does not create the topic of dead letters again."""

    topics = staticmethod(load_topics)

    async def wait_until_complete(self) -> None:
        pass

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[BrokerWithoutDeadTopic]:
        yield self

    async def apply(self, specs: Collection[TopicSpec]) -> None:
        pass

    async def check(self, specs: Collection[TopicSpec]) -> list[TopicDifference]:
        return [TopicDifference(FRAMES_DEAD, "topic", "present", "absent", fixable=True)]


async def test_dead_topic_removed_end_raises_while_topic_is_missing() -> None:
    fault = DeadTopicRemoved(cast(CampaignBroker, BrokerWithoutDeadTopic()))
    with pytest.raises(TopicMismatchError, match=FRAMES_DEAD):
        await fault.end()


def test_compare_names_missing_doubled_and_late_frames() -> None:
    first, second, third, unexpected = (uuid4() for _ in range(4))
    account, frames = Account(), Frames({"drone": [first, second, third]})
    found: list[tuple[str, UUID]] = [("drone", second), ("drone", first), ("drone", first), ("drone", unexpected)]
    compare(account, frames, "topic", [frame for _, frame in found])
    compare_order(account, frames, "topic", found)
    assert dict(account.lost) == {f"drone #2 {third}": ["topic"]}
    assert dict(account.doubled) == {f"drone #0 {first}": ["topic (2 times)"]}
    assert dict(account.out_of_order) == {f"drone #0 {first}": ["topic"]}
    assert account.unexpected == [f"topic: {unexpected}"]
    assert set(CampaignReport("embedded", 1, Path("logs"), account=account).problems) == {
        "lost",
        "doubled",
        "out of order",
        "never accepted",
    }


def test_inside_kinds_without_fault_files_have_no_targets() -> None:
    assert [kind for kind in inside_kinds({}) if kind.targets] == []
