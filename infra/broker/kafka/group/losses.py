"""What retention took from a member's partitions before it was read, until the member has committed past it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from infra.broker.port import Loss, TopicPartition


class Losses:
    """The open losses of one membership."""

    def __init__(self) -> None:
        self._open: list[Loss] = []

    def record(self, source: TopicPartition, first: int, end: int, epoch: int) -> None:
        """Add the loss of the offsets ``first`` up to, without, ``end``."""
        self._open.append(Loss(source, first, end, epoch))

    def remove_committed(self, source: TopicPartition, next_offset: int) -> None:
        """Forget what lies before ``next_offset``, which was committed."""
        self._open = [loss for loss in self._open if loss.source != source or loss.end > next_offset]

    def of_owned(self, owned: Mapping[TopicPartition, int]) -> Sequence[Loss]:
        """The losses of partitions that are still owned in the epoch of the loss."""
        return tuple(loss for loss in self._open if owned.get(loss.source) == loss.epoch)

    def clear(self) -> None:
        """Forget all: the next owner of the partitions finds out anew."""
        self._open.clear()
