"""Checks a joined member with queries, because aiokafka does not report a broker that is unavailable or refuses it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from infra.broker.kafka.connection.error_translation import CLIENT_ERRORS
from infra.broker.kafka.connection.link import Link
from infra.broker.kafka.group.membership_errors import MembershipErrors
from infra.broker.kafka.group.topic_watch import TopicWatch
from infra.broker.port import GroupSpec, TopicPartition
from infra.errors import RefusedError, TopicMismatchError
from schemas.errors import StandgaleError

_TIMEOUT_S = 3.0

logger = logging.getLogger(__name__)


class MembershipWatch:
    """Records ``errors`` of a membership, and decides whether its consumer can continue."""

    def __init__(self, link: Link, spec: GroupSpec, topics: TopicWatch, errors: MembershipErrors) -> None:
        self._link = link
        self._spec = spec
        self._topics = topics
        self._errors = errors

    async def check(self, member: AIOKafkaConsumer, owned: Collection[TopicPartition]) -> bool:
        """Query topics and broker once; return whether ``member`` can continue, or has to join again."""
        if not await self._topics_fit():
            # Returned at once, so that the member owns nothing from the moment in which ``poll`` raises the error. The
            # broker has responded about the topics.
            self._errors.record("broker", None)
            return False
        return await self._broker_serves(member, owned)

    async def _topics_fit(self) -> bool:
        try:
            recreated = await self._topics.check(_TIMEOUT_S)
        except TopicMismatchError as error:
            self._errors.record("topics", error)
            return False
        except RefusedError as error:
            self._errors.record("topics", error)
        except StandgaleError as error:
            # The next query, to the broker, shows more.
            logger.debug("the topics are not known: %s", error)
        else:
            self._errors.record("topics", None)
            if recreated:
                logger.warning("topics %s were created again: group %s joins again", recreated, self._spec.group)
                return False
        return True

    async def _broker_serves(self, member: AIOKafkaConsumer, owned: Collection[TopicPartition]) -> bool:
        """Query an owned partition, if there is one, on the connection that fetches records."""
        probe = KafkaPartition(*next(iter(owned), TopicPartition(self._spec.topics[0], 0)))
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await member.beginning_offsets([probe])
        except (*CLIENT_ERRORS, StandgaleError) as error:
            translated = await self._link.explain(error, f"consuming as group {self._spec.group}", "READ")
            self._errors.record("broker", translated)
            # A new consumer reads the password again; this one would keep the old one.
            return not isinstance(translated, RefusedError)
        self._errors.record("broker", None)
        return True
