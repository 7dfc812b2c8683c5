"""Checks that models which no task waits for any more are closed at every step of their load."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path

import pytest

from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Model
from detectors.worker.pipeline.pipeline import InferencePipeline
from detectors.worker.quarantine.quarantine import NoQuarantine
from detectors.worker.rollout.model_loader import ModelLoader, ModelSource
from tests.harnesses.model_versions import CopyStore, write_version


@pytest.fixture
def card(tmp_path: Path) -> Path:
    return write_version(tmp_path / "made", "1.0.0", 1.0)


async def test_cancelled_load_faster_closes_its_model(card: Path, tmp_path: Path) -> None:
    closed: list[str] = []
    go_on, asked = threading.Event(), asyncio.Event()

    def load(name: str, slowly: threading.Event | None = None) -> Model:
        assert slowly is None or slowly.wait(30)
        model = load_model(LoadRequest(card, "onnxruntime", 1))
        close = model.close
        model.close = lambda: (closed.append(name), close())[1]  # type: ignore[method-assign]  # to see it
        return model

    async def load_faster(_card: Path | None, _on_state: object) -> Model:
        asked.set()
        return load("faster")

    pipeline = partial(InferencePipeline, host_threads=1, max_pixels=1_000_000)
    source = ModelSource(CopyStore(tmp_path), tmp_path, lambda _card, _busy: load("other", go_on), load_faster)
    loader = ModelLoader(partial(load, "own"), source, pipeline, NoQuarantine())
    loaded = await loader.load(None, busy=False)
    other = asyncio.create_task(loader.load(card, busy=True))
    await asyncio.sleep(0)
    better = asyncio.create_task(loader.load_faster(loaded, lambda _state, _detail: None))
    await asked.wait()
    await asyncio.sleep(0.1)
    for each in (better, other):
        each.cancel()
    await asyncio.wait([better, other])
    assert closed == ["faster"]
    go_on.set()
    await loader.close(timeout_s=30)
    assert closed == ["faster", "other"]
    loaded.close()


async def test_close_gives_up_a_load_that_takes_longer_than_the_limit(
    card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_up: list[threading.Thread] = []
    monkeypatch.setattr("detectors.worker.rollout.model_loader.give_up_thread", given_up.append)
    go_on = threading.Event()

    def load() -> Model:
        assert go_on.wait(30)
        return load_model(LoadRequest(card, "onnxruntime", 1))

    pipeline = partial(InferencePipeline, host_threads=1, max_pixels=1_000_000)
    loader = ModelLoader(load, None, pipeline, NoQuarantine())
    loading = asyncio.create_task(loader.load(None, busy=False))
    await asyncio.sleep(0)
    loading.cancel()
    await asyncio.wait([loading])
    await loader.close(timeout_s=0.01)
    (thread,) = given_up
    assert thread.daemon
    go_on.set()
    await asyncio.to_thread(thread.join, 30)
    assert not thread.is_alive()
