"""Joins a Kafka group, joins again after failures, and offers partitions when they are safe to use."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import KafkaError

from infra.broker.kafka.connection.error_translation import CLIENT_ERRORS
from infra.broker.kafka.connection.link import Link, pauses
from infra.broker.kafka.group.losses import Losses
from infra.broker.kafka.group.membership_errors import MembershipErrors
from infra.broker.kafka.group.membership_watch import MembershipWatch
from infra.broker.kafka.group.start_points import StartPointFinder
from infra.broker.kafka.group.static_name import StaticName
from infra.broker.kafka.group.topic_watch import TopicWatch
from infra.broker.kafka.group.transactions import PartitionTransactions
from infra.broker.kafka.queries.cluster_queries import ClusterQueries
from infra.broker.port import GroupSpec, TopicPartition
from infra.errors import BrokerUnavailableError, TopicMismatchError
from infra.waiting import wait_until_set
from schemas.errors import StandgaleError

_COMMIT_TIMEOUT_S = 2.0
_PROBE_PAUSE_S = 1.0

logger = logging.getLogger(__name__)


class KafkaMembership:
    """Keeps a consumer in its group.

    ``owned`` has the partitions that may be processed, with their epochs: a partition is added after it was assigned,
    its producer (if the group has outputs) has fenced the former owner, and its position was set to the committed
    offset. It becomes empty when a rebalance begins. ``changed`` is set whenever it or ``error`` changes.
    """

    def __init__(self, link: Link, spec: GroupSpec, queries: ClusterQueries) -> None:
        self.owned: dict[TopicPartition, int] = {}
        self.losses = Losses()
        self.transactions: dict[int, PartitionTransactions] = {}
        self.changed = asyncio.Event()
        self.consumer: AIOKafkaConsumer | None = None
        self.topics = TopicWatch(link, queries, spec)
        self._link = link
        self._spec = spec
        self._queries = queries
        self._start_points = StartPointFinder(link, queries, spec, self.topics)
        self._static = StaticName(queries, spec)
        self._epoch = 0
        self._generation = 0
        self._errors = MembershipErrors(self.changed)
        self._watcher = MembershipWatch(link, spec, self.topics, self._errors)
        self._was_member = False
        self._is_outdated = False
        self._broken = asyncio.Event()
        self._preparing: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Connect and ask to join; after a failure, try again in the background.

        Raises TopicMismatchError when the topics are missing or not as declared.
        """
        await self._try_to_connect()
        mismatch = self._errors.get("topics")
        if mismatch is not None:
            await self._leave(0.0)
            raise mismatch
        self._keeper = asyncio.create_task(self._keep(), name=f"kafka-member-{self._spec.group}")

    @property
    def error(self) -> StandgaleError | None:
        """Why there are no records; None: no error. The error that lasts longest comes first."""
        return self._errors.worst

    def member(self) -> AIOKafkaConsumer:
        """Return aiokafka's consumer. Raises BrokerUnavailableError while there is none."""
        if self.consumer is None:
            raise BrokerUnavailableError(f"group {self._spec.group} is being joined again; try again")
        return self.consumer

    def check(self) -> None:
        """Raise the error that ended the task of this membership, if an unexpected one did."""
        if self._keeper is not None and self._keeper.done():
            self._keeper.result()

    def mark_lost(self, *, rejoin: bool) -> None:
        """Own nothing until the next assignment; with ``rejoin``, request one, because aiokafka does not."""
        had_any = bool(self.owned)
        self._clear_owned()
        if rejoin and had_any and self.consumer is not None:
            self._subscribe(self.consumer)

    def fail(self, error: BaseException) -> None:
        """Own nothing, and have aiokafka's consumer replaced, because it does not recover from ``error``."""
        self._errors.record("group", self._link.error(error, f"consuming as group {self._spec.group}", "READ"))
        self._clear_owned()
        self._broken.set()

    async def skip_lost(self, positions: Mapping[TopicPartition, int]) -> None:
        """Continue after records at ``positions`` that the log no longer has, and record them as lost."""
        owned = [source for source in positions if source in self.owned]
        for source, (first, end) in (await self._queries.bounds(owned)).items():
            epoch, at = self.owned.get(source), positions[source]
            if epoch is None:
                continue
            if at > end:
                logger.warning(
                    "%s/%d ends at offset %d, before %d, the next to read: it was created again", *source, end, at
                )
                self._clear_owned()
                self._broken.set()
                return
            if at < first:
                self.losses.record(source, at, first, epoch)
            self.member().seek(KafkaPartition(*source), max(at, first))

    async def close(self) -> None:
        """Leave the group after the current commit; may be called twice."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait({keeper})
        await self._leave(_COMMIT_TIMEOUT_S)
        await self._link.client_shutdown.wait_closed()

    async def revoke(self) -> None:
        """Own nothing when a rebalance begins, let current commits end, and stop the producers.

        When another process has taken over this one's name, this never returns, so that aiokafka does not join again.
        """
        self._clear_owned()
        await self._release(_COMMIT_TIMEOUT_S)
        # aiokafka clears its id in the group when Kafka no longer knows it.
        if self._was_member and not self.member()._coordinator.member_id and await self._is_replaced():
            self._broken.set()
            await asyncio.get_running_loop().create_future()

    def assign(self, assigned: Iterable[KafkaPartition]) -> None:
        """Prepare the ``assigned`` partitions after a rebalance, each number in a separate task.

        The tasks do not delay the rebalance, which sends no heartbeats while it waits for its listener.
        """
        # Microseconds, so that epochs also grow from one owner to the next, if their clocks agree.
        self._epoch = epoch = max(self._epoch + 1, time.time_ns() // 1000)
        self._was_member = True
        self._static.add_member_id(self.member()._coordinator.member_id)
        self._errors.record("group", None)
        if self._spec.instance_id is not None and self.topics.were_wrong:
            # They may have been divided while a topic was missing, and Kafka gives a static member what it had.
            self.topics.were_wrong = False
            self._is_outdated = True
            return
        by_number: dict[int, list[TopicPartition]] = {}
        for source in assigned:
            by_number.setdefault(source.partition, []).append(TopicPartition(*source))
        for number, sources in by_number.items():
            task = asyncio.create_task(self._prepare(number, sources, epoch), name=f"kafka-prepare-{number}")
            self._preparing.add(task)
            task.add_done_callback(self._prepared)

    async def _is_replaced(self) -> bool:
        successor = await self._static.find_successor(lambda error: self._errors.record("broker", error))
        if successor is not None:
            self._errors.record("replaced", successor)
        return successor is not None

    def _prepared(self, task: asyncio.Task[None]) -> None:
        self._preparing.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.fail(error)

    async def _try_to_connect(self) -> None:
        """Connect and ask to join; a failure is recorded, and the membership becomes broken."""
        doing = f"joining group {self._spec.group}"
        try:
            await self.topics.check()
            self._errors.record("topics", None)
            consumer = AIOKafkaConsumer(**self._link.member_options(self._spec, self._static.assignor))
            self.consumer = consumer
            await consumer.start()
            self._subscribe(consumer)
        except TopicMismatchError as error:
            self._errors.record("topics", error)
            self._broken.set()
        except (*CLIENT_ERRORS, StandgaleError) as error:
            self._errors.record("broker", await self._link.explain(error, doing))
            self._broken.set()

    async def _keep(self) -> None:
        """Watch the membership, and join again each time it is broken."""
        waits = pauses()
        while True:
            if self.consumer is not None and not self._broken.is_set():
                waits = pauses()
                await self._watch()
            self._broken.clear()
            await self._leave(0.0)
            if self._errors.get("replaced") is not None or (self._was_member and await self._is_replaced()):
                return
            await asyncio.sleep(next(waits))
            await self._try_to_connect()

    async def _watch(self) -> None:
        """Query the broker regularly until the membership is broken.

        aiokafka does not report that the broker is unavailable, refuses this member, or has different topics.
        """
        while not self._broken.is_set():
            try:
                self.member()._coordinator.check_errors()
            except KafkaError as error:
                self.fail(error)
                return
            if not await self._watcher.check(self.member(), self.owned):
                self._broken.set()
            elif self._is_outdated:
                self._is_outdated = False
                self._static.renew()
                self._subscribe(self.member())
            await wait_until_set(self._broken, _PROBE_PAUSE_S)

    async def _prepare(self, number: int, sources: Collection[TopicPartition], epoch: int) -> None:
        """Prepare the partitions of one number; try again until Kafka responds."""
        generation = self._generation
        for pause in pauses():
            try:
                transactions = await self._replace_transactions(number, sources)
                starts = await self._start_points.find(self.member(), transactions, sources)
                break
            except StandgaleError as error:
                self._errors.record("partitions", error)
                await asyncio.sleep(pause)
        self._errors.record("partitions", None)
        if generation != self._generation:
            return
        for source, start in starts.items():
            self.member().seek(KafkaPartition(*source), start.offset)
            if start.lost_from is not None:
                self.losses.record(source, start.lost_from, start.offset, epoch)
        self.owned.update(dict.fromkeys(sources, epoch))
        self.changed.set()

    async def _replace_transactions(
        self, number: int, sources: Collection[TopicPartition]
    ) -> PartitionTransactions | None:
        """Return new transactions of a partition number, not started yet; None for a group without outputs."""
        if not self._spec.outputs:
            return None
        former = self.transactions.pop(number, None)
        if former is not None:
            await former.close()
        own = PartitionTransactions(self._link, self._queries, self._spec.group, number, sources, self.topics.ids)
        self.transactions[number] = own
        return own

    def _subscribe(self, consumer: AIOKafkaConsumer) -> None:
        consumer.subscribe(list(self._spec.topics), listener=_Listener(self, consumer))

    async def _release(self, timeout_s: float) -> None:
        preparing = set(self._preparing)
        for task in preparing:
            task.cancel()
        if preparing:
            await asyncio.wait(preparing)
        transactions, self.transactions = self.transactions, {}
        await asyncio.gather(*(each.close(timeout_s) for each in transactions.values()))

    async def _leave(self, timeout_s: float) -> None:
        self._clear_owned()
        await self._release(timeout_s)
        consumer, self.consumer = self.consumer, None
        if consumer is not None:
            self._link.client_shutdown.stop(consumer)

    def _clear_owned(self) -> None:
        self.owned.clear()
        self.losses.clear()
        self._generation += 1
        self.changed.set()


class _Listener:
    """Passes aiokafka's rebalance calls to the membership; those of a consumer that it has dropped are left out."""

    def __init__(self, membership: KafkaMembership, consumer: AIOKafkaConsumer) -> None:
        self._membership = membership
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Collection[KafkaPartition]) -> None:
        """Revoke all partitions when a rebalance begins, before this member joins again."""
        if self._membership.consumer is self._consumer:
            await self._membership.revoke()

    async def on_partitions_assigned(self, assigned: Collection[KafkaPartition]) -> None:
        """Assign partitions when a rebalance has ended."""
        if self._membership.consumer is self._consumer:
            self._membership.assign(assigned)


# aiokafka requires an instance of this class; registering avoids a base class without types.
ConsumerRebalanceListener.register(_Listener)
