"""Compares a group's topics with their declarations, when it joins and while it runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from infra.broker.checks import check_count
from infra.broker.kafka.connection.link import Link
from infra.broker.kafka.queries.cluster_queries import ClusterQueries
from infra.broker.port import GroupSpec, TopicState
from infra.errors import TopicMismatchError


class TopicWatch:
    """Checks the topics that one member subscribes to, and those of the same topic group.

    Topics of one topic set are co-partitioned: a member that commits outputs writes them to the partition
    number that it reads, so all of them must have the declared partition count. A member may read topics of several
    sets, as a sink does that also reads ``redrive``. Topics that are not declared must keep the count of the first
    check.
    """

    def __init__(self, link: Link, queries: ClusterQueries, spec: GroupSpec) -> None:
        self._link = link
        self._queries = queries
        self._spec = spec
        self._first_counts: dict[str, int] = {}
        self.ids: Mapping[str, str] = {}
        """The id of each subscribed topic at the last check."""
        self.were_wrong = False
        """Whether topics were missing, wrong or created again; the caller sets it back."""

    async def check(self, timeout_s: float | None = None) -> Collection[str]:
        """Return the subscribed topics that were deleted and created again since the last check.

        Raises TopicMismatchError for topics that are missing or have a wrong partition count, and RefusedError or
        BrokerUnavailableError when Kafka gives no information.
        """
        try:
            again = await self._compare(timeout_s)
        except TopicMismatchError:
            self.were_wrong = True
            raise
        self.were_wrong |= bool(again)
        return again

    async def _compare(self, timeout_s: float | None) -> Collection[str]:
        found = await self._queries.states(self._spec.topics, optional=self._partners(), timeout_s=timeout_s)
        self._link.check_present(self._spec.topics, found)
        for topic, state in found.items():
            self._check_count(topic, state)
        ids = {topic: found[topic].incarnation for topic in self._spec.topics}
        again = [topic for topic, former in self.ids.items() if ids[topic] != former]
        self.ids = ids
        return again

    def _check_count(self, topic: str, state: TopicState) -> None:
        first = self._first_counts.setdefault(topic, state.partitions)
        if topic in self._link.topics:
            check_count(self._link.topics, topic, state.partitions, self._link.where)
        elif state.partitions != first:
            raise TopicMismatchError(
                f"topic {topic} of {self._link.where} has {state.partitions} partitions, and had {first} when group "
                f"{self._spec.group} joined; nothing is read until it has {first} again, or this process is restarted"
            )

    def _partners(self) -> Collection[str]:
        """Return the other topics that must have as many partitions as those that this member reads."""
        if not self._spec.outputs:
            return ()
        groups = {self._link.topics[topic].group for topic in self._spec.topics if topic in self._link.topics}
        return [
            name for name, spec in self._link.topics.items() if spec.group in groups and name not in self._spec.topics
        ]
