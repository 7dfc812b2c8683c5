"""Asks the gateway which images of the backlog it has already, so that these are not sent again."""

from __future__ import annotations

import logging

import orjson

from infra.process.monotonic import monotonic_s
from ingest.edge.sending.gateway import GatewayConnection, NotSentError, Response
from ingest.edge.spool.entry import Entry, Lane
from ingest.edge.spool.spool import Spool

logger = logging.getLogger(__name__)

_PATH = "/api/v1/frames/known"
_AT_ONCE = 200
_NOT_FOR_S = 600.0
"""How long a gateway is not asked that cannot say it; it may be replaced by a newer one."""


class KnownImages:
    """Holds the answers for the next frames of the backlog."""

    def __init__(self, spool: Spool, connection: GatewayConnection, *, enabled: bool) -> None:
        self._spool = spool
        self._connection = connection
        self._enabled = enabled
        self._asked: dict[str, bool] = {}
        """By the key of the frame, whether its image is stored"""
        self._not_before_s = 0.0

    async def has(self, entry: Entry) -> bool:
        """Return whether the gateway has the image of ``entry``; False where it does not say."""
        if entry.key not in self._asked:
            if not self._enabled or monotonic_s() < self._not_before_s:
                return False
            await self._ask(entry)
        return self._asked.get(entry.key, False)

    def forget(self, entry: Entry) -> None:
        """Note that the gateway has not the image of ``entry`` any more."""
        self._asked[entry.key] = False

    async def _ask(self, first: Entry) -> None:
        """Ask for the frames from ``first`` on; a question that fails costs no more than the sending of bytes."""
        entries = self._spool.next_entries(Lane.BACKLOG, 2 * _AT_ONCE)
        entries = entries[entries.index(first) :][:_AT_ONCE] if first in entries else []
        digests = {}
        for entry in entries if len(entries) > 1 else []:
            header = await self._spool.header(entry)
            if header is not None:
                digests[entry.key] = header.sha256
        # Only the next ones are asked for again.
        self._asked = dict.fromkeys((first.key, *digests), False)
        if not digests:
            return
        try:
            response = await self._connection.post_json(_PATH, orjson.dumps(list(dict.fromkeys(digests.values()))))
        except NotSentError:
            return
        known = _known_in(response)
        if known is not None:
            self._asked |= {key: digest in known for key, digest in digests.items()}
        elif 400 <= response.status < 500 and response.status not in (401, 403, 408, 429):
            self._not_before_s = monotonic_s() + _NOT_FOR_S
            logger.info("the gateway does not say which images it has (%d), so all are sent", response.status)


def _known_in(response: Response) -> set[str] | None:
    try:
        found = orjson.loads(response.body) if response.status == 200 else None
    except orjson.JSONDecodeError:
        return None
    known = found.get("known") if isinstance(found, dict) else None
    return {each for each in known if isinstance(each, str)} if isinstance(known, list) else None
