"""Checks the ``models`` topic when it is deleted and created again while a worker follows it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from detectors.worker.rollout.models_topic import activation_record, read_models, read_new_records
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.port import Broker
from infra.errors import TopicMismatchError
from schemas.event_base import ModelRef
from schemas.model_events import ModelActivated
from schemas.timestamps import utc_now
from schemas.topics import MODELS, load_topics


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    broker = EmbeddedBroker(tmp_path / "broker.sqlite", load_topics())
    yield broker
    await broker.close()


async def activate(broker: Broker, lane: str, version: str) -> None:
    activation = ModelActivated(
        id=uuid4(), lane=lane, stable=ModelRef(name="m", version=version), sha256="a" * 64, activated_at=utc_now()
    )
    publisher = await broker.publisher()
    await publisher.publish([activation_record(activation)])
    await publisher.close()


async def test_models_topic_created_again_is_read_from_its_start(broker: Broker, tmp_path: Path) -> None:
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        await activate(broker, "a", version)
    reader = await broker.reader()
    state = await read_models(reader)
    with closing(sqlite3.connect(tmp_path / "broker.sqlite")) as file, file:
        file.execute("DELETE FROM records")
        file.execute("DELETE FROM partitions WHERE topic = ?", (MODELS,))
        file.execute("DELETE FROM topics WHERE name = ?", (MODELS,))
    with pytest.raises(TopicMismatchError, match="topics apply"):
        await read_new_records(reader, state, 0)
    again = EmbeddedBroker(tmp_path / "broker.sqlite", load_topics())
    await activate(again, "b", "4.0.0")
    await again.close()
    await read_new_records(reader, state, 0)
    await read_new_records(reader, state, 0)
    stable = {lane: activation.stable.version for lane, activation in state.activations.items() if activation.stable}
    assert stable == {"a": "3.0.0", "b": "4.0.0"}
