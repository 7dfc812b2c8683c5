"""Publishes records within a time limit, and those of which single ones may be larger than their topic accepts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from infra.broker.port import OutRecord, Publisher
from infra.errors import BrokerUnavailableError, RecordTooLargeError
from infra.texts import counted

_Item = TypeVar("_Item")


async def publish_within(publisher: Publisher, records: Sequence[OutRecord], timeout_s: float) -> None:
    """Publish ``records``. Raises BrokerUnavailableError after ``timeout_s``: then it is unknown which are published.

    It is no TimeoutError, which would be taken for one of the database in a transaction there.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await publisher.publish(records)
    except TimeoutError as error:
        raise BrokerUnavailableError(
            f"the broker did not acknowledge {counted(len(records), 'record')} within {timeout_s:g} s; they are "
            "published again"
        ) from error


async def publish_acceptable(
    publisher: Publisher, items: Sequence[tuple[_Item, OutRecord]], timeout_s: float
) -> list[tuple[_Item, RecordTooLargeError]]:
    """Publish the records of ``items``; return those that are too large, each with its error.

    They are found by halves, so that one of them costs few calls, each of at most ``timeout_s``. Raises the errors of
    :func:`publish_within`, and the others of the publisher; then some may be published.
    """
    if not items:
        return []
    try:
        await publish_within(publisher, [record for _, record in items], timeout_s)
    except RecordTooLargeError as error:
        if len(items) == 1:
            return [(items[0][0], error)]
        half = len(items) // 2
        first = await publish_acceptable(publisher, items[:half], timeout_s)
        return [*first, *await publish_acceptable(publisher, items[half:], timeout_s)]
    return []
