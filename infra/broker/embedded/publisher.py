"""Publishes records to the embedded broker."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from infra.broker.embedded.file.log import append
from infra.broker.embedded.store import Store, size_of
from infra.broker.port import OutRecord


class EmbeddedPublisher:
    """Implements :class:`infra.broker.port.Publisher`. The records of one call are published all or none."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def publish(self, records: Sequence[OutRecord]) -> None:
        """See the port. Raises TopicMismatchError, too, for a topic that does not exist."""
        if records:
            # A copy, because the caller may change its list while this call waits for its turn.
            await self._store.writer.run(partial(append, records=tuple(records)), size_of(records))

    def clock_ahead_s(self) -> float | None:
        """See the port; the broker is a file on this machine, with the same clock."""
        return 0.0

    async def close(self) -> None:
        """See the port; nothing is pending, as ``publish`` returns only when all is durable."""
