"""Tests the error text of refused topic changes."""

from __future__ import annotations

import pytest

from infra.broker import growth
from infra.broker.port import TopicDifference
from infra.errors import TopicMismatchError


@pytest.mark.parametrize(("what", "named"), [("replication", True), ("partitions", False)])
def test_refused_replication_names_the_setting_for_small_clusters(what: str, named: bool) -> None:
    difference = TopicDifference("frames.live", what, "3", "1 node", fixable=False)
    with pytest.raises(TopicMismatchError) as refused:
        growth.raise_for_differences([difference], "Kafka")
    assert ("STANDGALE_BROKER__REPLICATION" in str(refused.value)) is named
