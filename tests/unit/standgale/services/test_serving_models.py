"""The models that detectors use, as they report them: none that has gone, and none while the broker is away."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from detectors.worker.rollout.models_topic import availability_record
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.port import Reader
from infra.errors import BrokerUnavailableError
from schemas.event_base import ModelRef
from schemas.model_events import ModelAvailability, WorkerAvailability
from schemas.timestamps import utc_now
from schemas.topics import load_topics
from standgale.services.serving_models import ServingModels

SMALL, GROUNDED, FORMER = (ModelRef(name=name, version="1.0.0") for name in ("small", "grounded", "former"))


def report(worker: str, serving: Sequence[ModelRef], waiting: Sequence[ModelRef] = (), age_s: float = 0) -> object:
    now = utc_now()
    models = [
        ModelAvailability(model=model, role="stable", state="enabled", serving=model in serving, since=now)
        for model in (*serving, *waiting)
    ]
    event = WorkerAvailability(
        lane="default",
        worker=worker,
        activation=None,
        settled=True,
        state="enabled",
        models=models,
        reported_at=now - timedelta(seconds=age_s),
        valid_s=30,
    )
    return availability_record(event)


async def test_versions_that_serve_in_live_detectors_are_found_once(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path / "broker.db", load_topics())
    publisher = await broker.publisher()
    reports = [report("a", [SMALL], [GROUNDED]), report("b", [SMALL]), report("c", [FORMER], age_s=60)]
    await publisher.publish(reports)  # type: ignore[arg-type]
    models = ServingModels(broker.reader)
    assert await models() == [SMALL]
    await publisher.publish([report("d", [GROUNDED])])  # type: ignore[list-item]
    assert await models() == [SMALL], "it is kept for some seconds"
    assert await ServingModels(broker.reader)() == [SMALL, GROUNDED]
    await publisher.close()
    await broker.close()


async def test_nothing_is_known_while_the_broker_is_away() -> None:
    async def away() -> Reader:
        raise BrokerUnavailableError("away")

    assert await ServingModels(away)() == ()
