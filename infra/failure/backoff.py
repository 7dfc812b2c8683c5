"""Computes the delays between attempts: each is longer than the one before, and random."""

from __future__ import annotations

import asyncio
import random
from typing import Protocol

from infra.waiting import wait_until_set


class Delays(Protocol):
    """Is the part of a settings section that says how long delays are."""

    @property
    def first_delay_s(self) -> float:
        """The pause before the second attempt."""
        ...

    @property
    def max_delay_s(self) -> float:
        """The longest pause."""
        ...


class Backoff:
    """Computes delays that double up to a limit; each is random in its upper half, to spread the retries of clients."""

    def __init__(self, policy: Delays, *, rng: random.Random | None = None) -> None:
        self._policy = policy
        # A separate generator would be seeded from the system, once per frame and per poll.
        self._uniform = random.uniform if rng is None else rng.uniform
        self._next_s = policy.first_delay_s

    def next_delay_s(self) -> float:
        """Return how long to wait before the next attempt."""
        whole = min(self._next_s, self._policy.max_delay_s)
        self._next_s = min(whole * 2, self._policy.max_delay_s)
        return whole * self._uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin again with the first delay; call it after a success."""
        self._next_s = self._policy.first_delay_s

    async def wait(self, stop: asyncio.Event) -> bool:
        """Wait for the next delay or until ``stop`` is set; return whether to try again."""
        return not await wait_until_set(stop, self.next_delay_s())
