"""Orders the frame topics for each poll: live before jobs before backfill, with a guaranteed small share for each."""

from __future__ import annotations

from collections.abc import Sequence


class PriorityOrder:
    """Returns the order in which topics are polled.

    Normally the order is as given. Once in ``share_every`` turns one of the other topics comes before all the rest, in
    rotation, so that a flood on the first topic cannot starve them.
    """

    def __init__(self, topics: Sequence[str], share_every: int = 10) -> None:
        self._topics = tuple(topics)
        self._share_every = share_every
        self._turn = 0

    def next_order(self) -> tuple[str, ...]:
        """Begin a new turn and return its order."""
        self._turn += 1
        others = len(self._topics) - 1
        if others == 0 or self._turn % self._share_every:
            return self._topics
        favoured = self._topics[1 + (self._turn // self._share_every - 1) % others]
        return (favoured, *(topic for topic in self._topics if topic != favoured))
