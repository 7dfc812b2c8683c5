"""Keeps a list of the records that retention deleted before they were read, until the member commits past them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from infra.broker.port import Loss, TopicPartition


class Losses:
    """Holds the open losses of one membership."""

    def __init__(self) -> None:
        self._open: list[Loss] = []

    def record(self, source: TopicPartition, first: int, end: int, epoch: int) -> None:
        """Add the loss of the offsets ``first`` up to but without ``end``."""
        self._open.append(Loss(source, first, end, epoch))

    def remove_committed(self, source: TopicPartition, next_offset: int) -> None:
        """Remove the losses of ``source`` that end before or at ``next_offset``, which was committed."""
        self._open = [loss for loss in self._open if loss.source != source or loss.end > next_offset]

    def of_owned(self, owned: Mapping[TopicPartition, int]) -> Sequence[Loss]:
        """Return the losses of partitions that are still owned in the epoch of the loss."""
        return tuple(loss for loss in self._open if owned.get(loss.source) == loss.epoch)

    def clear(self) -> None:
        """Remove all: the next owner of the partitions detects them again."""
        self._open.clear()
