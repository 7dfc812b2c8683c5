"""What keeps a group member from its records, by kind; the worst is what its caller is told."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

from schemas.errors import StandgaleError

What = Literal["replaced", "broker", "topics", "group", "partitions"]
_WORST_FIRST: tuple[What, ...] = ("replaced", "broker", "topics", "group", "partitions")

logger = logging.getLogger(__name__)


class MembershipFaults:
    """The present troubles of one membership; sets ``changed`` with each note."""

    def __init__(self, changed: asyncio.Event) -> None:
        self._changed = changed
        self._present: dict[What, StandgaleError] = {}

    @property
    def worst(self) -> StandgaleError | None:
        """The one that lasts longest; None when all is well."""
        return next((self._present[what] for what in _WORST_FIRST if what in self._present), None)

    def get(self, what: What) -> StandgaleError | None:
        """The trouble of this kind, if there is one."""
        return self._present.get(what)

    def record(self, what: What, trouble: StandgaleError | None) -> None:
        """Replace the trouble of this kind; None: it is over."""
        if trouble is None:
            self._present.pop(what, None)
        else:
            if what not in self._present:
                logger.warning("%s", trouble)
            self._present[what] = trouble
        self._changed.set()
