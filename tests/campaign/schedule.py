"""Draws the faults of a campaign from a seed, and starts and ends each at its time."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from tests.campaign.faults.kind import EVERYTHING, Fault, Kind

logger = logging.getLogger(__name__)

_END_TRIES = 20
_END_PAUSE_S = 1.0
_LOOK_AHEAD_S = 0.25


class PlanError(Exception):
    """Raised when so many faults of these kinds are not possible."""


@dataclass(frozen=True)
class PlannedFault:
    """One fault to come; ``at_s`` counts from the start, and the fault starts later while its lock is taken."""

    at_s: float
    hold_s: float
    kind: Kind
    target: str
    fault: Fault

    @property
    def occupied(self) -> str:
        """The name of the lock that no other fault may hold during this one."""
        return self.kind.occupies(self.target)


def plan(kinds: Sequence[Kind], count: int, interval_s: float, seed: int) -> list[PlannedFault]:
    """Draw ``count`` faults, one every ``interval_s`` on average; the same kinds and seed draw the same faults.

    Raises PlanError when fewer are possible.
    """
    rng = random.Random(seed)
    free_at: dict[str, float] = defaultdict(float)
    happened: Counter[str] = Counter()
    planned: list[PlannedFault] = []
    at_s = 0.0
    while len(planned) < count:
        left = [kind for kind in kinds if kind.targets and (kind.at_most is None or happened[kind.name] < kind.at_most)]
        if not left:
            names = ", ".join(kind.name for kind in kinds) or "none"
            raise PlanError(f"{count} faults are wanted and {len(planned)} are possible; kinds to draw from: {names}")
        at_s += interval_s * rng.uniform(0.5, 1.5)
        while not (choices := _free(left, free_at, at_s)):
            at_s += _LOOK_AHEAD_S
        kind = rng.choices(choices, [choice.weight for choice in choices])[0]
        target = rng.choice([name for name in kind.targets if free_at[kind.occupies(name)] <= at_s])
        one = PlannedFault(at_s, rng.uniform(*kind.hold_s), kind, target, kind.make(target, rng))
        free_at[one.occupied] = at_s + one.hold_s
        happened[kind.name] += 1
        planned.append(one)
    return planned


def _free(kinds: Sequence[Kind], free_at: dict[str, float], at_s: float) -> list[Kind]:
    """Return the ``kinds`` that have a free target at ``at_s``."""
    return [kind for kind in kinds if any(free_at[kind.occupies(target)] <= at_s for target in kind.targets)]


@dataclass
class FaultLocks:
    """Keeps the locks of faults, taken in the order of the plan, so that the order of faults is kept."""

    locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def take(self, name: str) -> AsyncExitStack:
        """Take the lock ``name``, or all locks for ``EVERYTHING``; the stack releases them when closed."""
        stack = AsyncExitStack()
        for each in sorted(self.locks) if name == EVERYTHING else [name]:
            await stack.enter_async_context(self.locks[each])
        return stack


@dataclass
class FaultRunner:
    """Starts and ends planned faults, which may overlap."""

    planned: Sequence[PlannedFault]
    done: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    """Faults that could not be started or ended."""
    _locks: FaultLocks = field(default_factory=FaultLocks)

    async def run(self) -> None:
        """Run all faults; return when every fault has ended."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as in_progress:
            for number, one in enumerate(self.planned, start=1):
                await asyncio.sleep(began + one.at_s - time.monotonic())
                taken = await self._locks.take(one.occupied)
                logger.info("fault %d of %d: %s, for %.1f s", number, len(self.planned), one.fault.name, one.hold_s)
                happening = in_progress.create_task(self._happen(one, taken))
                if one.occupied == EVERYTHING:
                    await happening

    async def _happen(self, one: PlannedFault, taken: AsyncExitStack) -> None:
        async with taken:
            await self._start(one)
            await asyncio.sleep(one.hold_s)
            await self._end(one)

    async def _start(self, one: PlannedFault) -> None:
        self.done[one.kind.name] += 1
        try:
            await one.fault.start()
        except Exception as error:
            logger.exception("%s could not be started", one.fault.name)
            self.errors.append(f"{one.fault.name} could not be started: {error!r}")

    async def _end(self, one: PlannedFault) -> None:
        for left in range(_END_TRIES, -1, -1):
            try:
                await one.fault.end()
                return
            except Exception as error:  # noqa: BLE001 (any error: tried again, then reported)
                if left:
                    logger.warning("ending %s is tried again: %r", one.fault.name, error)
                    await asyncio.sleep(_END_PAUSE_S)
                else:
                    self.errors.append(f"{one.fault.name} could not be ended: {error!r}")
