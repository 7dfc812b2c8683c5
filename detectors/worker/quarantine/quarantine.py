"""Notes which frames and models the engines work on, and tries suspects in a separate process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol
from uuid import UUID, uuid5

from detectors.model.loading import LoadRequest
from detectors.worker.pipeline.pipeline import FrameResult
from detectors.worker.pipeline.ranked_queue import Rank
from detectors.worker.pipeline.serving import LoadedModel
from detectors.worker.quarantine.proof_image import PROOF_IMAGE
from detectors.worker.quarantine.suspects import Suspects
from detectors.worker.quarantine.trial_child import FrameTrial
from detectors.worker.quarantine.trial_process import TrialProcess
from infra.failure.verdicts import fails_by_type
from schemas.events import DetectOptions, FrameCaptured
from schemas.geometry import CameraGeometry

_LOADS = UUID("0f6f2b0c-5d4e-4f0a-9f0e-6f1f5c1b7a52")


class QuarantinePort(Protocol):
    """Runs frames and loads through the engines, but tries suspects in a separate process."""

    def is_suspect(self, event_id: UUID) -> bool:
        """Return whether the frame of event ``event_id`` was in an engine when a worker crashed or hung."""
        ...

    async def detect(
        self, event_id: UUID, loaded: LoadedModel, frame: FrameCaptured, data: bytes, rank: Rank = Rank.LIVE
    ) -> FrameResult:
        """Detect on ``frame``, whose encoded bytes are ``data``; ``event_id`` is the id of its detections event.

        ``rank``: whether frames overtake it.

        Raises the pipeline's errors; for a suspect also EngineCrashError when it crashes another engine, too, and
        EngineKilledError when its trial was ended from outside.
        """
        ...

    async def try_proof_image(self, loaded: LoadedModel) -> None:
        """Detect on a known good image in the process for trials. Raises the same errors as ``detect``."""
        ...

    async def try_suspect_load(self, card: Path | None, *, busy: bool) -> None:
        """Load the model of ``card`` in a separate process, if it was being loaded when a worker crashed.

        ``busy``: another model is used at the same time. Raises ModelLoadError when the model crashes or does not load;
        TrialKilledError when the trial was ended from outside.
        """
        ...

    def record_load(self, card: Path | None) -> Callable[[], None]:
        """Note that the model of ``card`` is being loaded, until the returned function is called."""
        ...

    def find_suspects(self) -> None:
        """Read the notes of other workers that crashed."""
        ...

    def suspect_all_running(self) -> None:
        """Make suspects of everything that is in the engines now, because one of them hangs."""
        ...

    async def close(self) -> None:
        """End running trials, and remove this worker's notes."""
        ...


class NoQuarantine:
    """Implements :class:`QuarantinePort` without any protection: a frame that crashes an engine crashes each worker."""

    def is_suspect(self, event_id: UUID) -> bool:
        """See :class:`QuarantinePort`."""
        del event_id
        return False

    async def detect(
        self, event_id: UUID, loaded: LoadedModel, frame: FrameCaptured, data: bytes, rank: Rank = Rank.LIVE
    ) -> FrameResult:
        """See :class:`QuarantinePort`."""
        del event_id
        return await loaded.pipeline.detect(data, frame.options, frame.camera, rank=rank)

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
    """Implements :class:`QuarantinePort` with notes in a folder and a process for trials."""

    suspects: Suspects
    request: LoadRequest
    """How the worker's own model is loaded; other models are loaded in the same way, from their own cards."""
    max_pixels: int
    trial_process: TrialProcess = field(default_factory=TrialProcess)

    def is_suspect(self, event_id: UUID) -> bool:
        """See :class:`QuarantinePort`."""
        return event_id in self.suspects

    async def detect(
        self, event_id: UUID, loaded: LoadedModel, frame: FrameCaptured, data: bytes, rank: Rank = Rank.LIVE
    ) -> FrameResult:
        """See :class:`QuarantinePort`."""
        if event_id in self.suspects:
            return await self._detect_separately(event_id, loaded, frame, data)
        slot = self.suspects.add(event_id)
        try:
            result = await loaded.pipeline.detect(data, frame.options, frame.camera, rank=rank)
            self.suspects.mark_innocent(event_id)
            return result
        finally:
            self.suspects.remove(slot)

    async def _detect_separately(
        self, event_id: UUID, loaded: LoadedModel, frame: FrameCaptured, data: bytes
    ) -> FrameResult:
        """Detect on a suspect in the process for trials.

        It stays a suspect when the trial could not be made, for example because the model did not load a second time:
        in this process it might crash the worker again.
        """
        try:
            result = await self.trial_process.detect(self._trial(loaded, data, frame.options, frame.camera))
        except Exception as error:
            if fails_by_type(error):
                self.suspects.clear(event_id)
            raise
        self.suspects.clear(event_id)
        return result

    async def try_proof_image(self, loaded: LoadedModel) -> None:
        """See :class:`QuarantinePort`."""
        await self.trial_process.detect(self._trial(loaded, PROOF_IMAGE, DetectOptions(), None))

    def _trial(
        self, loaded: LoadedModel, data: bytes, asked: DetectOptions, camera: CameraGeometry | None
    ) -> FrameTrial:
        card = self.request.card if loaded.card is None else loaded.card
        # A measurement next to a busy model would be wrong.
        request = replace(self.request, card=card, measure_s=0.0)
        return FrameTrial(request, loaded.model.engine.name, data, asked, camera, self.max_pixels)

    async def try_suspect_load(self, card: Path | None, *, busy: bool) -> None:
        """See :class:`QuarantinePort`.

        Without this, a model that crashes its engine would end every worker that follows its activation, and again at
        each start. A model whose trial is ended from outside stays a suspect.
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
    """Return the id under which loading the model of ``card`` is noted, among the ids of detections events."""
    return uuid5(_LOADS, str(card))
