"""Frames and models that crash an engine are found: noted while under way, tried apart when suspect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol
from uuid import UUID, uuid5

from detectors.model.loading import LoadRequest
from detectors.worker.pipeline.pipeline import FrameResult
from detectors.worker.pipeline.serving import Served
from detectors.worker.quarantine.proof_image import PROOF
from detectors.worker.quarantine.suspects import Suspects
from detectors.worker.quarantine.trial_process import Apart, Trial
from infra.failure.verdicts import fails_by_type
from schemas.events import DetectOptions, FrameCaptured
from schemas.geometry import CameraGeometry

_LOADS = UUID("0f6f2b0c-5d4e-4f0a-9f0e-6f1f5c1b7a52")


class Guarding(Protocol):
    """Gives frames and models to the engines; what may crash them is tried in a process of its own."""

    def suspects_frame(self, answer: UUID) -> bool:
        """Whether the frame with ``answer`` was under way when a worker crashed, so that it is tried apart."""
        ...

    async def detect(self, answer: UUID, served: Served, frame: FrameCaptured, data: bytes) -> FrameResult:
        """Find what ``frame`` with the encoded bytes ``data`` shows to ``served``; ``answer``: the id of its answer.

        Raises what the pipeline raises; for a suspect also EngineCrashError when it crashes another engine, too, and
        EngineKilledError when its trial was ended from outside.
        """
        ...

    async def prove_apart(self, served: Served) -> None:
        """Try a known good picture where suspects are tried. Raises what that raises."""
        ...

    async def before_load(self, card: Path | None, *, busy: bool) -> None:
        """Try apart whether the model of ``card`` loads, if it was being loaded when a worker crashed.

        Raises ModelLoadError when it crashes, or does not load; TrialKilledError when that could not be found out.
        """
        ...

    def note_load(self, card: Path | None) -> Callable[[], None]:
        """The model of ``card`` is being loaded, until what this returns is called."""
        ...

    def look(self) -> None:
        """Find what other workers have left that crashed."""
        ...

    def accuse(self) -> None:
        """Make suspects of all that the engines have now, because one hangs."""
        ...

    async def close(self) -> None:
        """End what is being tried, and leave nothing behind."""
        ...


class NoGuard:
    """Guards nothing: what crashes an engine crashes every worker it comes to."""

    def suspects_frame(self, answer: UUID) -> bool:
        """See :class:`Guarding`."""
        del answer
        return False

    async def detect(self, answer: UUID, served: Served, frame: FrameCaptured, data: bytes) -> FrameResult:
        """See :class:`Guarding`."""
        del answer
        return await served.pipeline.detect(data, frame.options, frame.camera)

    async def prove_apart(self, served: Served) -> None:
        """See :class:`Guarding`."""

    async def before_load(self, card: Path | None, *, busy: bool) -> None:
        """See :class:`Guarding`."""

    def note_load(self, card: Path | None) -> Callable[[], None]:
        """See :class:`Guarding`."""
        del card
        return lambda: None

    def look(self) -> None:
        """See :class:`Guarding`."""

    def accuse(self) -> None:
        """See :class:`Guarding`."""

    async def close(self) -> None:
        """See :class:`Guarding`."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Implements :class:`Guarding`.

    ``request``: how the worker's own model is loaded; others are loaded alike, from their own card.
    """

    suspects: Suspects
    request: LoadRequest
    max_pixels: int
    apart: Apart = field(default_factory=Apart)

    def suspects_frame(self, answer: UUID) -> bool:
        """See :class:`Guarding`."""
        return answer in self.suspects

    async def detect(self, answer: UUID, served: Served, frame: FrameCaptured, data: bytes) -> FrameResult:
        """See :class:`Guarding`."""
        if answer in self.suspects:
            return await self._tried_apart(answer, served, frame, data)
        slot = self.suspects.enter(answer)
        try:
            result = await served.pipeline.detect(data, frame.options, frame.camera)
            self.suspects.absolve(answer)
            return result
        finally:
            self.suspects.leave(slot)

    async def _tried_apart(self, answer: UUID, served: Served, frame: FrameCaptured, data: bytes) -> FrameResult:
        """Find what a suspect shows. It stays one while a trial only says that it could not be tried: the model did not
        load beside the one that serves, say. Were it given to this process then, it would crash it once more.
        """
        try:
            result = await self.apart.detect(self._trial(served, data, frame.options, frame.camera))
        except Exception as error:
            if fails_by_type(error):
                self.suspects.clear(answer)
            raise
        self.suspects.clear(answer)
        return result

    async def prove_apart(self, served: Served) -> None:
        """See :class:`Guarding`."""
        await self.apart.detect(self._trial(served, PROOF, DetectOptions(), None))

    def _trial(self, served: Served, data: bytes, asked: DetectOptions, camera: CameraGeometry | None) -> Trial:
        card = self.request.card if served.card is None else served.card
        # What is measured beside a busy model would be wrong.
        request = replace(self.request, card=card, measure_s=0.0)
        return Trial(request, served.model.engine.name, data, asked, camera, self.max_pixels)

    async def before_load(self, card: Path | None, *, busy: bool) -> None:
        """See :class:`Guarding`.

        Without that a model that crashes its engine would take every worker with it that follows its activation, and
        again at each start. One whose trial is ended from outside stays a suspect.
        """
        mark = load_mark(card)
        if mark not in self.suspects:
            return
        measure_s = 0.0 if busy else self.request.measure_s
        await self.apart.load(replace(self.request, card=card or self.request.card, measure_s=measure_s))
        self.suspects.clear(mark)

    def note_load(self, card: Path | None) -> Callable[[], None]:
        """See :class:`Guarding`."""
        slot = self.suspects.enter(load_mark(card))
        return lambda: self.suspects.leave(slot)

    def look(self) -> None:
        """See :class:`Guarding`."""
        self.suspects.look()

    def accuse(self) -> None:
        """See :class:`Guarding`."""
        self.suspects.accuse()

    async def close(self) -> None:
        """See :class:`Guarding`."""
        await self.apart.close()
        self.suspects.close()


def load_mark(card: Path | None) -> UUID:
    """What stands for loading the model of ``card`` among the answers to frames."""
    return uuid5(_LOADS, str(card))
