"""Measures the tiles per second of the detector worker, from topic to commit, and of its bare engine."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import pictures
from bench.frames import live_record, store_frame
from bench.graphs import SIDE, write_heavy_model
from bench.measure import Compared, rate, take_turns
from bench.processes import measured
from bench.result import RATIO, Figure, Goal, Result
from detectors.card.card import default_card_path
from detectors.engines.host import configure_process
from detectors.errors import InferenceError
from detectors.images.decode import decode_image
from detectors.model.loading import LoadRequest, load_model
from detectors.model.options import FrameView
from detectors.model.predict import Model
from detectors.settings import DetectorSettings, EngineKind
from detectors.worker.worker import DetectorWorker, WorkerParts
from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.port import OutRecord
from infra.consuming.metrics import RECORDS_CONSUMED
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from infra.storage.frames.folder import FolderFrameStore
from schemas import topics
from schemas.events import DetectOptions
from schemas.topics import load_topics

GOAL = 0.95
_LARGE, _SMALL = (4000, 3000), (1280, 960)
_SMALL_PER_LARGE = 4
_LOOK_S = 0.02
_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class _Load:
    """Says about how long one run takes, and how many runs there are."""

    run_s: float
    rounds: int


def run(quick: bool) -> Result:
    """Measure each model with each engine; quick: only two of the four, one round."""
    return measured(lambda folder: _run(folder, quick))


async def _run(folder: Path, quick: bool) -> Result:
    configure_process()
    mix = [pictures.scene(*_LARGE, 0), *(pictures.scene(*_SMALL, number) for number in range(_SMALL_PER_LARGE))]
    typical = decode_image(mix[0].data, max_pixels=10**8)[:SIDE, :SIDE]
    models = {"standgale-small": default_card_path(), "heavier graph": write_heavy_model(folder / "heavy", typical)}
    plans: list[tuple[str, EngineKind]] = [("standgale-small", "openvino"), ("heavier graph", "onnxruntime")]
    if not quick:
        plans += [("standgale-small", "onnxruntime"), ("heavier graph", "openvino")]
    load = _Load(1.0, 1) if quick else _Load(10.0, 3)
    figures: list[Figure] = []
    for name, engine in sorted(plans, reverse=True):
        model = await asyncio.to_thread(load_model, LoadRequest(models[name], engine))
        found = await _compare(folder / f"{name}-{engine}".replace(" ", "-"), model, mix, load)
        figures += [
            Figure(f"{name}, {engine}: bare engine", found.bare_rate, "tiles/s"),
            Figure(f"{name}, {engine}: whole worker", found.our_rate, "tiles/s"),
            Figure(f"{name}, {engine}: worker over engine", found.ratio, RATIO, Goal(GOAL)),
        ]
    return Result("detector", "Detector worker over bare engine", tuple(figures), (_NOTE,))


_NOTE = (
    f"A mix of one {_LARGE[0]}×{_LARGE[1]} and {_SMALL_PER_LARGE} {_SMALL[0]}×{_SMALL[1]} JPEG frames, from the "
    "embedded broker and the folder store to committed detections, over engine.run on the same tiles cut beforehand, "
    "from as many threads as the engine wants. Each run begins with an idle worker and ends with its last commit."
)


async def _compare(folder: Path, model: Model, mix: Sequence[pictures.Picture], load: _Load) -> Compared:
    tiles = [_tiles(model, picture) for picture in mix]
    batches = [each for one in tiles for each in _batches(one, model.engine.batch_size)]
    mixes = await asyncio.to_thread(_mixes, model, batches, load.run_s)
    count = sum(map(len, tiles)) * mixes
    async with _working(folder, model) as setup:
        numbers = itertools.count()

        async def worker() -> float:
            records = [await setup.frame(mix[n % len(mix)], next(numbers)) for n in range(mixes * len(mix))]
            return count / await setup.seconds_to_commit(records)

        async def bare() -> float:
            start = time.perf_counter()
            await asyncio.to_thread(run_engine, model, batches * mixes)
            return rate(count, start)

        return await take_turns(worker, bare, load.rounds)


def _tiles(model: Model, picture: pictures.Picture) -> NDArray[np.uint8]:
    image = decode_image(picture.data, max_pixels=picture.width * picture.height)
    view = FrameView(picture.width, picture.height)
    return model.cut(image, model.plan(view, model.resolved(DetectOptions(), view)))


def _batches(tiles: NDArray[np.uint8], size: int) -> list[NDArray[np.uint8]]:
    return [tiles[first : first + size] for first in range(0, len(tiles), size)]


def _mixes(model: Model, batches: list[NDArray[np.uint8]], run_s: float) -> int:
    """Return how many times the bare engine runs ``batches`` in ``run_s``, at least 1."""
    start = time.perf_counter()
    run_engine(model, batches)
    return max(1, round(run_s / (time.perf_counter() - start)))


def run_engine(model: Model, batches: list[NDArray[np.uint8]]) -> None:
    """Run all ``batches`` through the engine, from as many threads as it uses."""
    waiting, lock, done = iter(batches), threading.Lock(), 0

    def work() -> None:
        nonlocal done
        while True:
            with lock:
                batch = next(waiting, None)
            if batch is None:
                return
            model.engine.run(batch)
            with lock:
                done += 1

    threads = [threading.Thread(target=work) for _ in range(model.engine.parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if done != len(batches):
        raise InferenceError(f"the bare engine ran {done} of {len(batches)} batches; its error is above")


@dataclass(frozen=True, slots=True)
class _Setup:
    """Holds a broker and a frame store with a worker on them."""

    broker: EmbeddedBroker
    store: FolderFrameStore

    async def frame(self, picture: pictures.Picture, number: int) -> OutRecord:
        """Store a new frame that shows ``picture``, and return its event, which is not published yet."""
        return live_record(await store_frame(self.store, picture, number))

    async def seconds_to_commit(self, records: Sequence[OutRecord]) -> float:
        """Publish ``records``, and return the seconds until the worker has committed all of them.

        The worker's count of commits shows when: queries to the broker would slow down what is measured.
        """
        publisher = await self.broker.publisher()
        try:
            wanted = _committed() + len(records)
            start = time.perf_counter()
            await publisher.publish(records)
            async with asyncio.timeout(_TIMEOUT_S):
                while _committed() < wanted:  # noqa: ASYNC110 (only the metrics of the worker show it)
                    await asyncio.sleep(_LOOK_S)
            return time.perf_counter() - start
        finally:
            await publisher.close()


def _committed() -> int:
    """Return how many frames the workers of this process have committed so far."""
    (family,) = RECORDS_CONSUMED.collect()
    return int(sum(sample.value for sample in family.samples if sample.name.endswith("_total")))


@asynccontextmanager
async def _working(folder: Path, model: Model) -> AsyncIterator[_Setup]:
    """Start a worker with ``model``, and close it at the end."""
    declared = load_topics()
    async with AsyncExitStack() as stack:
        broker = EmbeddedBroker(folder / "broker.sqlite", declared)
        stack.push_async_callback(broker.close)
        store = FolderFrameStore(folder / "frames")
        stack.push_async_callback(store.close)
        parts = WorkerParts(
            broker=broker,
            store=store,
            load_model=lambda: model,
            settings=DetectorSettings(),
            retry=RetrySettings(),
            max_event_bytes=declared[topics.DETECTIONS].max_message_bytes,
        )
        stop = asyncio.Event()
        working = asyncio.create_task(DetectorWorker(parts).run(stop, Health().part("detector")))
        try:
            yield _Setup(broker, store)
        finally:
            stop.set()
            await working
