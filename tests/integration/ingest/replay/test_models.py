"""A replay with `--model` begins only when the frames go to that model, by the activation and in every worker."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra.broker.event_records import event_record
from infra.errors import SettingsError
from schemas.event_base import Event
from schemas.model_events import Canary, ModelActivated, ModelAvailability, WorkerAvailability
from schemas.topics import MODELS
from standgale.testing.factories import frame_captured, model_ref
from tests.harnesses.replay_site import write_pictures
from tests.integration.ingest.replay.runs import Runs, prepared

pytestmark = pytest.mark.integration

NEW = model_ref("2.0.0")


async def publish(runs: Runs, event: Event, key: str) -> None:
    now = datetime.now(UTC)
    about: dict[str, Any] = {"id": frame_captured().frame_id, "source": "/test", "subject": None}
    await runs.site.publish([event_record(MODELS, event, **about, time=now, key=key)])


async def activate(runs: Runs) -> None:
    """Use version 2 for the device of the replays."""
    activated = ModelActivated(
        id=frame_captured().frame_id, lane="default", stable=model_ref("1.0.0"), activated_at=datetime.now(UTC),
        canary=Canary(model=NEW, devices=["drone-7"]),
    )  # fmt: skip
    await publish(runs, activated, "default")


async def report(runs: Runs, *, serving: bool) -> None:
    """Say of a worker whether it uses version 2."""
    now = datetime.now(UTC)
    one = ModelAvailability(
        model=NEW, role="canary", state="enabled" if serving else "warning", serving=serving, since=now,
        detail=None if serving else "checksum of model.onnx differs",
    )  # fmt: skip
    worker = WorkerAvailability(
        lane="default", worker="w1", activation=None, settled=True, state=one.state, models=[one], reported_at=now,
        valid_s=60,
    )  # fmt: skip
    await publish(runs, worker, "default/w1")


async def test_replay_with_a_model_needs_that_it_is_active(tmp_path: Path) -> None:
    runs = await prepared(tmp_path)
    write_pictures(tmp_path / "pictures", 2)
    with pytest.raises(SettingsError, match=r"standgale model activate finder 2\.0\.0"):
        await runs.run(tmp_path / "pictures", model=NEW)
    await activate(runs)
    assert (await runs.whole(tmp_path / "pictures")).accepted == 2
    # Another model is another replay: the frames are published again.
    assert (await runs.whole(tmp_path / "pictures", model=NEW)).accepted == 2
    assert len(await runs.frames()) == 4
    with pytest.raises(SettingsError, match=r"use finder@1\.0\.0"):
        await runs.run(tmp_path / "pictures", model=NEW, device="drone-8")


async def test_replay_with_a_model_needs_that_every_worker_uses_it(tmp_path: Path) -> None:
    runs = await prepared(tmp_path)
    write_pictures(tmp_path / "pictures", 2)
    await activate(runs)
    await report(runs, serving=False)
    with pytest.raises(SettingsError, match=r"not all workers .* w1 \(checksum of model\.onnx differs\)"):
        await runs.run(tmp_path / "pictures", model=NEW)
    await report(runs, serving=True)
    assert (await runs.whole(tmp_path / "pictures", model=NEW)).accepted == 2
