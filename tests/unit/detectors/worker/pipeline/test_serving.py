"""Checks which model a frame gets, and that no model is closed before its last frame is finished."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from detectors.model.loading import LoadRequest, load_model
from detectors.worker.pipeline.pipeline import InferencePipeline
from detectors.worker.pipeline.serving import LoadedModel, Roster, frame_fraction, is_canary_frame
from schemas.event_base import ModelRef
from schemas.events import FrameCaptured, ImageRef
from schemas.model_events import Canary
from standgale.testing.factories import frame_captured
from standgale.testing.graphs import write_model

V1, V2 = ModelRef(name="rectangles", version="1.0.0"), ModelRef(name="rectangles", version="2.0.0")
NOW = datetime(2026, 5, 1, tzinfo=UTC)
IMAGE = ImageRef(uri="file:///x", sha256="a" * 64, size_bytes=1, media_type="image/png", width=10, height=10)


def frame(device: str = "drone") -> FrameCaptured:
    return frame_captured(device=device, frame_id=uuid4())


class Closing:
    """Loads models and records the order in which they are closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.closed: list[str] = []

    def load(self, version: str) -> LoadedModel:
        card = write_model(self.folder / version, version=version)
        model = load_model(LoadRequest(card, "onnxruntime", 1))
        close = model.close

        def record_close() -> None:
            self.closed.append(version)
            close()

        model.close = record_close  # type: ignore[method-assign]  # to see it, not to change it
        return LoadedModel(model, InferencePipeline(model, host_threads=1, max_pixels=10**6), card)


@pytest.fixture
def closing(tmp_path: Path) -> Closing:
    return Closing(tmp_path)


def test_canary_share_takes_that_many_frames_and_larger_share_includes_them() -> None:
    frames = [frame() for _ in range(4_000)]
    few, many = (
        {one.frame_id for one in frames if is_canary_frame(Canary(model=V2, share=share), one)} for share in (0.1, 0.3)
    )
    # Four standard deviations of 4,000 draws.
    assert abs(len(few) - 400) < 76
    assert abs(len(many) - 1200) < 116
    assert few < many
    assert all(not is_canary_frame(Canary(model=V2, share=0.0), one) for one in frames)
    assert all(is_canary_frame(Canary(model=V2, share=1.0), one) for one in frames)


def test_canary_share_of_another_version_takes_other_frames() -> None:
    frames = [frame().frame_id for _ in range(2_000)]
    both = sum(frame_fraction(one, V1) < 0.5 and frame_fraction(one, V2) < 0.5 for one in frames)
    assert 400 < both < 600


def test_frames_of_canary_devices_always_go_to_the_canary() -> None:
    canary = Canary(model=V2, devices=["drone-3"])
    assert is_canary_frame(canary, frame("drone-3"))
    assert not is_canary_frame(canary, frame("drone-33"))


async def test_replaced_model_is_closed_after_its_last_frame(closing: Closing) -> None:
    old, new = closing.load("1.0.0"), closing.load("2.0.0")
    roster = Roster(old)
    drained = asyncio.Event()
    roster.call_when_drained(drained.set)
    in_progress = [roster.choose(frame()) for _ in range(2)]
    for loaded in in_progress:
        roster.acquire(loaded)
    roster.set_models(new, None, None)
    assert roster.choose(frame()) is new
    roster.release(in_progress[0])
    await asyncio.sleep(0.05)
    assert roster.draining == [old]
    assert closing.closed == []
    roster.release(in_progress[1])
    await asyncio.wait_for(drained.wait(), 10)
    assert (roster.draining, closing.closed) == ([], ["1.0.0"])
    roster.release(new)
    await roster.close()
    assert closing.closed == ["1.0.0", "2.0.0"]


async def test_promoted_canary_stays_loaded_and_ended_canary_is_closed(closing: Closing) -> None:
    stable, canary, other = (closing.load(version) for version in ("1.0.0", "2.0.0", "3.0.0"))
    roster = Roster(stable)
    rule = Canary(model=V2, devices=["drone-1"])
    roster.set_models(stable, canary, rule)
    assert roster.choose(frame("drone-1")) is canary
    assert roster.choose(frame("drone-2")) is stable
    roster.release(canary)
    roster.release(stable)
    roster.set_models(canary, None, None)
    assert roster.choose(frame("drone-2")) is canary
    roster.release(canary)
    roster.set_models(canary, other, rule)
    roster.set_models(canary, None, None)
    await roster.close()
    assert sorted(closing.closed) == ["1.0.0", "2.0.0", "3.0.0"]


async def test_is_version_compares_name_version_and_sha256(closing: Closing) -> None:
    loaded = closing.load("1.0.0")
    assert loaded.is_version(V1, None)
    assert loaded.is_version(V1, loaded.model.card.sha256)
    assert not loaded.is_version(V1, "0" * 64)
    assert not loaded.is_version(V2, None)
    assert not loaded.is_version(None, None), "it came from the store, not from the worker's own setting"
    loaded.close()
