"""The contract of brokers: inherit :class:`BrokerContract` and give it a fixture ``harness``.

::

    class TestMyBroker(BrokerContract):
        @pytest.fixture
        async def harness(self, tmp_path: Path) -> AsyncIterator[BrokerHarness]:
            harness = MyHarness(partial(open_my_broker, tmp_path))  # derives from BrokerHarness
            yield harness
            await harness.close()
"""

from __future__ import annotations

import pytest

from standgale.testing.broker.commit import CommitContract
from standgale.testing.broker.embedded import EmbeddedHarness
from standgale.testing.broker.faults import FaultContract
from standgale.testing.broker.groups import GroupContract
from standgale.testing.broker.growth import GrowthContract
from standgale.testing.broker.harness import BrokerHarness, OpenBroker
from standgale.testing.broker.log import LogContract
from standgale.testing.broker.topic_changes import TopicChangeContract
from standgale.testing.broker.topics import TopicContract

__all__ = ["BrokerContract", "BrokerHarness", "EmbeddedHarness", "OpenBroker"]


class BrokerContract(
    CommitContract, FaultContract, GroupContract, GrowthContract, LogContract, TopicChangeContract, TopicContract
):
    """All that :mod:`infra.broker.port` promises; a subclass gives the fixture ``harness``."""

    @pytest.fixture
    def harness(self) -> BrokerHarness:
        """Gives the author's broker, with means to change it from outside; closes it after the test."""
        raise NotImplementedError(f"{type(self).__name__} must have a fixture `harness` that gives a BrokerHarness")
