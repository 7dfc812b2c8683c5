"""Which model takes which frame, and that none is closed while it has one to answer."""

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
    """Takes down the order in which models are closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.closed: list[str] = []

    def served(self, version: str) -> LoadedModel:
        card = write_model(self.folder / version, version=version)
        model = load_model(LoadRequest(card, "onnxruntime", 1))
        close = model.close

        def told() -> None:
            self.closed.append(version)
            close()

        model.close = told  # type: ignore[method-assign]  # to see it, not to change it
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
    old, new = closing.served("1.0.0"), closing.served("2.0.0")
    roster = Roster(old)
    told = asyncio.Event()
    roster.call_when_drained(told.set)
    under_way = [roster.choose(frame()) for _ in range(2)]
    for served in under_way:
        roster.acquire(served)
    roster.set_models(new, None, None)
    assert roster.choose(frame()) is new
    roster.release(under_way[0])
    await asyncio.sleep(0.05)
    assert roster.draining == [old]
    assert closing.closed == []
    roster.release(under_way[1])
    await asyncio.wait_for(told.wait(), 10)
    assert (roster.draining, closing.closed) == ([], ["1.0.0"])
    roster.release(new)
    await roster.close()
    assert closing.closed == ["1.0.0", "2.0.0"]


async def test_promoted_canary_stays_loaded_and_ended_canary_is_closed(closing: Closing) -> None:
    stable, trial, other = (closing.served(version) for version in ("1.0.0", "2.0.0", "3.0.0"))
    roster = Roster(stable)
    rule = Canary(model=V2, devices=["drone-1"])
    roster.set_models(stable, trial, rule)
    assert roster.choose(frame("drone-1")) is trial
    assert roster.choose(frame("drone-2")) is stable
    roster.release(trial)
    roster.release(stable)
    roster.set_models(trial, None, None)
    assert roster.choose(frame("drone-2")) is trial
    roster.release(trial)
    roster.set_models(trial, other, rule)
    roster.set_models(trial, None, None)
    await roster.close()
    assert sorted(closing.closed) == ["1.0.0", "2.0.0", "3.0.0"]


async def test_is_version_compares_name_version_and_sha256(closing: Closing) -> None:
    served = closing.served("1.0.0")
    assert served.is_version(V1, None)
    assert served.is_version(V1, served.model.card.sha256)
    assert not served.is_version(V1, "0" * 64)
    assert not served.is_version(V2, None)
    assert not served.is_version(None, None), "it came from the store, not from the worker's own setting"
    served.close()
