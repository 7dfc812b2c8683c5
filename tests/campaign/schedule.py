"""Draws the faults of a campaign from a seed, and lets them happen."""

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

_HEAL_TRIES = 20
_HEAL_PAUSE_S = 1.0
_LOOK_AHEAD_S = 0.25


class PlanError(Exception):
    """So many faults of these kinds cannot happen."""


@dataclass(frozen=True)
class Planned:
    """One fault to come. ``at_s`` counts from the start; it happens later when what it occupies is not free yet."""

    at_s: float
    hold_s: float
    kind: Kind
    target: str
    fault: Fault

    @property
    def occupied(self) -> str:
        """What no other fault may have meanwhile."""
        return self.kind.occupies(self.target)


def plan(kinds: Sequence[Kind], count: int, interval_s: float, seed: int) -> list[Planned]:
    """``count`` faults, one every ``interval_s`` on average; the same for the same kinds and seed.

    Raises PlanError when fewer can happen.
    """
    rng = random.Random(seed)
    free_at: dict[str, float] = defaultdict(float)
    happened: Counter[str] = Counter()
    planned: list[Planned] = []
    at_s = 0.0
    while len(planned) < count:
        left = [kind for kind in kinds if kind.targets and (kind.at_most is None or happened[kind.name] < kind.at_most)]
        if not left:
            names = ", ".join(kind.name for kind in kinds) or "none"
            raise PlanError(f"{count} faults are wanted and {len(planned)} can happen; kinds to draw from: {names}")
        at_s += interval_s * rng.uniform(0.5, 1.5)
        while not (choices := _free(left, free_at, at_s)):
            at_s += _LOOK_AHEAD_S
        kind = rng.choices(choices, [choice.weight for choice in choices])[0]
        target = rng.choice([name for name in kind.targets if free_at[kind.occupies(name)] <= at_s])
        one = Planned(at_s, rng.uniform(*kind.hold_s), kind, target, kind.make(target, rng))
        free_at[one.occupied] = at_s + one.hold_s
        happened[kind.name] += 1
        planned.append(one)
    return planned


def _free(kinds: Sequence[Kind], free_at: dict[str, float], at_s: float) -> list[Kind]:
    """Those of ``kinds`` that have a target which nothing occupies at ``at_s``."""
    return [kind for kind in kinds if any(free_at[kind.occupies(target)] <= at_s for target in kind.targets)]


@dataclass
class Occupation:
    """Locks for what faults occupy; taken in the order of the plan, so the order of faults is kept."""

    locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def take(self, what: str) -> AsyncExitStack:
        """What must be closed to give it back. For ``EVERYTHING`` all that was ever occupied is taken."""
        stack = AsyncExitStack()
        for name in sorted(self.locks) if what == EVERYTHING else [what]:
            await stack.enter_async_context(self.locks[name])
        return stack


@dataclass
class Storm:
    """Lets planned faults happen, overlapping, and heals each."""

    planned: Sequence[Planned]
    done: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    """What the campaign itself could not do."""
    _occupation: Occupation = field(default_factory=Occupation)

    async def rage(self) -> None:
        """Return when every fault has happened and is healed."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as under_way:
            for number, one in enumerate(self.planned, start=1):
                await asyncio.sleep(began + one.at_s - time.monotonic())
                taken = await self._occupation.take(one.occupied)
                logger.info("fault %d of %d: %s, for %.1f s", number, len(self.planned), one.fault.name, one.hold_s)
                happening = under_way.create_task(self._happen(one, taken))
                if one.occupied == EVERYTHING:
                    await happening

    async def _happen(self, one: Planned, taken: AsyncExitStack) -> None:
        async with taken:
            await self._strike(one)
            await asyncio.sleep(one.hold_s)
            await self._heal(one)

    async def _strike(self, one: Planned) -> None:
        self.done[one.kind.name] += 1
        try:
            await one.fault.strike()
        except Exception as error:
            logger.exception("%s could not be done", one.fault.name)
            self.errors.append(f"{one.fault.name} could not be done: {error!r}")

    async def _heal(self, one: Planned) -> None:
        for left in range(_HEAL_TRIES, -1, -1):
            try:
                await one.fault.heal()
                return
            except Exception as error:  # noqa: BLE001 (whatever it is: tried again, then told)
                if left:
                    logger.warning("healing of %s is tried again: %r", one.fault.name, error)
                    await asyncio.sleep(_HEAL_PAUSE_S)
                else:
                    self.errors.append(f"{one.fault.name} could not be healed: {error!r}")
