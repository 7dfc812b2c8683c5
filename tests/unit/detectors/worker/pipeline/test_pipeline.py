"""Checks that every error of an engine is reported to the callers that wait for its frames."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from detectors.errors import InferenceError
from detectors.model.loading import LoadRequest, load_model
from detectors.worker.pipeline.pipeline import InferencePipeline
from detectors.worker.pipeline.ranked_queue import Rank
from schemas.events import DetectOptions
from standgale.testing.graphs import write_model
from tests.faults.fleet import jpeg

TIMEOUT_S = 30.0


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[InferencePipeline]:
    model = load_model(LoadRequest(write_model(tmp_path), "onnxruntime", 1))
    pipeline = InferencePipeline(model, host_threads=1, max_pixels=10**6)
    yield pipeline
    assert pipeline.close()
    model.close()


class OddPanic(BaseException):
    """As extensions written in Rust raise it: no Exception."""


@pytest.mark.parametrize("error", [MemoryError(), OddPanic("index out of bounds"), SystemExit(3)])
async def test_engine_error_of_any_type_fails_its_frames_only(
    pipeline: InferencePipeline, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def raises(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.model, "infer", raises)
        with pytest.raises(InferenceError, match=type(error).__name__):
            await asyncio.wait_for(pipeline.detect(jpeg(0, 0), DetectOptions()), TIMEOUT_S)
    assert (await asyncio.wait_for(pipeline.detect(jpeg(0, 0), DetectOptions()), TIMEOUT_S)).tiles >= 1


@pytest.mark.parametrize("outputs", [None, (), (np.float32(1),)])
async def test_outputs_that_cannot_be_read_fail_their_frames(
    pipeline: InferencePipeline, monkeypatch: pytest.MonkeyPatch, outputs: object
) -> None:
    monkeypatch.setattr(pipeline.model, "infer", lambda *_: outputs)
    with pytest.raises((TypeError, IndexError, ValueError)):
        await asyncio.wait_for(pipeline.detect(jpeg(0, 0), DetectOptions()), TIMEOUT_S)


async def test_repeated_engine_failures_are_logged_once_per_interval(
    pipeline: InferencePipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    infer, calls = pipeline.model.infer, count()

    def fails_each_second_time(tiles: Any) -> Any:
        if next(calls) % 2 == 0:
            raise RuntimeError("odd tiles")
        return infer(tiles)

    monkeypatch.setattr(pipeline.model, "infer", fails_each_second_time)
    small = cv2.imencode(".png", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    outcomes = [
        (await asyncio.gather(pipeline.detect(small, DetectOptions()), return_exceptions=True))[0] for _ in range(20)
    ]
    assert sum(isinstance(outcome, InferenceError) for outcome in outcomes) == 10
    assert len([record for record in caplog.records if "failed on a batch" in record.message]) == 1


async def test_a_small_frame_does_not_wait_for_all_tiles_of_a_large_one(
    pipeline: InferencePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer, both = pipeline.model.infer, threading.Event()

    def waits_for_both(tiles: Any) -> Any:
        assert both.wait(TIMEOUT_S)
        return infer(tiles)

    monkeypatch.setattr(pipeline.model, "infer", waits_for_both)
    side = 900
    large = cv2.imencode(".jpg", np.zeros((side, side, 3), np.uint8))[1].tobytes()
    first = asyncio.create_task(pipeline.detect(large, DetectOptions()))
    await asyncio.sleep(0.3)
    second = asyncio.create_task(pipeline.detect(jpeg(0, 0), DetectOptions()))
    await asyncio.sleep(0.3)
    both.set()
    done, _ = await asyncio.wait({first, second}, timeout=TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
    assert done == {second}
    assert (await asyncio.wait_for(first, TIMEOUT_S)).tiles == 81


async def test_an_idle_engine_gets_a_batch_that_is_not_full_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited 4 ms for more tiles, once for each pass of a frame."""
    model = load_model(LoadRequest(write_model(tmp_path), "onnxruntime", 1))
    monkeypatch.setattr(model.engine, "batch_size", 4)
    pipeline = InferencePipeline(model, host_threads=1, max_pixels=10**6, batch_wait_s=TIMEOUT_S)
    small = cv2.imencode(".png", np.zeros((32, 32, 3), np.uint8))[1].tobytes()
    for _ in range(3):
        assert (await asyncio.wait_for(pipeline.detect(small, DetectOptions()), TIMEOUT_S / 2)).tiles == 1
    assert pipeline.close()
    model.close()


async def test_other_frames_run_in_single_short_passes_while_live_ones_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A live frame that arrives waits for what runs in the engine."""
    model = load_model(LoadRequest(write_model(tmp_path), "onnxruntime", 2))
    monkeypatch.setattr(model.engine, "batch_size", 4)
    runs, at_once, lock, infer = [0], list[int](), threading.Lock(), model.infer
    sizes = set[int]()

    def notes(tiles: Any) -> Any:
        with lock:
            runs[0] += 1
            at_once.append(runs[0])
            sizes.add(len(tiles))
        time.sleep(0.02)
        with lock:
            runs[0] -= 1
        return infer(tiles)

    monkeypatch.setattr(model, "infer", notes)
    pipeline = InferencePipeline(model, host_threads=2, max_pixels=10**6)
    large = cv2.imencode(".jpg", np.zeros((300, 300, 3), np.uint8))[1].tobytes()

    async def detect_two() -> tuple[int, set[int]]:
        at_once.clear()
        sizes.clear()
        await asyncio.gather(*(pipeline.detect(large, DetectOptions(), rank=Rank.BACKGROUND) for _ in range(2)))
        return max(at_once), set(sizes)

    assert await asyncio.wait_for(detect_two(), TIMEOUT_S) == (2, {2, 4})
    await asyncio.wait_for(pipeline.detect(jpeg(0, 0), DetectOptions()), TIMEOUT_S)
    assert await asyncio.wait_for(detect_two(), TIMEOUT_S) == (1, {1})
    assert pipeline.close()
    model.close()


async def test_decoding_of_other_frames_waits_for_live_ones(
    pipeline: InferencePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer, go_on = pipeline.model.infer, threading.Event()
    monkeypatch.setattr(pipeline.model, "infer", lambda tiles: infer(tiles) if go_on.wait(TIMEOUT_S) else None)
    live = asyncio.create_task(pipeline.detect(jpeg(0, 0), DetectOptions()))
    await asyncio.sleep(0.02)
    decoded = threading.Event()
    passes = pipeline.model.passes

    def notes(*each: Any) -> Any:
        decoded.set()
        return passes(*each)

    monkeypatch.setattr(pipeline.model, "passes", notes)
    other = asyncio.create_task(pipeline.detect(jpeg(0, 1), DetectOptions(), rank=Rank.BACKGROUND))
    await asyncio.sleep(0.05)
    assert not decoded.is_set()
    go_on.set()
    await asyncio.wait_for(asyncio.gather(live, other), TIMEOUT_S)
    assert decoded.is_set()
