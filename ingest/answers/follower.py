"""Reads one partition of a topic from its end on, and begins again, with growing pauses, when that fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from infra.broker.port import InRecord, Reader, TopicPartition
from infra.broker.reading import opened_reader, respond_within
from infra.errors import TopicMismatchError
from infra.failure.backoff import Backoff
from infra.failure.error_texts import error_code, error_text, is_transient
from infra.failure.settings import RetrySettings

logger = logging.getLogger(__name__)

OpenReader = Callable[[], Awaitable[Reader]]
Take = Callable[[Sequence[InRecord]], Awaitable[None]]

HANG_S = 10.0
"""A call to the broker that takes longer is given up and repeated with a new connection."""
_RETRY = RetrySettings(first_delay_s=0.1, max_delay_s=2.0)
_MAX_RECORDS = 128
_READ_TIMEOUT_S = 1.0
_LOOK_EVERY_S = 5.0


class PartitionFollower:
    """Gives every record of ``source`` that is committed after its start to ``take``, once and in order.

    After an interruption it continues where it was. When the topic was deleted and created again, or lost its end, it
    begins at the new end: then, as at the first start, ``on_begin`` is called with the offset.
    """

    def __init__(
        self,
        open_reader: OpenReader,
        source: TopicPartition,
        take: Take,
        on_begin: Callable[[int], None],
    ) -> None:
        self.source = source
        self.began = asyncio.Event()
        """Set when the offset of its start is known"""
        self.problem: str | None = None
        """The code of the error because of which it does not read now"""
        self._open_reader = open_reader
        self._take = take
        self._on_begin = on_begin
        self._backoff = Backoff(_RETRY)
        self._next: int | None = None
        self._incarnation = ""
        name = f"answers-{source.topic}-{source.partition}"
        self._task = asyncio.get_running_loop().create_task(self._run(), name=name)

    async def close(self) -> None:
        """Stop reading."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                async with opened_reader(self._open_reader(), HANG_S) as reader:
                    await self._read_on(reader)
            except Exception as error:  # noqa: BLE001 (reported; without this task no answer would ever arrive)
                if isinstance(error, TopicMismatchError):
                    self._next = None
                self._report(error)
            await asyncio.sleep(self._backoff.next_delay_s())

    async def _read_on(self, reader: Reader) -> None:
        clock = asyncio.get_running_loop().time
        offset, looked_at = await self._look(reader), clock()
        while True:
            read = reader.read(self.source, offset, max_records=_MAX_RECORDS, timeout_s=_READ_TIMEOUT_S)
            records = await respond_within(read, HANG_S, self._name)
            self._report_success()
            if records:
                # First, so that a record that makes the next step fail is not read again.
                offset = self._next = records[-1].offset + 1
                await self._take(records)
            if clock() - looked_at > _LOOK_EVERY_S:
                offset, looked_at = await self._look(reader), clock()

    async def _look(self, reader: Reader) -> int:
        """Return the next offset to read: the end of the topic when it was created again."""
        state = await respond_within(reader.state(self.source.topic), HANG_S, self._name)
        recreated = self._incarnation != state.incarnation and "" not in (self._incarnation, state.incarnation)
        if self._next is None or recreated:
            bounds = reader.bounds(self.source.topic, [self.source.partition])
            self._next = (await respond_within(bounds, HANG_S, self._name))[self.source.partition][1]
            self._on_begin(self._next)
            self.began.set()
        self._incarnation = state.incarnation
        return self._next

    def _report(self, error: Exception) -> None:
        """Log the first error of an outage."""
        if self.problem is None:
            text = "%s cannot be read, so answers to frames are late: %s; it is tried again"
            unexpected = None if is_transient(error) else error
            level = logging.WARNING if unexpected is None else logging.ERROR
            extra = {"code": error_code(error)}
            logger.log(level, text, self._name, error_text(error), extra=extra, exc_info=unexpected)
        self.problem = error_code(error)

    def _report_success(self) -> None:
        if self.problem is not None:
            logger.info("%s is read again", self._name)
            self.problem = None
        self._backoff.reset()

    @property
    def _name(self) -> str:
        return f"{self.source.topic}/{self.source.partition}"
