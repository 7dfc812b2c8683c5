"""Publishes records of which single ones may be larger than their topic accepts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from infra.broker.port import OutRecord, Publisher
from infra.errors import RecordTooLargeError

_Item = TypeVar("_Item")


async def publish_acceptable(
    publisher: Publisher, items: Sequence[tuple[_Item, OutRecord]], timeout_s: float
) -> list[tuple[_Item, RecordTooLargeError]]:
    """Publish the records of ``items``; return those that are too large, each with its error.

    They are found by halves, so that one of them costs few calls, each of at most ``timeout_s``. Raises TimeoutError,
    and the other errors of the publisher; then some may be published.
    """
    if not items:
        return []
    try:
        async with asyncio.timeout(timeout_s):
            await publisher.publish([record for _, record in items])
    except RecordTooLargeError as error:
        if len(items) == 1:
            return [(items[0][0], error)]
        half = len(items) // 2
        first = await publish_acceptable(publisher, items[:half], timeout_s)
        return [*first, *await publish_acceptable(publisher, items[half:], timeout_s)]
    return []
