"""Plans what is removed: by age first, then, while all pictures are too large together, by the total size.

A dry run and a real one read the same plan; a real one writes each page of it down before the next page is read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from infra.database.pool import Database
from sinks.retention.looking.frames import Picture, pictures_by_age
from sinks.retention.looking.stored import StoredPictures
from sinks.retention.policy import Policy, Reason, RunReport, Tally


@dataclass(frozen=True, slots=True)
class Planned:
    """Is one picture that is to be removed."""

    sha256: str
    image_uri: str
    size_bytes: int
    reason: Reason


class Plan:
    """Plans one run; ``stored`` knows when each picture was put, and ``report`` gets the counts."""

    def __init__(self, database: Database, policy: Policy, stored: StoredPictures, report: RunReport) -> None:
        """Orphans must be counted in ``report`` before."""
        self._database = database
        self._policy = policy
        self._stored = stored
        self._report = report

    async def pages(self) -> AsyncIterator[Sequence[Planned]]:
        """Yield what is to be removed, a page at a time."""
        policy, report = self._policy, self._report
        if policy.removed_before is not None:
            async for page in pictures_by_age(self._database, policy, None, policy.removed_before):
                yield self._by_age(page)
        if policy.max_bytes is None:
            return
        for is_empty in (True, False):
            if report.rest_bytes <= policy.max_bytes:
                break
            # Older ones go by their age, or something keeps them.
            async for page in pictures_by_age(self._database, policy, policy.removed_before, policy.removable_before):
                yield self._by_size([picture for picture in page if picture.is_empty == is_empty], policy.max_bytes)
                if report.rest_bytes <= policy.max_bytes:
                    break
        report.over_bytes = max(0, report.rest_bytes - policy.max_bytes)

    async def count_young(self) -> None:
        """Count what is kept because it is younger than the least age, if the rest is above the limit."""
        if not self._report.over_bytes:
            return
        policy = self._policy
        async for page in pictures_by_age(self._database, policy, policy.removable_before, policy.now):
            for picture in page:
                self._report.kept.setdefault(picture.kept or "young", Tally()).add(picture.size_bytes)

    def _by_age(self, pictures: Sequence[Picture]) -> Sequence[Planned]:
        return [planned for picture in pictures if (planned := self._choose(picture, "age")) is not None]

    def _by_size(self, pictures: Sequence[Picture], max_bytes: int) -> Sequence[Planned]:
        """Return pictures until the others have ``max_bytes`` together."""
        chosen: list[Planned] = []
        for picture in pictures:
            if self._report.rest_bytes <= max_bytes:
                break
            planned = self._choose(picture, "size")
            if planned is not None:
                chosen.append(planned)
        return chosen

    def _choose(self, picture: Picture, reason: Reason) -> Planned | None:
        """Plan to remove a picture unless something keeps it."""
        put_s = self._stored.put_s(picture.sha256)
        kept = picture.kept
        if kept is None and put_s is not None and put_s >= self._policy.cutoff(reason).timestamp():
            kept = "sent again"
        if kept is not None:
            self._report.kept.setdefault(kept, Tally()).add(picture.size_bytes)
            return None
        # Where the bytes are gone already, only rows are left.
        size_bytes = 0 if put_s is None else picture.size_bytes
        self._report.planned.setdefault(reason, Tally()).add(size_bytes)
        return Planned(picture.sha256, picture.image_uri, size_bytes, reason)
