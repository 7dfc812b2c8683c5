"""Finds a frame at which the gateway itself fails again and again while it accepts others."""

from __future__ import annotations

from dataclasses import dataclass

from ingest.edge.spool.entry import Entry, Lane
from ingest.edge.spool.spool import Spool

ALONE_ATTEMPTS = 30
"""So many failures at one frame are no chance, even where half of all uploads fail."""


@dataclass(slots=True)
class _Failures:
    count: int = 0
    others_accepted: bool = False
    other_is_next: bool = False


class FailingFrames:
    """Counts the failures of each frame at which the gateway responded 500.

    A frame fails alone when it failed ``ALONE_ATTEMPTS`` times in a row and others were accepted meanwhile. If none was
    tried meanwhile, because this one is first in the queue, every other attempt goes to the frame behind it.
    """

    def __init__(self) -> None:
        self._frames: dict[str, _Failures] = {}

    def failed_alone(self, entry: Entry) -> bool:
        """Count a failure at ``entry``; return whether it fails alone."""
        failures = self._frames.setdefault(entry.key, _Failures())
        failures.count += 1
        if failures.count < ALONE_ATTEMPTS or not failures.others_accepted:
            return False
        del self._frames[entry.key]
        return True

    def unavailable(self, entry: Entry) -> None:
        """Note that ``entry`` failed for a reason that would have failed others, too: it begins anew."""
        self._frames.pop(entry.key, None)

    def accepted(self, entry: Entry) -> None:
        """Note that the gateway accepted ``entry``."""
        self._frames.pop(entry.key, None)
        for failures in self._frames.values():
            failures.others_accepted = True

    def instead_of(self, head: Entry, spool: Spool, lane: Lane) -> Entry:
        """Return the frame to try now: ``head``, or the one behind it in every other attempt."""
        failures = self._frames.get(head.key)
        if failures is None or failures.count < ALONE_ATTEMPTS or failures.others_accepted:
            return head
        failures.other_is_next = not failures.other_is_next
        behind = spool.behind(head, lane) if failures.other_is_next else None
        return behind or head
