"""One membership of a group: joins, joins again after failures, and offers partitions when they are safe to use."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.abc import ConsumerRebalanceListener

from infra.broker.kafka.link import FAULTS, Link, pauses
from infra.broker.kafka.offsets import Offsets
from infra.broker.kafka.transactions import PartitionTransactions
from infra.broker.port import GroupSpec, TopicPartition
from infra.errors import BrokerUnavailableError, SettingsError, TopicMismatchError
from schemas.errors import WindhoverError

_COMMIT_PATIENCE_S = 2.0
_PROBE_PAUSE_S = 1.0
_PROBE_TIMEOUT_S = 3.0

_log = logging.getLogger(__name__)


class Membership:
    """Keeps a consumer in its group.

    ``owned`` holds the partitions that may be worked on, with their epochs: a partition appears when it was assigned,
    its producer (where the group has outputs) has fenced the former owner, and its place was set to the committed
    offset. It is empty from the moment a rebalance begins. ``changed`` is set whenever it or ``trouble`` changes.
    """

    def __init__(self, link: Link, spec: GroupSpec, offsets: Offsets) -> None:
        self.owned: dict[TopicPartition, int] = {}
        self.transactions: dict[int, PartitionTransactions] = {}
        self.changed = asyncio.Event()
        self.consumer: AIOKafkaConsumer | None = None
        self._link = link
        self._spec = spec
        self._offsets = offsets
        self._epoch = 0
        self._generation = 0
        self._troubles: dict[str, WindhoverError] = {}
        self._was_assigned = False
        self._broken = asyncio.Event()
        self._preparing: set[asyncio.Task[None]] = set()
        self._keeper: asyncio.Task[None] | None = None

    async def join(self) -> None:
        """Connect and ask to join; what fails for now is tried again in the background. Raises TopicMismatchError."""
        try:
            await self._connect()
        except TopicMismatchError:
            await self._leave(0.0)
            raise
        except (*FAULTS, WindhoverError) as error:
            self._note("broker", self._link.fault(error, f"joining group {self._spec.group}"))
            self._broken.set()
        self._keeper = asyncio.create_task(self._keep(), name=f"kafka-member-{self._spec.group}")

    @property
    def trouble(self) -> WindhoverError | None:
        """What keeps records from coming; None when all is well. The one that lasts longest comes first."""
        return next(
            (self._troubles[what] for what in ("replaced", "broker", "partitions") if what in self._troubles), None
        )

    def member(self) -> AIOKafkaConsumer:
        """aiokafka's consumer. Raises BrokerUnavailableError while there is none."""
        if self.consumer is None:
            raise BrokerUnavailableError(f"group {self._spec.group} is being joined again; try again")
        return self.consumer

    def check(self) -> None:
        """Raise what ended the task that keeps this membership, if anything unforeseen did."""
        if self._keeper is not None and self._keeper.done():
            self._keeper.result()

    def lose(self, *, rejoin: bool) -> None:
        """Own nothing until the next assignment; with ``rejoin`` ask for one, because aiokafka would not."""
        had_any = bool(self.owned)
        self._disown()
        if rejoin and had_any and self.consumer is not None:
            self.consumer.subscribe(list(self._spec.topics), listener=_Listener(self))

    def fail(self, error: BaseException) -> None:
        """aiokafka's consumer is beyond help: replace it."""
        self._note("broker", self._link.fault(error, f"consuming as group {self._spec.group}"))
        self._disown()
        self._broken.set()

    async def close(self) -> None:
        """Leave the group, after the commit under way; may be called twice."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait({keeper})
        await self._leave(_COMMIT_PATIENCE_S)
        await self._link.leavers.gone()

    async def revoke(self) -> None:
        """A rebalance begins: own nothing, let commits under way end, stop the producers.

        Does not return to aiokafka, which would join again, when another process has taken over this one's name.
        """
        self._disown()
        await self._release(_COMMIT_PATIENCE_S)
        was_member, self._was_assigned = self._was_assigned, False
        if was_member and self._spec.instance_id is not None and await self._is_replaced(self._spec.instance_id):
            replaced = SettingsError(
                f"group {self._spec.group}: another process has joined as instance_id {self._spec.instance_id!r} "
                "and took this one's place; give each process an instance_id of its own, or end this one"
            )
            self._note("replaced", replaced)
            self._broken.set()
            await asyncio.get_running_loop().create_future()

    def assign(self, assigned: Iterable[KafkaPartition]) -> None:
        """A rebalance has ended: make the ``assigned`` partitions ready, each number by itself.

        This happens beside the rebalance, which sends no heartbeats while it waits for its listener.
        """
        # Microseconds, so that epochs grow from one owner to the next as well, as far as their clocks agree.
        self._epoch = epoch = max(self._epoch + 1, time.time_ns() // 1000)
        self._was_assigned = True
        by_number: dict[int, list[TopicPartition]] = {}
        for source in assigned:
            by_number.setdefault(source.partition, []).append(TopicPartition(*source))
        for number, sources in by_number.items():
            task = asyncio.create_task(self._prepare(number, sources, epoch), name=f"kafka-prepare-{number}")
            self._preparing.add(task)
            task.add_done_callback(self._prepared)

    async def _is_replaced(self, instance_id: str) -> bool:
        """Whether Kafka has thrown this static member out because it knows another of the same name.

        aiokafka's heartbeats do not tell the name, so Kafka cannot say why it does not know this member any more: its
        session may as well have run out, and then joining again is right.
        """
        if self.member()._coordinator.member_id:
            return False
        for pause in pauses():
            try:
                return await self._offsets.has_static_member(self._spec.group, instance_id)
            except BrokerUnavailableError as error:
                self._note("broker", error)
                await asyncio.sleep(pause)
        raise AssertionError("pauses never end")

    def _prepared(self, task: asyncio.Task[None]) -> None:
        self._preparing.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.fail(error)

    async def _connect(self) -> None:
        await self._check_topics()
        consumer = AIOKafkaConsumer(**self._link.member_options(self._spec))
        self.consumer, self._was_assigned = consumer, False
        await consumer.start()
        consumer.subscribe(list(self._spec.topics), listener=_Listener(self))

    async def _check_topics(self) -> None:
        counts = await self._offsets.partition_counts(self._spec.topics)
        if self._spec.outputs and len(set(counts.values())) > 1:
            raise TopicMismatchError(
                f"group {self._spec.group} commits outputs, so its topics must have one partition count, not "
                f"{dict(counts)}; run `windhover topics check`"
            )

    async def _keep(self) -> None:
        """Watch the membership, and make a new one whenever it broke."""
        waits = pauses()
        while True:
            if self.consumer is not None and not self._broken.is_set():
                waits = pauses()
                await self._watch()
            self._broken.clear()
            await self._leave(0.0)
            if "replaced" in self._troubles:
                return
            await asyncio.sleep(next(waits))
            try:
                await self._connect()
            except (*FAULTS, WindhoverError) as error:
                self._note("broker", self._link.fault(error, f"joining group {self._spec.group}"))
                self._broken.set()

    async def _watch(self) -> None:
        """Until the membership breaks, ask the broker something small again and again: aiokafka itself does not tell
        that it is away."""
        probe = KafkaPartition(self._spec.topics[0], 0)
        while not self._broken.is_set():
            try:
                async with asyncio.timeout(_PROBE_TIMEOUT_S):
                    await self.member().beginning_offsets([probe])
            except FAULTS as error:
                self._note("broker", self._link.fault(error, f"consuming as group {self._spec.group}"))
            else:
                self._note("broker", None)
            try:
                async with asyncio.timeout(_PROBE_PAUSE_S):
                    await self._broken.wait()
            except TimeoutError:
                continue

    async def _prepare(self, number: int, sources: Collection[TopicPartition], epoch: int) -> None:
        """Make the partitions of one number ready, however often Kafka has to be asked for it."""
        generation = self._generation
        for pause in pauses():
            try:
                starts = await self._starts(number, sources)
                break
            except WindhoverError as error:
                self._note("partitions", error)
                await asyncio.sleep(pause)
        self._note("partitions", None)
        if generation != self._generation:
            return
        for source, offset in starts.items():
            self.member().seek(KafkaPartition(*source), offset)
        self.owned.update(dict.fromkeys(sources, epoch))
        self.changed.set()

    async def _starts(self, number: int, sources: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Where to start reading; partitions left out start where aiokafka puts them (committed, else earliest)."""
        committed: Mapping[TopicPartition, int | None]
        if self._spec.outputs:
            former = self.transactions.pop(number, None)
            if former is not None:
                await former.close()
            own = PartitionTransactions(self._link, self._offsets, self._spec.group, number, sources)
            self.transactions[number] = own
            committed = await own.open()
        elif self._spec.start == "earliest":
            return {}
        else:
            found = await self._offsets.committed(self._spec.group, sources)
            committed = {source: None if at is None else at.offset for source, at in found.items()}
        known = {source: offset for source, offset in committed.items() if offset is not None}
        fresh = set(committed) - set(known)
        if fresh and self._spec.start == "latest":
            bounds = await self._offsets.bounds(fresh)
            ends = {source: end for source, (_, end) in bounds.items()}
            # Committed at once: the next owner must not skip what arrives before the first commit.
            await self._commit_start(number, ends)
            known |= ends
        return known

    async def _commit_start(self, number: int, ends: Mapping[TopicPartition, int]) -> None:
        if self._spec.outputs:
            await self.transactions[number].commit(ends, ())
            return
        try:
            async with asyncio.timeout(self._link.timeout_s):
                await self.member().commit({KafkaPartition(*source): end for source, end in ends.items()})
        except FAULTS as error:
            raise self._link.fault(error, "committing the start of a new group") from error

    async def _release(self, patience_s: float) -> None:
        preparing = set(self._preparing)
        for task in preparing:
            task.cancel()
        if preparing:
            await asyncio.wait(preparing)
        transactions, self.transactions = self.transactions, {}
        await asyncio.gather(*(each.close(patience_s) for each in transactions.values()))

    async def _leave(self, patience_s: float) -> None:
        self._disown()
        await self._release(patience_s)
        consumer, self.consumer = self.consumer, None
        if consumer is not None:
            self._link.leavers.stop(consumer)

    def _disown(self) -> None:
        self.owned.clear()
        self._generation += 1
        self.changed.set()

    def _note(self, what: Literal["replaced", "broker", "partitions"], trouble: WindhoverError | None) -> None:
        if trouble is None:
            self._troubles.pop(what, None)
        else:
            if what not in self._troubles:
                _log.warning("%s", trouble)
            self._troubles[what] = trouble
        self.changed.set()


class _Listener:
    """Passes aiokafka's rebalance calls on."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership

    async def on_partitions_revoked(self, revoked: Collection[KafkaPartition]) -> None:
        """Called when a rebalance begins, before this member joins again."""
        await self._membership.revoke()

    async def on_partitions_assigned(self, assigned: Collection[KafkaPartition]) -> None:
        """Called when a rebalance has ended."""
        self._membership.assign(assigned)


# aiokafka asks for an instance of this class; registering spares a base class without types.
ConsumerRebalanceListener.register(_Listener)
