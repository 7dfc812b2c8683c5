"""The contract of brokers: inherit :class:`BrokerContract` and give it a fixture ``bench``.

::

    class TestMyBroker(BrokerContract):
        @pytest.fixture
        async def bench(self, tmp_path: Path) -> AsyncIterator[BrokerBench]:
            bench = MyBench(partial(open_my_broker, tmp_path))  # derives from BrokerBench
            yield bench
            await bench.close()
"""

from __future__ import annotations

import pytest

from standgale.testing.broker.bench import BrokerBench, OpenBroker
from standgale.testing.broker.commit import CommitContract
from standgale.testing.broker.embedded import EmbeddedBench
from standgale.testing.broker.faults import FaultContract
from standgale.testing.broker.groups import GroupContract
from standgale.testing.broker.growth import GrowthContract
from standgale.testing.broker.log import LogContract
from standgale.testing.broker.topic_changes import TopicChangeContract
from standgale.testing.broker.topics import TopicContract

__all__ = ["BrokerBench", "BrokerContract", "EmbeddedBench", "OpenBroker"]


class BrokerContract(
    CommitContract, FaultContract, GroupContract, GrowthContract, LogContract, TopicChangeContract, TopicContract
):
    """All that :mod:`infra.broker.port` promises; a subclass gives the fixture ``bench``."""

    @pytest.fixture
    def bench(self) -> BrokerBench:
        """Gives the author's broker, with means to change it from outside; closes it after the test."""
        raise NotImplementedError(f"{type(self).__name__} must have a fixture `bench` that gives a BrokerBench")
