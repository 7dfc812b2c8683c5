"""Checks an engine that fails in the middle of a batch: the next engine processes the frame, or it is dead."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from prometheus_client import REGISTRY

from detectors.model.loading import LoadRequest, load_model
from detectors.worker.worker import WorkerParts
from tests.graphs.failing import Trouble, write_failing_model
from tests.harnesses.worker_site import WorkerSite

pytestmark = pytest.mark.integration

WHITE = cv2.imencode(".png", np.full((300, 400, 3), 255, np.uint8))[1].tobytes()


def failures(engine: str) -> float:
    return REGISTRY.get_sample_value("standgale_engine_failures_total", {"engine": engine}) or 0.0


def parts(site: WorkerSite, folder: Path, trouble: Trouble) -> WorkerParts:
    request = LoadRequest(write_failing_model(folder / "failing", trouble), "onnxruntime", 1)
    return site.parts(load_model=partial(load_model, request))


async def test_frame_that_one_engine_fails_on_is_processed_by_the_next(site: WorkerSite, tmp_path: Path) -> None:
    white, usual = await site.frame("drone", 1, WHITE), await site.frame("drone", 2)
    await site.publish(white, usual)
    before = failures("onnxruntime")
    async with site.run_workers(parts(site, tmp_path, "onnxruntime")):
        await site.wait_for(site.detections, 2)
    events = await site.detections()
    assert [event.frame_id for event in events] == [white.frame_id, usual.frame_id]
    assert [found.label for found in events[1].detections] == ["red"]
    assert await site.dead_letters() == []
    assert failures("onnxruntime") > before


async def test_frame_that_both_engines_fail_on_is_dead_and_others_continue(site: WorkerSite, tmp_path: Path) -> None:
    white, usual = await site.frame("drone", 1, WHITE), await site.frame("drone", 2)
    await site.publish(white, usual)
    async with site.run_workers(parts(site, tmp_path, "both")):
        await site.wait_for(site.dead_letters, 1)
        await site.wait_for(site.detections, 1)
    (letter,) = await site.dead_letters()
    assert (letter.reason, letter.attempts, letter.frame_id) == ("INFERENCE_ERROR", 3, white.frame_id)
    assert "engine openvino failed after it" in letter.message
    assert [event.frame_id for event in await site.detections()] == [usual.frame_id]
