"""The models a worker answers with: the stable one, perhaps one on trial, and which of them takes a frame.

A frame is given to a model when it is accepted, and stays with it: the answer carries that model's version, whatever is
rolled out meanwhile. A model that is no longer given frames is closed when its last one is answered.
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
from schemas.events import Canary, FrameCaptured, ModelRef
from schemas.timestamps import utc_now

logger = logging.getLogger(__name__)

_HASH_BYTES = 8
_FLOAT_BITS = 53


@dataclass(slots=True, eq=False, weakref_slot=True)
class LoadedModel:
    """A loaded model, its pipeline, and how many frames it was given and has not answered yet.

    ``card``: where its card lies; None for the model that the worker's own setting names. ``upgraded``: it has the
    fastest engine there is for it; ``complaint``: why that is not the one that was to be made.
    """

    model: Model
    pipeline: InferencePipeline
    card: Path | None = None
    faster_engine_tried: bool = False
    complaint: str | None = None
    loaded_at: datetime = field(default_factory=utc_now)
    frames: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ref(self) -> ModelRef:
        """Name and version."""
        return ModelRef(name=self.model.card.name, version=self.model.card.version)

    def is_version(self, wanted: ModelRef | None, sha256: str | None) -> bool:
        """Whether it is ``wanted`` (None: what the setting names) with the file ``sha256`` (None: any)."""
        if wanted is None:
            return self.card is None
        return wanted == self.ref and sha256 in (None, self.model.card.sha256)

    def close(self) -> None:
        """Give threads and memory back; it blocks, and all frames must be answered."""
        if self.pipeline.close():
            self.model.close()
            return
        # What a thread is inside of must not be taken away from under it.
        logger.error(
            "the engine does not come back: its thread and its memory are left until the process ends",
            extra={"model": self.ref.name, "version": self.ref.version, "engine": self.model.engine.name},
        )


def is_canary_frame(canary: Canary, frame: FrameCaptured) -> bool:
    """Whether ``frame`` is one for ``canary``: always the same answer for the same frame and version."""
    return frame.device_id in canary.devices or frame_fraction(frame.frame_id, canary.model) < canary.share


def frame_fraction(frame_id: UUID, model: ModelRef) -> float:
    """Where a frame stands between 0 and 1 (without) for the trial of ``model``; evenly spread over frames.

    A larger share takes in all frames of a smaller one; another version draws other frames.
    """
    text = f"{model.name} {model.version}".encode()
    digest = blake2b(frame_id.bytes + text, digest_size=_HASH_BYTES).digest()
    # As many bits as a float holds exactly, so that it stays below 1.
    return (int.from_bytes(digest) >> (8 * _HASH_BYTES - _FLOAT_BITS)) / 2.0**_FLOAT_BITS


class Roster:
    """Which model takes which frame. All calls from the event loop."""

    def __init__(self, stable: LoadedModel) -> None:
        self.stable = stable
        self.canary: LoadedModel | None = None
        self._rule: Canary | None = None
        self._draining: dict[LoadedModel, asyncio.Task[None]] = {}
        self._drained: Callable[[], None] = lambda: None

    @property
    def all_models(self) -> list[LoadedModel]:
        """All models that may have frames under way."""
        loaded = (self.stable, self.canary, *self._draining)
        return list({id(served): served for served in loaded if served is not None}.values())

    @property
    def draining(self) -> list[LoadedModel]:
        """Models that take no more frames and have some to answer."""
        return list(self._draining)

    def call_when_drained(self, tell: Callable[[], None]) -> None:
        """``tell`` is called whenever a model was closed."""
        self._drained = tell

    def choose(self, frame: FrameCaptured) -> LoadedModel:
        """Say which model answers ``frame``, if it is to be answered; changes nothing."""
        canary = self.canary
        return (
            canary
            if canary is not None and self._rule is not None and is_canary_frame(self._rule, frame)
            else self.stable
        )

    def acquire(self, loaded: LoadedModel) -> None:
        """Keep ``loaded`` loaded for one more frame, until that is given back with ``release``."""
        loaded.frames += 1
        loaded.idle.clear()

    def release(self, loaded: LoadedModel) -> None:
        """A frame of ``loaded`` needs it no longer."""
        loaded.frames -= 1
        if loaded.frames == 0:
            loaded.idle.set()

    def set_models(self, stable: LoadedModel, canary: LoadedModel | None, rule: Canary | None) -> None:
        """From the next frame on these are used; what is not among them drains and is closed."""
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
        """Close all models; no frame may be under way or follow."""
        for loaded in self._draining:
            # After a crash nobody gives frames back any more.
            loaded.idle.set()
        await asyncio.gather(*self._draining.values())
        for loaded in {id(one): one for one in (self.stable, self.canary) if one is not None}.values():
            await asyncio.to_thread(loaded.close)
