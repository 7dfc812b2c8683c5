"""Models are closed after their last frame; a faster engine is swapped in."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path

from detectors.errors import ModelLoadError
from detectors.metrics import MODEL_STATE
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Model
from detectors.worker.rollout.model_loader import ModelSource, OnState
from tests.harnesses.model_versions import NAME
from tests.harnesses.worker_fleet import TIMEOUT_S, Fleet, SlowLoads


async def test_models_are_closed_after_their_last_frame(fleet: Fleet) -> None:
    site = fleet.site
    slow = SlowLoads(fleet)
    slow.go_on.set()
    source = ModelSource(fleet.store, fleet.folder / "cache", slow.load)
    own = partial(slow.load, fleet.models / NAME / "1.0.0" / "model.yaml")
    async with site.run_workers(fleet.parts("a", models=source, load_model=own)):
        # Without an event the worker might not have looked yet, and begin with what is activated.
        await site.publish(await site.frame("drone", 1))
        await site.wait_for(site.detections, 1)
        await fleet.wait_for_outcome("done", await fleet.activate("2.0.0"))
        deadline = time.monotonic() + TIMEOUT_S
        while slow.closed != ["1.0.0"]:
            assert time.monotonic() < deadline, slow.closed
            await asyncio.sleep(0.02)
        shown = {tuple(sample.labels.values()) for sample in next(iter(MODEL_STATE.collect())).samples}
        assert shown == {("default", NAME, "2.0.0", "enabled")}
    assert slow.closed == ["1.0.0", "2.0.0"]
    assert next(iter(MODEL_STATE.collect())).samples == []


async def test_model_moves_to_faster_engine_when_it_is_made(fleet: Fleet) -> None:
    site = fleet.site
    frames = [await site.frame("drone", number) for number in range(3)]
    ready = asyncio.Event()
    asked: list[Path | None] = []

    async def load_artefact(card: Path | None, on_state: OnState) -> Model | None:
        asked.append(card)
        if card is None:
            return None
        on_state("converting", "about a minute")
        await ready.wait()
        if "3.0.0" in str(card):
            raise ModelLoadError("the GPU's memory is full")
        return load_model(LoadRequest(card, "openvino", 1, "f32"))

    source = ModelSource(fleet.store, fleet.folder / "cache", fleet.load, load_artefact)
    async with site.run_workers(fleet.parts("a", models=source)):
        await site.publish(frames[2])
        await site.wait_for(site.detections, 1)
        await fleet.wait_for_outcome("done", await fleet.activate("2.0.0"))
        await site.publish(frames[0])
        await site.wait_for(site.detections, 2)
        states = [(one.engine, one.state, one.detail) for one in (await fleet.report("a")).models if one.serving]
        assert states == [("onnxruntime", "converting", "about a minute")]
        ready.set()
        await fleet.wait_for_report("a", lambda report: [one.engine for one in report.models] == ["openvino"])
        await site.publish(frames[1])
        await site.wait_for(site.detections, 3)
        await fleet.wait_for_outcome("done", await fleet.activate("3.0.0"))
        await fleet.wait_for_report("a", lambda report: report.models[0].detail == "the GPU's memory is full")
        assert (await fleet.report("a")).state == "enabled"
    events = await fleet.check([frames[2], *frames[:2]])
    assert [event.model.version for event in events] == ["1.0.0", "2.0.0", "2.0.0"]
    assert [card and card.parent.name for card in asked] == [None, "2.0.0", "3.0.0"]
