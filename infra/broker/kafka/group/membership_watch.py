"""Looks after a joined member again and again: aiokafka does not tell that the broker is away or refuses it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition

from infra.broker.kafka.connection.faults import FAULTS
from infra.broker.kafka.connection.link import Link
from infra.broker.kafka.group.membership_faults import MembershipFaults
from infra.broker.kafka.group.topic_watch import TopicWatch
from infra.broker.port import GroupSpec, TopicPartition
from infra.errors import RefusedError, TopicMismatchError
from schemas.errors import StandgaleError

_TIMEOUT_S = 3.0

logger = logging.getLogger(__name__)


class MembershipWatch:
    """Notes what is wrong among the ``troubles`` of a membership, and says whether it can go on as it is."""

    def __init__(self, link: Link, spec: GroupSpec, topics: TopicWatch, troubles: MembershipFaults) -> None:
        self._link = link
        self._spec = spec
        self._topics = topics
        self._faults = troubles

    async def check(self, member: AIOKafkaConsumer, owned: Collection[TopicPartition]) -> bool:
        """Ask about topics and broker once; whether ``member`` can go on, or has to join anew."""
        fits = await self._topics_fit()
        return await self._broker_serves(member, owned) and fits

    async def _topics_fit(self) -> bool:
        try:
            made_again = await self._topics.check(_TIMEOUT_S)
        except TopicMismatchError as error:
            self._faults.record("topics", error)
            return False
        except RefusedError as error:
            self._faults.record("topics", error)
        except StandgaleError as error:
            # The question to the broker, which follows, tells more.
            logger.debug("the topics are not known: %s", error)
        else:
            self._faults.record("topics", None)
            if made_again:
                logger.warning("topics %s were made again: group %s starts anew", made_again, self._spec.group)
                return False
        return True

    async def _broker_serves(self, member: AIOKafkaConsumer, owned: Collection[TopicPartition]) -> bool:
        """Ask on the connection that records come by, for a partition that is owned where there is one."""
        probe = KafkaPartition(*next(iter(owned), TopicPartition(self._spec.topics[0], 0)))
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await member.beginning_offsets([probe])
        except (*FAULTS, StandgaleError) as error:
            fault = await self._link.explain(error, f"consuming as group {self._spec.group}", "READ")
            self._faults.record("broker", fault)
            # A new consumer takes a new password; this one would keep the old one.
            return not isinstance(fault, RefusedError)
        self._faults.record("broker", None)
        return True
