"""Tests the state of a local Kafka that is read from its folder, without starting a broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.deploy.kafka.config import write_configs
from infra.deploy.kafka.errors import KafkaServerError
from infra.deploy.kafka.local import LocalNode, find_kafka, start_kafka, stop_kafka

STOPPED = LocalNode(None, None)


def test_empty_home_has_one_node_that_does_not_run(tmp_path: Path) -> None:
    assert find_kafka(tmp_path) == [STOPPED]
    assert stop_kafka(tmp_path) == [STOPPED]


@pytest.mark.parametrize(("nodes", "folders"), [(1, ["."]), (3, ["node-1", "node-2", "node-3"])])
def test_home_keeps_its_number_of_nodes(nodes: int, folders: list[str], tmp_path: Path) -> None:
    write_configs([tmp_path / folder for folder in folders])
    assert find_kafka(tmp_path) == [STOPPED] * nodes
    with pytest.raises(KafkaServerError, match=rf"has {nodes} node\(s\), not 2; leave --nodes out"):
        start_kafka(tmp_path, nodes=2)
