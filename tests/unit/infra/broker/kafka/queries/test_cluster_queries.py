"""Tests that committed offsets are used only when the right coordinator responds."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("aiokafka")

from infra.broker.kafka.connection.link import Link
from infra.broker.kafka.queries.cluster_queries import ClusterQueries
from infra.broker.kafka.queries.committed import metadata_of, offset_in
from infra.broker.port import TopicPartition
from infra.broker.settings import BrokerSettings
from infra.errors import BrokerUnavailableError, RefusedError

NOT_COORDINATOR, LOADING, GROUP_REFUSED, UNSTABLE = 16, 14, 30, 88
SOURCE = TopicPartition("in", 0)


def response(*partitions: tuple[int, str, int], code: int = 0) -> Any:
    """Return a response to OffsetFetch: offset, metadata and error code per partition, and the code of the whole."""
    rows = [(number, offset, -1, metadata, error, {}) for number, (offset, metadata, error) in enumerate(partitions)]
    return SimpleNamespace(topics=[("in", rows, {})] if rows else [], error_code=code)


class Admin:
    """Gives one response after the other, and records the node and whether stable offsets were requested."""

    def __init__(self, *responses: Any) -> None:
        self.responses = list(responses)
        self.asked: list[bool] = []
        self.lookups = 0

    async def find_coordinator(self, group: str) -> int:
        self.lookups += 1
        return self.lookups

    async def close(self) -> None:
        pass

    async def _send_request(self, request: Any, node: int) -> Any:
        self.asked.append(request._stable)
        return self.responses.pop(0)


def queries_with(admin: Admin) -> ClusterQueries:
    queries = ClusterQueries(Link(BrokerSettings(kind="kafka", request_timeout_s=0.5), {}))
    queries._admin = admin
    return queries


@pytest.mark.parametrize(
    "refusal", [response(code=NOT_COORDINATOR), response(code=LOADING), response((-1, "", UNSTABLE))]
)
async def test_refusal_does_not_mean_never_committed(refusal: Any) -> None:
    admin = Admin(refusal, response((7, "mark", 0)))
    found = await queries_with(admin).committed("group", [SOURCE], stable=True)
    assert found[SOURCE] is not None
    assert found[SOURCE].offset == 7
    assert admin.lookups == 2


async def test_response_without_a_partition_is_not_used() -> None:
    admin = Admin(response((3, "", 0)), response((3, "", 0), (4, "", 0)))
    found = await queries_with(admin).committed("group", [SOURCE, TopicPartition("in", 1)])
    assert [at and at.offset for at in found.values()] == [3, 4]


async def test_negative_offset_means_never_committed() -> None:
    assert await queries_with(Admin(response((-1, "", 0)))).committed("group", [SOURCE]) == {SOURCE: None}


async def test_coordinator_that_always_refuses_raises_broker_unavailable() -> None:
    class Refusing(Admin):
        async def _send_request(self, request: Any, node: int) -> Any:
            return response(code=NOT_COORDINATOR)

    with pytest.raises(BrokerUnavailableError, match="offsets of group group"):
        await queries_with(Refusing()).committed("group", [SOURCE])


async def test_missing_right_is_raised_at_once() -> None:
    admin = Admin(response(code=GROUP_REFUSED))
    with pytest.raises(RefusedError, match="READ on group sink"):
        await queries_with(admin).committed("sink", [SOURCE])
    assert admin.lookups == 1


@pytest.mark.parametrize(
    "outdated", [[response((5, "old", 0))], [response((-1, "", 0))]], ids=["older-offset", "never-committed"]
)
async def test_coordinator_without_the_open_transaction_is_not_used(outdated: Sequence[Any]) -> None:
    admin = Admin(*outdated, response((-1, "", UNSTABLE)), response((9, "new", 0)))
    found = await queries_with(admin).committed_with_pending("group", [SOURCE])
    assert found[SOURCE] == (9, "new")
    assert admin.asked == [True, True, False]
    assert admin.lookups == 2


def test_offset_of_a_former_topic_does_not_count() -> None:
    at = SimpleNamespace(offset=5, metadata=metadata_of("mark", "aa"))
    assert offset_in(at, "aa") == 5
    assert offset_in(at, "bb") is None
    assert offset_in(at, None) == 5
    assert offset_in(SimpleNamespace(offset=5, metadata="mark"), "bb") == 5
    assert offset_in(None, "aa") is None
