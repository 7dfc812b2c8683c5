"""Closes aiokafka clients in the background with a time limit, for brokers that do not respond."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

_TIMEOUT_S = 1.0
logger = logging.getLogger(__name__)


class ClientShutdown:
    """Closes clients in background tasks, so that the caller that dropped one does not wait."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def discard(self, producer: AIOKafkaProducer) -> None:
        """Close ``producer`` without delivering its pending records; an open transaction is fenced or times out."""
        self._start(_discard(producer), "discard-producer")

    def stop(self, consumer: AIOKafkaConsumer, timeout_s: float = 3 * _TIMEOUT_S) -> None:
        """Stop ``consumer`` so that it leaves its group, or drop it when that takes longer than ``timeout_s``."""
        self._start(stop_consumer(consumer, timeout_s), "stop-consumer")

    async def wait_closed(self) -> None:
        """Wait until all clients are closed."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, work: Coroutine[object, object, None], name: str) -> None:
        task = asyncio.create_task(work, name=f"kafka-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _discard(producer: AIOKafkaProducer) -> None:
    """End ``producer`` without the flush at the start of its ``stop``.

    aiokafka has no function for this, so this one cancels its sender task: the first cancel lets the current requests
    end, the second drops them.
    """
    producer._closed = True
    sender = producer._sender.sender_task
    for _ in range(2):
        if sender is not None and not sender.done():
            sender.cancel()
            await asyncio.wait({sender}, timeout=_TIMEOUT_S)
    await producer.client.close()
    # Retrieve the errors of tasks that no caller waits for, or the event loop would report them.
    ended = None if producer._txn_manager is None else producer._txn_manager.wait_for_transaction_end()
    for outcome in (sender, ended):
        if outcome is not None and outcome.done() and not outcome.cancelled():
            outcome.exception()


async def stop_consumer(consumer: AIOKafkaConsumer, timeout_s: float) -> None:
    """Stop ``consumer``; when that takes longer than ``timeout_s``, end its tasks and close its connections."""
    try:
        async with asyncio.timeout(timeout_s):
            await consumer.stop()
    except (KafkaError, OSError, TimeoutError) as error:
        logger.info("a consumer was closed without leaving its group: %r", error)
    else:
        return
    coordinator = consumer._coordinator
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")
    tasks = {task for name in names if (task := getattr(coordinator, name, None)) is not None and not task.done()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_TIMEOUT_S)
    if consumer._fetcher is not None:
        await consumer._fetcher.close()
    await consumer._client.close()
