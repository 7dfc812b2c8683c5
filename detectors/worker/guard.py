"""Frames and models that crash an engine are found: noted while under way, tried apart when suspect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID, uuid5

from detectors.errors import EngineCrashError, InferenceError
from detectors.loading import LoadRequest
from detectors.worker.apart import Apart, Trial
from detectors.worker.pipeline import FrameResult
from detectors.worker.serving import Served
from detectors.worker.suspects import Suspects
from infra.errors import RecordError
from schemas.events import FrameCaptured

_LOADS = UUID("0f6f2b0c-5d4e-4f0a-9f0e-6f1f5c1b7a52")


@dataclass(frozen=True, slots=True)
class Guard:
    """``request``: how the worker's own model is loaded; others are loaded alike, from their own card."""

    suspects: Suspects
    request: LoadRequest
    max_pixels: int
    apart: Apart = field(default_factory=Apart)

    async def detect(self, answer: UUID, served: Served, frame: FrameCaptured, data: bytes) -> FrameResult:
        """What ``frame`` with the encoded bytes ``data`` shows to ``served``; ``answer``: the id of its answer.

        Raises what the pipeline raises; EngineCrashError for a suspect that crashes another engine, too.
        """
        if answer in self.suspects:
            return await self._tried_apart(answer, served, frame, data)
        slot = self.suspects.enter(answer)
        try:
            return await served.pipeline.detect(data, frame.options, frame.camera)
        finally:
            self.suspects.leave(slot)

    async def _tried_apart(self, answer: UUID, served: Served, frame: FrameCaptured, data: bytes) -> FrameResult:
        """What a suspect shows. It stays one while a trial only says that it could not be tried: the model did not load
        beside the one that serves, say. Were it given to this process then, it would crash it once more.
        """
        card = self.request.card if served.card is None else served.card
        # What is measured beside a busy model would be wrong.
        request = replace(self.request, card=card, measure_s=0.0)
        trial = Trial(request, served.model.engine.name, data, frame.options, frame.camera, self.max_pixels)
        try:
            result = await self.apart.detect(trial)
        except Exception as error:
            if is_about_the_frame(error):
                self.suspects.clear(answer)
            raise
        self.suspects.clear(answer)
        return result

    async def before_load(self, card: Path | None, *, busy: bool) -> None:
        """Try apart whether the model of ``card`` loads, if it was being loaded when a worker crashed.

        Without that a model that crashes its engine would take every worker with it that follows its activation, and
        again at each start. Raises ModelLoadError when it crashes, or does not load.
        """
        mark = _mark(card)
        if mark not in self.suspects:
            return
        measure_s = 0.0 if busy else self.request.measure_s
        await self.apart.load(replace(self.request, card=card or self.request.card, measure_s=measure_s))
        self.suspects.clear(mark)

    def note_load(self, card: Path | None) -> Callable[[], None]:
        """The model of ``card`` is being loaded, until what this returns is called."""
        slot = self.suspects.enter(_mark(card))
        return lambda: self.suspects.leave(slot)


def _mark(card: Path | None) -> UUID:
    """What stands for loading the model of ``card`` among the answers to frames."""
    return uuid5(_LOADS, str(card))


def is_about_the_frame(error: Exception) -> bool:
    """Whether ``error`` says for good what is wrong with a frame; an engine's failure, a fault or a bug may pass."""
    if isinstance(error, InferenceError):
        return isinstance(error, EngineCrashError)
    return isinstance(error, RecordError)
