"""Frames through the engine so that one that crashes it is found: noted while under way, tried apart when suspect."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from uuid import UUID

from detectors.loading import LoadRequest
from detectors.worker.apart import Apart, Trial
from detectors.worker.pipeline import FrameResult
from detectors.worker.serving import Served
from detectors.worker.suspects import Suspects
from schemas.events import FrameCaptured


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
            card = self.request.card if served.card is None else served.card
            request = replace(self.request, card=card)
            engine = served.model.engine.name
            trial = Trial(request, engine, data, frame.options, frame.camera, self.max_pixels)
            try:
                return await self.apart.detect(trial)
            finally:
                self.suspects.clear(answer)
                if not self.suspects.any:
                    await self.apart.close()
        self.suspects.enter(answer)
        try:
            return await served.pipeline.detect(data, frame.options, frame.camera)
        finally:
            self.suspects.leave(answer)
