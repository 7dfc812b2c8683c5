"""Checks which engine runs a single tile, and that both give the same outputs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pytest

from detectors.engines.lone_tiles import LoneTileEngine, have_same_outputs
from detectors.errors import InferenceError
from detectors.geometry.arrays import ImageArray, Outputs

TIMEOUT_S = 10.0


@dataclass(eq=False)
class Noting:
    """An engine that notes its runs, and lets each of them wait for ``go_on``."""

    name: str
    reason: str = "for a test"
    batch_size: int = 2
    parallel: int = 2
    add: float = 0.0
    closed: bool = False
    runs: list[int] = field(default_factory=list)
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    go_on: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.go_on.set()

    def run(self, tiles: ImageArray) -> Outputs:
        self.runs.append(len(tiles))
        self.started.release()
        assert self.go_on.wait(TIMEOUT_S)
        return (tiles.reshape(len(tiles), -1).sum(axis=1, dtype=np.float32) + np.float32(self.add),)

    def close(self) -> None:
        self.closed = True


def tiles(number: int) -> ImageArray:
    return np.arange(number * 12, dtype=np.uint8).reshape(number, 2, 2, 3)


@pytest.fixture
def first() -> Noting:
    return Noting("openvino")


@pytest.fixture
def lone() -> Noting:
    return Noting("openvino, one stream", parallel=1)


def test_single_tiles_run_on_the_lone_engine_and_others_on_the_first(first: Noting, lone: Noting) -> None:
    engine = LoneTileEngine(first, lone)
    for number in (1, 2, 1, 4):
        (output,) = engine.run(tiles(number))
        assert len(output) == number
    assert (first.runs, lone.runs) == ([2, 4], [1, 1])
    assert (engine.name, engine.batch_size, engine.parallel) == ("openvino", 2, 2)
    assert engine.reason.startswith("for a test; a tile alone")
    engine.close()
    assert first.closed
    assert lone.closed


def test_single_tile_runs_on_the_first_engine_while_that_is_busy(first: Noting, lone: Noting) -> None:
    engine = LoneTileEngine(first, lone)
    first.go_on.clear()
    with ThreadPoolExecutor(2) as pool:
        pair = pool.submit(engine.run, tiles(2))
        assert first.started.acquire(timeout=TIMEOUT_S)
        single = pool.submit(engine.run, tiles(1))
        assert first.started.acquire(timeout=TIMEOUT_S)
        first.go_on.set()
        pair.result(TIMEOUT_S)
        single.result(TIMEOUT_S)
    engine.run(tiles(1))
    assert (first.runs, lone.runs) == ([2, 1], [1])


def test_two_single_tiles_run_one_after_the_other(first: Noting, lone: Noting) -> None:
    engine = LoneTileEngine(first, lone)
    lone.go_on.clear()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(engine.run, tiles(1)) for _ in range(2)]
        assert lone.started.acquire(timeout=TIMEOUT_S)
        assert not lone.started.acquire(timeout=0.05)
        lone.go_on.set()
        for each in both:
            each.result(TIMEOUT_S)
    assert (first.runs, lone.runs) == ([], [1, 1])


def test_first_engine_that_failed_is_not_busy(first: Noting, lone: Noting, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: ImageArray) -> Outputs:
        raise InferenceError("no memory")

    monkeypatch.setattr(first, "run", fail)
    engine = LoneTileEngine(first, lone)
    with pytest.raises(InferenceError):
        engine.run(tiles(2))
    engine.run(tiles(1))
    assert lone.runs == [1]


def test_lone_engine_is_compared_tile_by_tile(first: Noting, lone: Noting) -> None:
    assert have_same_outputs(first, lone, tiles(3))
    assert (first.runs, lone.runs) == ([1, 1, 1], [1, 1, 1])
    lone.add = 1e-3
    assert not have_same_outputs(first, lone, tiles(3))
