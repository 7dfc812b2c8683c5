"""Frames and models that crash an engine are found: noted while under way, tried apart when suspect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol
from uuid import UUID, uuid5

from detectors.model.loading import LoadRequest
from detectors.worker.pipeline.pipeline import FrameResult
from detectors.worker.pipeline.serving import LoadedModel
from detectors.worker.quarantine.proof_image import PROOF_IMAGE
from detectors.worker.quarantine.suspects import Suspects
from detectors.worker.quarantine.trial_process import FrameTrial, TrialProcess
from infra.failure.verdicts import fails_by_type
from schemas.events import DetectOptions, FrameCaptured
from schemas.geometry import CameraGeometry

_LOADS = UUID("0f6f2b0c-5d4e-4f0a-9f0e-6f1f5c1b7a52")


class QuarantinePort(Protocol):
    """Gives frames and models to the engines; what may crash them is tried in a process of its own."""

    def is_suspect(self, answer: UUID) -> bool:
        """Whether the frame with ``answer`` was under way when a worker crashed, so that it is tried apart."""
        ...

    async def detect(self, answer: UUID, loaded: LoadedModel, frame: FrameCaptured, data: bytes) -> FrameResult:
        """Find what ``frame`` with the encoded bytes ``data`` shows to ``loaded``; ``answer``: the id of its answer.

        Raises what the pipeline raises; for a suspect also EngineCrashError when it crashes another engine, too, and
        EngineKilledError when its trial was ended from outside.
        """
        ...

    async def try_proof_image(self, loaded: LoadedModel) -> None:
        """Try a known good picture where suspects are tried. Raises what that raises."""
        ...

    async def try_suspect_load(self, card: Path | None, *, busy: bool) -> None:
        """Try apart whether the model of ``card`` loads, if it was being loaded when a worker crashed.

        Raises ModelLoadError when it crashes, or does not load; TrialKilledError when that could not be found out.
        """
        ...

    def record_load(self, card: Path | None) -> Callable[[], None]:
        """The model of ``card`` is being loaded, until what this returns is called."""
        ...

    def find_suspects(self) -> None:
        """Find what other workers have left that crashed."""
        ...

    def suspect_all_running(self) -> None:
        """Make suspects of all that the engines have now, because one hangs."""
        ...

    async def close(self) -> None:
        """End what is being tried, and leave nothing behind."""
        ...


class NoQuarantine:
    """Guards nothing: what crashes an engine crashes every worker it comes to."""

    def is_suspect(self, answer: UUID) -> bool:
        """See :class:`QuarantinePort`."""
        del answer
        return False

    async def detect(self, answer: UUID, loaded: LoadedModel, frame: FrameCaptured, data: bytes) -> FrameResult:
        """See :class:`QuarantinePort`."""
        del answer
        return await loaded.pipeline.detect(data, frame.options, frame.camera)

    async def try_proof_image(self, loaded: LoadedModel) -> None:
        """See :class:`QuarantinePort`."""

    async def try_suspect_load(self, card: Path | None, *, busy: bool) -> None:
        """See :class:`QuarantinePort`."""

    def record_load(self, card: Path | None) -> Callable[[], None]:
        """See :class:`QuarantinePort`."""
        del card
        return lambda: None

    def find_suspects(self) -> None:
        """See :class:`QuarantinePort`."""

    def suspect_all_running(self) -> None:
        """See :class:`QuarantinePort`."""

    async def close(self) -> None:
        """See :class:`QuarantinePort`."""


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Implements :class:`QuarantinePort`.

    ``request``: how the worker's own model is loaded; others are loaded alike, from their own card.
    """

    suspects: Suspects
    request: LoadRequest
    max_pixels: int
    trial_process: TrialProcess = field(default_factory=TrialProcess)

    def is_suspect(self, answer: UUID) -> bool:
        """See :class:`QuarantinePort`."""
        return answer in self.suspects

    async def detect(self, answer: UUID, loaded: LoadedModel, frame: FrameCaptured, data: bytes) -> FrameResult:
        """See :class:`QuarantinePort`."""
        if answer in self.suspects:
            return await self._detect_separately(answer, loaded, frame, data)
        slot = self.suspects.add(answer)
        try:
            result = await loaded.pipeline.detect(data, frame.options, frame.camera)
            self.suspects.mark_innocent(answer)
            return result
        finally:
            self.suspects.remove(slot)

    async def _detect_separately(
        self, answer: UUID, loaded: LoadedModel, frame: FrameCaptured, data: bytes
    ) -> FrameResult:
        """Find what a suspect shows. It stays one while a trial only says that it could not be tried: the model did not
        load beside the one that serves, say. Were it given to this process then, it would crash it once more.
        """
        try:
            result = await self.trial_process.detect(self._trial(loaded, data, frame.options, frame.camera))
        except Exception as error:
            if fails_by_type(error):
                self.suspects.clear(answer)
            raise
        self.suspects.clear(answer)
        return result

    async def try_proof_image(self, loaded: LoadedModel) -> None:
        """See :class:`QuarantinePort`."""
        await self.trial_process.detect(self._trial(loaded, PROOF_IMAGE, DetectOptions(), None))

    def _trial(
        self, loaded: LoadedModel, data: bytes, asked: DetectOptions, camera: CameraGeometry | None
    ) -> FrameTrial:
        card = self.request.card if loaded.card is None else loaded.card
        # What is measured beside a busy model would be wrong.
        request = replace(self.request, card=card, measure_s=0.0)
        return FrameTrial(request, loaded.model.engine.name, data, asked, camera, self.max_pixels)

    async def try_suspect_load(self, card: Path | None, *, busy: bool) -> None:
        """See :class:`QuarantinePort`.

        Without that a model that crashes its engine would take every worker with it that follows its activation, and
        again at each start. One whose trial is ended from outside stays a suspect.
        """
        mark = load_mark(card)
        if mark not in self.suspects:
            return
        measure_s = 0.0 if busy else self.request.measure_s
        await self.trial_process.load(replace(self.request, card=card or self.request.card, measure_s=measure_s))
        self.suspects.clear(mark)

    def record_load(self, card: Path | None) -> Callable[[], None]:
        """See :class:`QuarantinePort`."""
        slot = self.suspects.add(load_mark(card))
        return lambda: self.suspects.remove(slot)

    def find_suspects(self) -> None:
        """See :class:`QuarantinePort`."""
        self.suspects.read_notes()

    def suspect_all_running(self) -> None:
        """See :class:`QuarantinePort`."""
        self.suspects.suspect_all_running()

    async def close(self) -> None:
        """See :class:`QuarantinePort`."""
        await self.trial_process.close()
        self.suspects.close()


def load_mark(card: Path | None) -> UUID:
    """What stands for loading the model of ``card`` among the answers to frames."""
    return uuid5(_LOADS, str(card))
