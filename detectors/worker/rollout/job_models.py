"""Loads the models that frames of jobs ask for, beside those that are active, and closes those that are used least.

An active model is never replaced by one of these, and no live frame waits for a load: frames of jobs wait alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import ClassVar

from detectors.errors import ModelLoadError
from detectors.worker.pipeline.serving import AskedModel, LoadedModel
from detectors.worker.rollout.model_loader import ModelLoader, Version
from infra.errors import RecordError
from infra.failure.backoff import Backoff
from infra.failure.error_texts import error_text, is_transient
from infra.failure.retry import ConsumerContext, StoppedError
from infra.process.monotonic import monotonic_s

logger = logging.getLogger(__name__)

_NOTE = "models of jobs"
# A version that cannot be loaded is not tried for each of a job's frames.
_REMEMBERED_S = 60.0
_MOST_REMEMBERED = 100
_CHECK_S = 0.25


class JobModelError(RecordError):
    """The model that a frame of a job asks for cannot be loaded: the frame fails with this reason."""

    code: ClassVar[str] = "MODEL_LOAD_ERROR"


class JobModels:
    """Keeps at most ``most`` models for jobs. Use it from the event loop."""

    def __init__(
        self,
        loader: ModelLoader,
        most: int,
        context: ConsumerContext,
        active: Callable[[], Sequence[LoadedModel]],
        *,
        now: Callable[[], float] = monotonic_s,
    ) -> None:
        """``active``: the models of the roll-out, one of which a prompt may be for."""
        self._loader = loader
        self._active = active
        self._most = most
        self._context = context
        self._now = now
        self._loaded: dict[AskedModel, LoadedModel] = {}
        """The one that was used last is the last"""
        self._loading: dict[AskedModel, asyncio.Task[LoadedModel]] = {}
        self._refused: dict[AskedModel, tuple[float, str]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def all_models(self) -> list[LoadedModel]:
        """The models that are loaded now."""
        return list(self._loaded.values())

    async def acquire(self, asked: AskedModel, is_wanted: Callable[[], bool]) -> LoadedModel | None:
        """Return the model for one more frame, loaded if necessary; None when ``is_wanted`` is False meanwhile.

        Waits while the model store is unavailable, or while other models are in use. The caller releases it at the
        roster. Raises JobModelError when there is no such version, or it does not run; StoppedError at a stop.
        """
        backoff = Backoff(self._context.policy)
        while is_wanted():
            if self._context.stop.is_set():
                raise StoppedError("a frame of a job is left for the next worker")
            if (loaded := self._loaded.pop(asked, None)) is not None:
                self._loaded[asked] = loaded
                loaded.frames += 1
                loaded.idle.clear()
                return loaded
            self._raise_if_refused(asked)
            task = self._loading.get(asked) or self._begin(asked)
            if task is None:
                # All are in use by frames of other jobs, which end.
                await asyncio.sleep(_CHECK_S)
                continue
            await asyncio.wait({task}, timeout=_CHECK_S)
            if task.done() and asked not in self._loaded and asked not in self._refused:
                # The store is unavailable: what was logged and noted passes.
                await self._pause(backoff)
        return None

    async def close(self) -> None:
        """Close all models; no frame may be in progress."""
        for task in self._loading.values():
            task.cancel()
        await asyncio.gather(*self._loading.values(), *self._closing, return_exceptions=True)
        for loaded in self._loaded.values():
            await asyncio.to_thread(loaded.close)
        self._loaded.clear()
        self._context.health.set_note(_NOTE, None)

    def _begin(self, asked: AskedModel) -> asyncio.Task[LoadedModel] | None:
        """Start to load a model, in the place of one that is not in use; None when all are."""
        if len(self._loaded) + len(self._loading) >= self._most:
            unused = next((key for key, loaded in self._loaded.items() if not loaded.frames), None)
            if unused is None:
                return None
            former = self._loaded.pop(unused)
            closing = asyncio.create_task(self._close(former), name="job-model-close")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        task = asyncio.create_task(self._load(asked), name="job-model-load")
        self._loading[asked] = task
        task.add_done_callback(lambda done: self._finish(asked, done))
        return task

    async def _load(self, asked: AskedModel) -> LoadedModel:
        # The one before it is closed first: two at a time would need the memory of one more than are allowed.
        if self._closing:
            await asyncio.wait(self._closing)
        same = next((each for each in self._active() if each.ref == asked.ref), None)
        if same is not None:
            card = same.card or self._loader.own_card
        else:
            card = await self._loader.fetch(Version(asked.ref), busy=True)
        return await self._loader.load(card, busy=True, prompt=asked.prompt)

    def _finish(self, asked: AskedModel, done: asyncio.Task[LoadedModel]) -> None:
        del self._loading[asked]
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._loaded[asked] = done.result()
            self._context.health.set_note(_NOTE, None)
            return
        text = error_text(error) if isinstance(error, Exception) else str(error)
        if is_transient(error):
            self._context.health.set_note(_NOTE, f"{asked} cannot be fetched yet: {text}")
            logger.warning("a model of a job cannot be fetched yet: %s", text)
            return
        logger.warning("a model of a job cannot be used: %s: %s", asked, text)
        while len(self._refused) >= _MOST_REMEMBERED:
            del self._refused[next(iter(self._refused))]
        self._refused[asked] = (self._now(), text)

    def _raise_if_refused(self, asked: AskedModel) -> None:
        at_s, text = self._refused.get(asked, (float("-inf"), ""))
        if self._now() - at_s < _REMEMBERED_S:
            raise JobModelError(f"{asked} cannot be used: {text}")
        self._refused.pop(asked, None)

    async def _pause(self, backoff: Backoff) -> None:
        left_s = backoff.next_delay_s()
        while left_s > 0 and not self._context.stop.is_set():
            await asyncio.sleep(min(left_s, _CHECK_S))
            left_s -= _CHECK_S

    async def _close(self, loaded: LoadedModel) -> None:
        await asyncio.to_thread(loaded.close)
        logger.info("model of a job closed", extra={"model": loaded.ref.name, "version": loaded.ref.version})


class NoJobModels:
    """Has no models but the active ones: a worker without a model store."""

    @property
    def all_models(self) -> list[LoadedModel]:
        """None."""
        return []

    async def acquire(self, asked: AskedModel, is_wanted: Callable[[], bool]) -> LoadedModel | None:
        """Raise JobModelError."""
        del is_wanted
        raise JobModelError(f"{asked} cannot be used: this worker has no model store") from ModelLoadError(str(asked))

    async def close(self) -> None:
        """Do nothing."""
