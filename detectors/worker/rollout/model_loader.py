"""Makes a model version ready for frames: fetches it from the model store, loads it in a thread, and warms it up."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from detectors.card.card import read_card
from detectors.errors import ModelLoadError
from detectors.metrics import MODEL_LOAD_TIME
from detectors.model.predict import Model
from detectors.store.port import ModelStore
from detectors.worker.pipeline.pipeline import InferencePipeline
from detectors.worker.pipeline.serving import LoadedModel
from detectors.worker.pipeline.threads import start_in_daemon
from detectors.worker.quarantine.quarantine import QuarantinePort
from infra.process.forced_exit import give_up_thread
from schemas.event_base import ModelRef
from schemas.model_events import AvailabilityState, ModelActivated

logger = logging.getLogger(__name__)

_WARM_UP_ROUNDS = 3
# A load that is cancelled ends soon where it is quick; the process does not wait longer for it.
_CLOSE_TIMEOUT_S = 1.0

OnState = Callable[[AvailabilityState, str | None], None]
"""Called with the new state of a model, and a detail for people."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Describes where model versions come from and how they are loaded."""

    store: ModelStore
    model_cache: Path
    """The folder of fetched versions on this machine."""
    load: Callable[[Path, bool], Model]
    """Loads the model of a card; the second argument says whether another model is used at the same time."""
    load_faster: Callable[[Path | None, OnState], Awaitable[Model | None]] | None = None
    """Makes a faster engine for the model of a card (None: the worker's own), which takes minutes, and loads the model
    on it; returns None when there is none for this machine.
    """
    load_prompted: Callable[[Path, str], Model] | None = None
    """Loads the model of a card with a prompt in place of the card's classes."""
    own_card: Path | None = None
    """The card of the worker's own setting."""


@dataclass(frozen=True, slots=True)
class Version:
    """Names a version to load."""

    ref: ModelRef | None
    """None: the model that the worker's own setting names."""
    sha256: str | None = None
    """The checksum that its file must have; None: any."""

    def __str__(self) -> str:
        return "the model of detector.model" if self.ref is None else f"{self.ref.name} {self.ref.version}"


def stable_of(activation: ModelActivated | None) -> Version:
    """Return the version that ``activation`` asks for, for all frames that do not go to the canary."""
    return Version(None) if activation is None else Version(activation.stable, activation.sha256)


def chain_of(activation: ModelActivated | None) -> list[Version]:
    """Return the versions that a worker may start with, best first, none twice."""
    chain = [stable_of(activation)]
    if activation is not None:
        chain += [Version(activation.previous, activation.previous_sha256), Version(None)]
    return list(dict.fromkeys(chain))


class ModelLoader:
    """Loads models one at a time: a cancelled load ends before the next begins."""

    def __init__(
        self,
        load_own: Callable[[], Model],
        source: ModelSource | None,
        pipeline: Callable[[Model], InferencePipeline],
        quarantine: QuarantinePort,
    ) -> None:
        self._load_own = load_own
        self._source = source
        self._pipeline = pipeline
        self._quarantine = quarantine
        self._loads: dict[asyncio.Future[Model], threading.Thread] = {}

    @property
    def own_card(self) -> Path | None:
        """The card of the worker's own setting, where its place is known."""
        return None if self._source is None else self._source.own_card

    async def fetch(self, version: Version, *, busy: bool) -> Path | None:
        """Fetch ``version`` and return its card on this machine; None for the worker's own, which needs no fetching.

        A version that was being loaded when a worker crashed is first tried in a separate process. ``busy``: another
        model is used at the same time. Raises TransientError (try again), or ModelLoadError when there is no such
        version, or its files differ from what was activated.
        """
        card = await self._card(version)
        await self._quarantine.try_suspect_load(card, busy=busy)
        return card

    async def _card(self, version: Version) -> Path | None:
        if version.ref is None:
            return None
        if self._source is None:
            raise ModelLoadError(f"{version} cannot be fetched: this worker has no model store")
        path = await self._source.store.fetch(version.ref, self._source.model_cache)
        card = await asyncio.to_thread(read_card, path)
        if (card.name, card.version) != (version.ref.name, version.ref.version):
            raise ModelLoadError(
                f"the model store gave {card.name} {card.version} for {version}; correct name and version in its card"
            )
        if version.sha256 not in (None, card.sha256):
            raise ModelLoadError(
                f"the model store has {version} with SHA-256 {card.sha256}, the one activated has {version.sha256}: "
                "versions must not change; publish the file as a new version and activate that"
            )
        return path

    async def load(self, card: Path | None, *, busy: bool, prompt: str | None = None) -> LoadedModel:
        """Load the model of ``card`` (None: the worker's own), with ``prompt`` in place of its card's if given.

        ``busy``: another model is used at the same time; then there is time to warm this one up. Raises ModelLoadError,
        or any error of an engine, when it cannot be used.
        """
        if card is None:
            return await self._load_and_wrap(partial(_load_timed, self._load_own, busy), None)
        if self._source is None:
            raise ModelLoadError(f"{card} cannot be loaded: this worker has no model store")
        return await self._load_and_wrap(partial(_load_timed, self._load_call(card, busy, prompt), busy), card)

    def _load_call(self, card: Path, busy: bool, prompt: str | None) -> Callable[[], Model]:
        assert self._source is not None
        if prompt is None:
            return partial(self._source.load, card, busy)
        if self._source.load_prompted is None:
            raise ModelLoadError(f"{card} cannot be loaded with a prompt: this worker loads none")
        return partial(self._source.load_prompted, card, prompt)

    async def load_faster(self, loaded: LoadedModel, on_state: OnState) -> LoadedModel | None:
        """Load the model of ``loaded`` on a faster engine, warmed up; None when there is none. Raises as ``load``."""
        if self._source is None or self._source.load_faster is None:
            return None
        model = await self._source.load_faster(loaded.card, on_state)
        if model is None:
            return None
        try:
            await self._wait_for_turn()
        except asyncio.CancelledError:
            model.close()
            raise
        return await self._load_and_wrap(partial(_warm_up, model), loaded.card)

    async def _wait_for_turn(self) -> None:
        """Wait until no load runs: two at a time would need twice the memory, and take cores from the frames."""
        while self._loads:
            await asyncio.wait(self._loads)

    async def _load_and_wrap(self, load: Callable[[], Model], card: Path | None) -> LoadedModel:
        await self._wait_for_turn()
        remove_note = self._quarantine.record_load(card)
        loading, thread = start_in_daemon(load, "model-load")
        loading.add_done_callback(lambda _: remove_note())
        self._loads[loading] = thread
        try:
            model = await asyncio.shield(loading)
        except asyncio.CancelledError:
            # A thread cannot be stopped: its model is closed when it is loaded.
            loading.add_done_callback(self._close_unused)
            raise
        except BaseException:
            del self._loads[loading]
            raise
        del self._loads[loading]
        return LoadedModel(model, self._pipeline(model), card)

    def _close_unused(self, loading: asyncio.Future[Model]) -> None:
        del self._loads[loading]
        if not loading.cancelled() and loading.exception() is None:
            loading.result().close()

    async def close(self, timeout_s: float = _CLOSE_TIMEOUT_S) -> None:
        """Wait for cancelled loads; one that takes longer than ``timeout_s`` does not keep the process from ending."""
        if self._loads:
            await asyncio.wait(self._loads, timeout=timeout_s)
        for thread in self._loads.values():
            give_up_thread(thread)


def _load_timed(load: Callable[[], Model], warm: bool) -> Model:
    start = time.perf_counter()
    model = load()
    if warm:
        model = _warm_up(model)
    MODEL_LOAD_TIME.labels(model=model.card.name).set(time.perf_counter() - start)
    about = {"model": model.card.name, "version": model.card.version, "engine": model.engine.name}
    logger.info("model loaded", extra=about)
    return model


def _warm_up(model: Model) -> Model:
    """Run batches of the pipeline's size and number on ``model``, because the first runs are slow, and return it."""
    card, engine = model.card.input, model.engine
    tiles = np.full((engine.batch_size, card.height, card.width, 3), card.pad, np.uint8)
    try:
        with ThreadPoolExecutor(engine.parallel, thread_name_prefix="warm-up") as threads:
            for _ in threads.map(model.infer, [tiles] * (engine.parallel * _WARM_UP_ROUNDS)):
                pass
    except BaseException:
        model.close()
        raise
    return model
