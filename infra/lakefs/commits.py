"""Commits what is staged on a branch, again until it is certain, and finds a commit whose response was lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count

from infra.failure.backoff import Backoff
from infra.lakefs.entries import LakeFsCommit
from infra.lakefs.errors import LakeFsUnavailableError
from infra.lakefs.refs import LakeFsRefs

logger = logging.getLogger(__name__)

BATCH = "standgale-batch"
"""The key of a commit's metadata under which the id of its batch is."""
_ATTEMPTS = 8
_SEARCHED = 200


@dataclass(frozen=True, slots=True)
class _Delays:
    first_delay_s: float = 0.05
    max_delay_s: float = 2.0


async def commit_staged(
    refs: LakeFsRefs, branch: str, message: str, batch: str, metadata: Mapping[str, str] | None = None
) -> LakeFsCommit | None:
    """Commit all that is staged on ``branch``, and return a commit that has it; None when it has no commit at all.

    ``batch`` names what is committed and always has the same text for the same content: it is written into the
    commit's metadata, so that the commit is found again when its response was lost. Nothing is committed when nothing
    is staged, because LakeFS keeps something of each empty attempt.

    A commit takes what everybody staged. So when another process was faster, the commit that is returned is the one
    with ``batch`` if there is one, else the head of the branch, which has it too.

    Two commits at once make LakeFS refuse one of them (500 "predicate failed"); that, 429 and 503 are tried again a few
    times. Raises LakeFsUnavailableError afterwards.
    """
    backoff = Backoff(_Delays())
    for attempt in count(1):
        try:
            if not await refs.has_changes(branch):
                return await _find(refs, branch, batch)
            made = await refs.commit(branch, message, {**(metadata or {}), BATCH: batch})
            return made or await _find(refs, branch, batch)
        except LakeFsUnavailableError as error:
            if attempt == _ATTEMPTS:
                raise
            logger.debug("commit on %s: attempt %d failed: %s", branch, attempt, error)
        await asyncio.sleep(backoff.next_delay_s())
    raise AssertionError("the loop returns or raises")


async def _find(refs: LakeFsRefs, branch: str, batch: str) -> LakeFsCommit | None:
    """Return the commit of ``batch``, else the newest one of ``branch``; both have all that was staged before."""
    newest: LakeFsCommit | None = None
    searched = 0
    async for commit in refs.log(branch, page=_SEARCHED):
        newest = newest or commit
        if commit.metadata.get(BATCH) == batch:
            return commit
        searched += 1
        if searched >= _SEARCHED:
            break
    return newest
