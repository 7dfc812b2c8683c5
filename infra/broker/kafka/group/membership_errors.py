"""Keeps the present errors of a group member by kind, and selects the one to raise to its caller."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

from schemas.errors import StandgaleError

What = Literal["replaced", "broker", "topics", "group", "partitions"]
_WORST_FIRST: tuple[What, ...] = ("replaced", "broker", "topics", "group", "partitions")

logger = logging.getLogger(__name__)


class MembershipErrors:
    """Holds the present errors of one membership; each :meth:`record` sets ``changed``."""

    def __init__(self, changed: asyncio.Event) -> None:
        self._changed = changed
        self._present: dict[What, StandgaleError] = {}

    @property
    def worst(self) -> StandgaleError | None:
        """The error that lasts longest; None when there is none."""
        return next((self._present[what] for what in _WORST_FIRST if what in self._present), None)

    def get(self, what: What) -> StandgaleError | None:
        """Return the error of this kind, if there is one."""
        return self._present.get(what)

    def record(self, what: What, error: StandgaleError | None) -> None:
        """Replace the error of this kind; None: it is over."""
        if error is None:
            self._present.pop(what, None)
        else:
            if what not in self._present:
                logger.warning("%s", error)
            self._present[what] = error
        self._changed.set()
