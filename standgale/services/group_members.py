"""Counts the members of a consumer group, for those who ask how many work now."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from infra.broker.port import Admin
from infra.broker.reading import respond_within
from infra.failure.error_texts import error_text
from schemas.errors import StandgaleError

logger = logging.getLogger(__name__)

_REFRESH_S = 5.0
_READ_S = 2.0


class GroupMembers:
    """Keeps the number for some seconds; None while the broker does not say."""

    def __init__(self, open_admin: Callable[[], Awaitable[Admin]], group: str) -> None:
        self._open_admin = open_admin
        self._group = group
        self._count: int | None = None
        self._read_at = -_REFRESH_S

    async def count(self) -> int | None:
        """Return how many members the group has."""
        if time.monotonic() - self._read_at >= _REFRESH_S:
            # Before the call, so that requests at the same time do not all ask.
            self._read_at = time.monotonic()
            try:
                self._count = await respond_within(self._members(), _READ_S, f"the members of {self._group}")
            except (StandgaleError, OSError) as error:
                if self._count is not None:
                    logger.warning("the members of %s are not known: %s", self._group, error_text(error))
                self._count = None
        return self._count

    async def _members(self) -> int:
        admin = await self._open_admin()
        try:
            return next((group.members for group in await admin.groups() if group.name == self._group), 0)
        finally:
            with suppress(StandgaleError, OSError):
                await admin.close()
