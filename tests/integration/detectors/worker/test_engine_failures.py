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
from tests.benches.worker_site import WorkerWorld
from tests.graphs.failing import Trouble, write_failing_model

pytestmark = pytest.mark.integration

WHITE = cv2.imencode(".png", np.full((300, 400, 3), 255, np.uint8))[1].tobytes()


def failures(engine: str) -> float:
    return REGISTRY.get_sample_value("standgale_engine_failures_total", {"engine": engine}) or 0.0


def parts(world: WorkerWorld, folder: Path, trouble: Trouble) -> WorkerParts:
    request = LoadRequest(write_failing_model(folder / "failing", trouble), "onnxruntime", 1)
    return world.parts(load_model=partial(load_model, request))


async def test_frame_that_one_engine_fails_on_is_processed_by_the_next(world: WorkerWorld, tmp_path: Path) -> None:
    white, usual = await world.frame("drone", 1, WHITE), await world.frame("drone", 2)
    await world.publish(white, usual)
    before = failures("onnxruntime")
    async with world.working(parts(world, tmp_path, "onnxruntime")):
        await world.until(world.answers, 2)
    answers = await world.answers()
    assert [answer.frame_id for answer in answers] == [white.frame_id, usual.frame_id]
    assert [found.label for found in answers[1].detections] == ["red"]
    assert await world.letters() == []
    assert failures("onnxruntime") > before


async def test_frame_that_both_engines_fail_on_is_dead_and_others_continue(world: WorkerWorld, tmp_path: Path) -> None:
    white, usual = await world.frame("drone", 1, WHITE), await world.frame("drone", 2)
    await world.publish(white, usual)
    async with world.working(parts(world, tmp_path, "both")):
        await world.until(world.letters, 1)
        await world.until(world.answers, 1)
    (letter,) = await world.letters()
    assert (letter.reason, letter.attempts, letter.frame_id) == ("INFERENCE_ERROR", 3, white.frame_id)
    assert "engine openvino failed after it" in letter.message
    assert [answer.frame_id for answer in await world.answers()] == [usual.frame_id]
