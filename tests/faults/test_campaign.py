"""The campaign itself works: a few faults on the embedded broker, and every frame is accounted for."""

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
from tests.campaign.reconcile import Account, Frames, compare
from tests.campaign.reconcile import order as check_order
from tests.campaign.report import Report
from tests.campaign.run import Order, run
from tests.campaign.schedule import PlanError, Storm, plan
from tests.campaign.site import Size

_SMALL = Size(gateway=1, detector=2, postgres=1, sse=1, devices=3, clients=2, interval_s=0.4)

_SHORT = (
    *("kill_gateway", "kill_detector", "kill_postgres", "kill_sse", "freeze_detector", "client_cut_off"),
    *("database_killed", "password_rotated_in_file", "clock_shift", "slow_disk", "disk_full", "engine_fails"),
)


@pytest.mark.integration
@pytest.mark.faults
async def test_small_campaign_accounts_for_every_frame(server_dir: Path) -> None:
    order = Order(8, "embedded", 3, size=_SMALL, only=_SHORT, interval_s=0.4, quiet_s=1.0)
    report = await run(order, server_dir)
    assert report.problems == {}
    assert sum(report.faults.values()) == 8
    assert report.account.accepted > 8
    assert report.figures()["lost"] == 0


class Silent:
    """A fault that does nothing but note what happens."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self._log = log

    async def strike(self) -> None:
        self._log.append(f"{self.name} strikes")

    async def heal(self) -> None:
        self._log.append(f"{self.name} heals")


def kinds(log: list[str]) -> list[Kind]:
    return [
        Kind("short", tuple("abcdef"), (0.0, 0.01), lambda target, rng: Silent(f"short {target}", log)),
        Kind("long", tuple("abcdef"), (0.02, 0.05), lambda target, rng: Silent(f"long {target}", log)),
        Kind("alone", ("all",), (0.0, 0.0), lambda t, r: Silent("alone", log), 0.3, whole(EVERYTHING), at_most=2),
    ]


def drawn(seed: int) -> list[tuple[float, str, str]]:
    return [(one.at_s, one.kind.name, one.target) for one in plan(kinds([]), 50, 0.01, seed)]


def test_seed_repeats_the_faults() -> None:
    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)
    assert sum(name == "alone" for _, name, _ in drawn(7)) == 2


@pytest.mark.parametrize(
    ("possible", "told"),
    [
        ([], "3 faults are wanted and 0 can happen; kinds to draw from: none"),
        ([kinds([])[2]], "3 faults are wanted and 2 can happen; kinds to draw from: alone"),
        (inside_kinds({})[:1], "3 faults are wanted and 0 can happen; kinds to draw from: clock_shift"),
    ],
    ids=["no kind", "not so often", "no target"],
)
def test_more_faults_than_can_happen_are_refused(possible: list[Kind], told: str) -> None:
    with pytest.raises(PlanError, match=f"^{told}$"):
        plan(possible, 3, 1.0, 1)


async def test_faults_of_one_target_never_overlap_and_a_lonely_one_waits_for_all() -> None:
    log: list[str] = []
    storm = Storm(plan(kinds(log), 60, 0.01, 1))
    await storm.rage()
    assert storm.done.total() == 60
    assert storm.errors == []
    under_way: dict[str, str] = {}
    for line in log:
        *name, what = line.split()
        target = name[-1]
        if what == "strikes":
            assert target not in under_way
            assert not (under_way if target == "alone" else {"alone"} & set(under_way)), line
            under_way[target] = line
        else:
            del under_way[target]
    assert under_way == {}


class Unmended:
    """A broker on which applying the topics does not bring back the topic of dead letters."""

    topics = staticmethod(load_topics)

    async def until_whole(self) -> None:
        pass

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[Unmended]:
        yield self

    async def apply(self, specs: Collection[TopicSpec]) -> None:
        pass

    async def check(self, specs: Collection[TopicSpec]) -> list[TopicDifference]:
        return [TopicDifference(FRAMES_DEAD, "topic", "present", "absent", fixable=True)]


async def test_topic_that_is_not_back_is_not_called_healed() -> None:
    fault = DeadTopicRemoved(cast(CampaignBroker, Unmended()))
    with pytest.raises(TopicMismatchError, match=FRAMES_DEAD):
        await fault.heal()


def test_frames_that_are_missing_doubled_or_late_are_named() -> None:
    first, second, third, stranger = (uuid4() for _ in range(4))
    account, frames = Account(), Frames({"drone": [first, second, third]})
    found: list[tuple[str, UUID]] = [("drone", second), ("drone", first), ("drone", first), ("drone", stranger)]
    compare(account, frames, "topic", [frame for _, frame in found])
    check_order(account, frames, "topic", found)
    assert dict(account.lost) == {f"drone #2 {third}": ["topic"]}
    assert dict(account.doubled) == {f"drone #0 {first}": ["topic (2 times)"]}
    assert dict(account.out_of_order) == {f"drone #0 {first}": ["topic"]}
    assert account.strangers == [f"topic: {stranger}"]
    assert set(Report("embedded", 1, Path("logs"), account=account).problems) == {
        "lost",
        "doubled",
        "out of order",
        "never accepted",
    }


def test_processes_that_cannot_be_disturbed_have_no_such_kinds() -> None:
    assert [kind for kind in inside_kinds({}) if kind.targets] == []
