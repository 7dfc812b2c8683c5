"""Keeps the models that a worker uses (a stable one, maybe a canary), and chooses the model of each frame.

A frame is given to a model when it is accepted, and stays with it: its detections event has that model's version, also
when another version is rolled out before it is finished. A model that gets no more frames is closed after its last one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from uuid import UUID

from detectors.model.predict import Model
from detectors.worker.pipeline.pipeline import InferencePipeline
from schemas.event_base import ModelRef
from schemas.events import FrameCaptured
from schemas.model_events import Canary
from schemas.timestamps import utc_now

logger = logging.getLogger(__name__)

_HASH_BYTES = 8
_FLOAT_BITS = 53
_SHOWN_PROMPT = 60


@dataclass(slots=True, eq=False, weakref_slot=True)
class LoadedModel:
    """Holds a loaded model and its pipeline, and counts its frames in progress."""

    model: Model
    pipeline: InferencePipeline
    card: Path | None = None
    """The path of its card; None for the model that the worker's own setting names."""
    faster_engine_tried: bool = False
    """It runs on the fastest engine that could be made for it."""
    complaint: str | None = None
    """Why a faster engine could not be made."""
    loaded_at: datetime = field(default_factory=utc_now)
    frames: int = 0
    """How many frames it was given that are not finished."""
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ref(self) -> ModelRef:
        """The model's name and version."""
        return ModelRef(name=self.model.card.name, version=self.model.card.version)

    def is_version(self, wanted: ModelRef | None, sha256: str | None) -> bool:
        """Return whether it is ``wanted`` (None: the setting's model) with the file ``sha256`` (None: any file)."""
        if wanted is None:
            return self.card is None
        return wanted == self.ref and sha256 in (None, self.model.card.sha256)

    def close(self) -> None:
        """Close the threads and the engine; blocks. All frames must be finished before."""
        if self.pipeline.close():
            self.model.close()
            return
        # An engine must not be closed while one of its threads is inside it.
        logger.error(
            "an engine does not return: its thread and its memory stay until the process ends",
            extra={"model": self.ref.name, "version": self.ref.version, "engine": self.model.engine.name},
        )


@dataclass(frozen=True, slots=True)
class AskedModel:
    """Names the model that a frame of a job asks for, where no active one is it."""

    ref: ModelRef
    prompt: str | None = None
    """What it is to look for; None: what its card says"""

    def __str__(self) -> str:
        name = f"{self.ref.name} {self.ref.version}"
        return name if self.prompt is None else f"{name} with the prompt {self.prompt[:_SHOWN_PROMPT]!r}"


def is_canary_frame(canary: Canary, frame: FrameCaptured) -> bool:
    """Return whether ``frame`` goes to ``canary``: always the same for the same frame and version."""
    return frame.device_id in canary.devices or frame_fraction(frame.frame_id, canary.model) < canary.share


def frame_fraction(frame_id: UUID, model: ModelRef) -> float:
    """Return a number from 0 to below 1 for a frame and the canary ``model``, evenly spread over frames.

    A larger share includes all frames of a smaller share; another version gets other frames.
    """
    text = f"{model.name} {model.version}".encode()
    digest = blake2b(frame_id.bytes + text, digest_size=_HASH_BYTES).digest()
    # As many bits as a float holds exactly, so that it stays below 1.
    return (int.from_bytes(digest) >> (8 * _HASH_BYTES - _FLOAT_BITS)) / 2.0**_FLOAT_BITS


class Roster:
    """Chooses the model of each frame, and closes models that are replaced. Use it from the event loop."""

    def __init__(self, stable: LoadedModel) -> None:
        self.stable = stable
        self.canary: LoadedModel | None = None
        self._rule: Canary | None = None
        self._draining: dict[LoadedModel, asyncio.Task[None]] = {}
        self._drained: Callable[[], None] = lambda: None

    @property
    def all_models(self) -> list[LoadedModel]:
        """All models that may have frames in progress."""
        models = (self.stable, self.canary, *self._draining)
        return list({id(loaded): loaded for loaded in models if loaded is not None}.values())

    @property
    def draining(self) -> list[LoadedModel]:
        """The models that get no more frames and have some to finish."""
        return list(self._draining)

    def call_when_drained(self, call: Callable[[], None]) -> None:
        """Call ``call`` whenever a model was closed."""
        self._drained = call

    def choose(self, frame: FrameCaptured) -> LoadedModel | AskedModel:
        """Return the model for ``frame``, or which it asks for when that is no active one; changes nothing."""
        asked, prompt = frame.model, frame.options.prompt
        if asked is None and prompt is None:
            return self._active_for(frame)
        if asked is None:
            return AskedModel(self._active_for(frame).ref, prompt)
        if prompt is None:
            for active in (self.stable, self.canary):
                if active is not None and active.ref == asked:
                    return active
        return AskedModel(asked, prompt)

    def _active_for(self, frame: FrameCaptured) -> LoadedModel:
        canary = self.canary
        if canary is not None and self._rule is not None and is_canary_frame(self._rule, frame):
            return canary
        return self.stable

    def acquire(self, loaded: LoadedModel) -> None:
        """Keep ``loaded`` open for one more frame, until ``release``."""
        loaded.frames += 1
        loaded.idle.clear()

    def release(self, loaded: LoadedModel) -> None:
        """Count one frame of ``loaded`` as finished."""
        loaded.frames -= 1
        if loaded.frames == 0:
            loaded.idle.set()

    def set_models(self, stable: LoadedModel, canary: LoadedModel | None, rule: Canary | None) -> None:
        """Use these models from the next frame on; drain and close those that are not used any more."""
        former = [self.stable, self.canary]
        self.stable, self.canary, self._rule = stable, canary, rule
        for loaded in former:
            if loaded is not None and loaded not in (stable, canary) and loaded not in self._draining:
                self._draining[loaded] = asyncio.create_task(self._drain(loaded), name=f"drain-{loaded.ref.version}")

    async def _drain(self, loaded: LoadedModel) -> None:
        if loaded.frames:
            await loaded.idle.wait()
        await asyncio.to_thread(loaded.close)
        del self._draining[loaded]
        logger.info("model closed", extra={"model": loaded.ref.name, "version": loaded.ref.version})
        self._drained()

    async def close(self) -> None:
        """Close all models; no frame may be in progress or follow."""
        for loaded in self._draining:
            # After a crash no task releases frames any more.
            loaded.idle.set()
        await asyncio.gather(*self._draining.values())
        for loaded in {id(one): one for one in (self.stable, self.canary) if one is not None}.values():
            await asyncio.to_thread(loaded.close)
