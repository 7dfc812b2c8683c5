"""Checks the broker's topics against topics.yaml, and broker settings that would lose data."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.topics import TopicSpec
from standgale.doctor.access import open_existing_broker
from standgale.doctor.port import Finding, ok, problem
from standgale.settings import Settings


class TopicsCheck:
    """Reports the differences that `standgale topics check` lists."""

    subject = "topics"

    def __init__(self, settings: Settings, topics: dict[str, TopicSpec]) -> None:
        self._settings = settings
        self._topics = topics

    async def look(self) -> Sequence[Finding]:
        """See :class:`.port.Check`."""
        async with open_existing_broker(self._settings, self._topics) as broker:
            admin = await broker.admin()
            try:
                found = await admin.check(self._topics.values())
            finally:
                await admin.close()
        if not found:
            return [ok(f"all {len(self._topics)} are as declared")]
        return [
            problem(
                f"{one.topic}: {one.what} is {one.found}, declared is {one.declared}",
                one.advice or ("standgale topics apply" if one.fixable else "declare what exists, or use new topics"),
            )
            for one in found
        ]
