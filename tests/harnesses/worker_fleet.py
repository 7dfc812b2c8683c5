"""Runs workers in the test's process that models are rolled out to, and reads their detections events."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from detectors.metrics import MODEL_SWAPS
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Model
from detectors.settings import DetectorSettings
from detectors.worker.rollout.activation import (
    ActivationRequest,
    activate_model,
    rollout_progress,
    start_canary,
)
from detectors.worker.rollout.model_loader import ModelSource
from detectors.worker.rollout.models_topic import ModelsState, activation_record, availability_key, read_models
from detectors.worker.worker import WorkerParts
from schemas.event_base import ModelRef
from schemas.events import DetectionsMade, FrameCaptured
from schemas.model_events import Canary, ModelActivated, WorkerAvailability
from schemas.timestamps import utc_now
from standgale.testing.graphs import GraphSpec, write_model
from tests.harnesses.model_versions import NAME, CopyStore, write_version
from tests.harnesses.worker_site import WorkerSite

SCORES = {"1.0.0": 1.0, "2.0.0": 0.8, "3.0.0": 0.6}


TIMEOUT_S = 30.0


ORDER = ActivationRequest("default", "test")


def ref(version: str) -> ModelRef:
    return ModelRef(name=NAME, version=version)


@dataclass
class Fleet:
    """Runs workers whose setting names version 1.0.0, with a store of the other versions."""

    site: WorkerSite
    store: CopyStore
    folder: Path
    models: Path
    current: ModelActivated | None = None

    def parts(self, name: str, **changes: object) -> WorkerParts:
        own = self.models / NAME / "1.0.0" / "model.yaml"
        source = ModelSource(self.store, self.folder / f"cache-{name}", self.load)
        given: dict[str, object] = {
            "load_model": partial(self.load, own),
            "models": source,
            "instance_id": name,
            "settings": DetectorSettings(report_interval_s=0.5),
        }
        return self.site.parts(**(given | changes))

    def load(self, card: Path, busy: bool = False) -> Model:
        return load_model(LoadRequest(card, "onnxruntime", 1))

    async def publish_activation(self, activation: ModelActivated) -> ModelActivated:
        await self.site.publish_records(activation_record(activation))
        self.current = activation
        return activation

    async def activate(self, version: str) -> ModelActivated:
        return await self.publish_activation(activate_model(ORDER, self.current, ref(version), None))

    async def start_canary(self, version: str, share: float = 0, devices: list[str] | None = None) -> ModelActivated:
        canary = Canary(model=ref(version), share=share, devices=devices or [])
        return await self.publish_activation(start_canary(ORDER, self.current, canary))

    async def state(self) -> ModelsState:
        reader = await self.site.broker.reader()
        state = await read_models(reader)
        await reader.close()
        return state

    async def report(self, worker: str) -> WorkerAvailability:
        return (await self.state()).workers[availability_key("default", worker)]

    async def wait_for_outcome(self, wanted: str, activation: ModelActivated, workers: int = 1) -> None:
        """Wait until all ``workers`` have finished ``activation`` with the outcome ``wanted``."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            found = rollout_progress(await self.state(), activation, utc_now())
            if found.outcome == wanted and len(found.ready) + len(found.refused) >= workers:
                return
            assert time.monotonic() < deadline, f"{found} after {TIMEOUT_S} s, {wanted} was wanted"
            await asyncio.sleep(0.05)

    async def wait_for_report(self, worker: str, wanted: Callable[[WorkerAvailability], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not wanted(found := await self.report(worker)):
            assert time.monotonic() < deadline, f"{found} after {TIMEOUT_S} s"
            await asyncio.sleep(0.05)

    async def check(self, frames: list[FrameCaptured]) -> list[DetectionsMade]:
        """Assert that each of ``frames`` is processed once, in order, by the version that its event names."""
        events = await self.site.detections()
        assert Counter(event.frame_id for event in events) == Counter(frame.frame_id for frame in frames)
        assert await self.site.dead_letters() == []
        for device in {frame.device_id for frame in frames}:
            wanted = [frame.frame_id for frame in frames if frame.device_id == device]
            assert [event.frame_id for event in events if event.device_id == device] == wanted
        for event in events:
            check_version(event)
        return events


def check_version(event: DetectionsMade) -> None:
    """Assert that the score is that of the named version; every version's graph gives a different one."""
    (found,) = event.detections
    assert found.confidence == pytest.approx(0.9 * SCORES[event.model.version], abs=1e-5), event.model


def versions(events: list[DetectionsMade]) -> Counter[str]:
    return Counter(event.model.version for event in events)


def swaps(result: str) -> float:
    (family,) = MODEL_SWAPS.collect()
    return sum(
        sample.value for sample in family.samples if sample.labels.get("result") == result and "_total" in sample.name
    )


async def fleet_in(folder: Path, site: WorkerSite) -> Fleet:
    models = folder / "models"
    for version, factor in SCORES.items():
        write_version(models, version, factor)
    return Fleet(site, CopyStore(models), folder, models)


def break_version(fleet: Fleet, fault: str) -> str | None:
    """Break version 3.0.0 in the store; return the checksum to activate it with."""
    folder = fleet.models / NAME / "3.0.0"
    if fault == "checksum":
        (folder / "model.onnx").write_bytes((fleet.models / NAME / "2.0.0" / "model.onnx").read_bytes())
    elif fault == "corrupt":
        write_version(fleet.models, "3.0.0", 0.6)
        broken = b"\x08\x08 this is no model" * 50
        (folder / "model.onnx").write_bytes(broken)
        card = (folder / "model.yaml").read_text().splitlines()
        named = [f"sha256: {sha256(broken).hexdigest()}" if line.startswith("sha256:") else line for line in card]
        (folder / "model.yaml").write_text("\n".join(named))
    elif fault in ("nan", "extra_class"):
        write_model(folder, GraphSpec(fault=fault), version="3.0.0")  # type: ignore[arg-type]
    elif fault == "missing":
        folder.rename(fleet.folder / "moved")
    elif fault == "other_name":
        text = (folder / "model.yaml").read_text()
        (folder / "model.yaml").write_text(text.replace(f"name: {NAME}", "name: other"))
    return "0" * 64 if fault == "changed" else None


class SlowLoads:
    """Loads models when a test lets it continue, and records which were closed."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.began, self.go_on = threading.Event(), threading.Event()
        self.closed: list[str] = []

    def load(self, card: Path, busy: bool = False) -> Model:
        self.began.set()
        assert self.go_on.wait(TIMEOUT_S)
        model = self._fleet.load(card)
        close = model.close

        def record_close() -> None:
            self.closed.append(model.card.version)
            close()

        model.close = record_close  # type: ignore[method-assign]  # to see it, not to change it
        return model
