"""Defines the port that the author of a sink implements; :mod:`infra.consuming.consumer_loop` does all the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from schemas.event_base import Event

EventT = TypeVar("EventT", bound=Event)


class Sink(Protocol[EventT]):
    """Writes events to one place outside.

    The loop opens the sink once, calls ``write`` for one batch after the other, commits the offsets of a batch after
    its ``write`` returned, and closes the sink at the end. Nothing is called in parallel. A batch whose offsets were
    not committed (a crash, a lost partition) is written again, here or in another process.
    """

    name: str
    """Names the consumer group (``sink.<name>``) in commands, metrics, health and logs; it never changes."""
    event: type[EventT]
    """The type of the events; a record that holds no such event becomes a dead letter and is never written."""
    topics: tuple[str, ...]
    """The topics to read; the loop adds the topic ``redrive``."""

    async def open(self) -> None:
        """Connect, and check what can be checked before the first write.

        A TransientError is retried; any other error is a defect of the program and ends the process.
        """

    async def write(self, events: Sequence[EventT]) -> None:
        """Make ``events`` durable; they are in order per device and never empty.

        Writing the same events again must change nothing.

        Raises TransientError when all of them are to be written again later, and TooSlowError when fewer at once may be
        written in time. Any other error may be caused by one record: the loop then writes halves of the batch until
        that record is found. A RecordError makes it a dead letter at once, any other error only while other records can
        be written.
        """

    async def close(self) -> None:
        """Release all resources; called once, also when ``open`` failed."""
