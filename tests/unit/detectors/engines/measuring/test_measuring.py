"""The fastest way is chosen by measuring in turns; clock and engines are moved by the tests."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pytest

from detectors.engines.measuring.measurements import EngineMeasurements
from detectors.engines.measuring.measuring import WayMeasurer, clearly_faster
from detectors.engines.measuring.sample_tiles import sample_tiles
from detectors.engines.port import Engine, Way
from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import ImageArray, Outputs
from tests.factories import ManualClock

TILES = sample_tiles(64, 64, 3)


PREFERRED, FAST, WRONG, BROKEN = (
    Way("one", "f32"),
    Way("one", "bf16"),
    Way("one", "f16"),
    Way("two", "f32"),
)


RELATIVE = Way("one", "bf16", 1)


@dataclass
class Paced:
    """An engine that takes a known time for a tile; ``shift`` is added to its outputs, ``noise`` slows its runs.

    noise: by what factor each run is slower, in order; runs after these are not slowed. works: runs until it fails.
    """

    seconds_per_tile: float
    shift: float = 0.0
    fails: bool = False
    name: str = "paced"
    reason: str = "for a test"
    batch_size: int = 2
    parallel: int = 1
    closed: bool = False
    noise: list[float] = field(default_factory=list)
    works: int | None = None
    clock: ManualClock = field(default_factory=ManualClock)
    runs: int = 0

    def run(self, tiles: ImageArray) -> Outputs:
        self.runs += 1
        if self.fails or (self.works is not None and self.runs > self.works):
            raise InferenceError("it always fails")
        slower = self.noise.pop(0) if self.noise else 1.0
        self.clock.now += self.seconds_per_tile * slower * len(tiles)
        return (np.full((len(tiles), 1), 0.5 + self.shift, np.float32),)

    def close(self) -> None:
        self.closed = True


def differs(exact: Outputs, other: Outputs) -> str | None:
    return "too far" if np.abs(exact[0] - other[0]).max() > 0.1 else None


def tuned_over(
    engines: dict[Way, Paced], seconds: float = 1.0, load_s: float = 0.0
) -> tuple[Engine, EngineMeasurements]:
    """``load_s``: how long each engine takes to be loaded."""
    clock = ManualClock()

    def load(way: Way) -> Engine:
        clock.now += load_s
        engines[way].clock = clock
        return engines[way]

    return WayMeasurer(load, TILES, differs, seconds, clock).measure(list(engines))


def test_a_clear_win_leaves_the_preferred_way_and_the_others_are_closed() -> None:
    engines = {PREFERRED: Paced(0.01), FAST: Paced(0.004)}
    engine, tuned = tuned_over(engines)
    assert (engine, tuned.way) == (engines[FAST], FAST)
    assert (engines[PREFERRED].closed, engines[FAST].closed) == (True, False)
    rates = {one.way: one.tiles_per_s or 0 for one in tuned.ways}
    assert rates == pytest.approx({PREFERRED: 100, FAST: 250})
    assert tuned.sentence() == f"{FAST}: the fastest of 2 measured ways (250.0 tiles/s); next one f32 100.0"


def test_measuring_slow_loads_still_compare_the_fastest_ways() -> None:
    engines = {PREFERRED: Paced(0.01), FAST: Paced(0.006), BROKEN: Paced(0.01), RELATIVE: Paced(0.001)}
    _, tuned = tuned_over(engines, seconds=1.0, load_s=20.0)
    assert tuned.way == FAST
    assert tuned.sentence().endswith("; 1 more not measured, no time was left")
    assert engines[RELATIVE].runs == 0
    # One run that is compared, then a first round and turns of 13 or more runs each, enough to be trusted.
    assert engines[FAST].runs > 1 + 4 * 13


def test_turns_have_their_share_of_the_time_however_long_loading_took() -> None:
    engines = {PREFERRED: Paced(0.01), FAST: Paced(0.009)}
    _, tuned = tuned_over(engines, seconds=10.0, load_s=20.0)
    assert tuned.way == FAST
    # Four tenths of the time are 12 turns of both, each of 9 runs or more.
    assert engines[FAST].runs > 100


def test_a_first_round_that_met_noise_does_not_put_the_fastest_out() -> None:
    engines = {PREFERRED: Paced(0.01), FAST: Paced(0.005, noise=[4.0] * 7)}
    _, tuned = tuned_over(engines, load_s=5.0)
    assert tuned.way == FAST


def test_an_engine_that_fails_when_its_turn_comes_is_out_and_the_others_go_on() -> None:
    engines = {PREFERRED: Paced(0.01), FAST: Paced(0.004, works=40)}
    _, tuned = tuned_over(engines)
    assert tuned.way == PREFERRED
    assert engines[FAST].closed
    assert (
        tuned.sentence()
        == "one f32: the only measured way (100.0 tiles/s); one bf16 cannot run the model: it always fails"
    )


def test_measuring_closes_rejected_engines_while_others_are_measured() -> None:
    """Every engine holds the weights once more."""
    open_at_the_end: list[bool] = []
    slow = Paced(0.05)

    class Watching(Paced):
        def run(self, tiles: ImageArray) -> Outputs:
            open_at_the_end.append(not slow.closed)
            return super().run(tiles)

    tuned_over({PREFERRED: Watching(0.005), FAST: Paced(0.005), BROKEN: slow})
    assert open_at_the_end[0]
    assert not open_at_the_end[-1]


@pytest.mark.parametrize(
    ("ours", "theirs", "wins"),
    [
        ([103.0, 104.0, 103.0], [100.0, 100.0, 100.0], False),
        ([106.0, 107.0, 106.0], [100.0, 100.0, 100.0], True),
        # While the machine was busy both were slow; the order of the turns tells them apart.
        ([106.0, 53.0, 106.0, 54.0], [100.0, 50.0, 100.0, 50.0], True),
        ([103.0, 51.0, 103.0, 180.0], [100.0, 50.0, 100.0, 50.0], False),
        ([180.0, 110.0, 90.0, 80.0, 150.0], [100.0] * 5, False),
    ],
)
def test_clearly_faster_needs_a_large_and_constant_difference(
    ours: list[float], theirs: list[float], wins: bool
) -> None:
    assert clearly_faster(ours, theirs) is wins


def test_measuring_rejects_ways_that_fail_or_compute_different_outputs() -> None:
    engines = {PREFERRED: Paced(0.01), WRONG: Paced(0.001, shift=0.3), BROKEN: Paced(0.001, fails=True)}
    _, tuned = tuned_over(engines)
    notes = {one.way: one.note for one in tuned.ways}
    assert tuned.way == PREFERRED
    assert re.fullmatch(r"not used, though it computes \d+\.\d times as many tiles as f32: too far", notes[WRONG])
    assert "it always fails" in notes[BROKEN]
    assert engines[WRONG].closed
    assert engines[BROKEN].closed


def test_relatives_of_what_is_far_behind_are_not_tried() -> None:
    slow, relative = Way("two", "f32"), Way("two", "f32", 1)
    engines = {PREFERRED: Paced(0.002), slow: Paced(0.02), relative: Paced(0.0001)}
    _, tuned = tuned_over(engines)
    assert tuned.way == PREFERRED
    assert "two f32 was slower in the first round" in {one.way: one.note for one in tuned.ways}[relative]


def test_measuring_without_working_way_raises_with_every_reason() -> None:
    with pytest.raises(ModelLoadError, match=r"one f32: .*it always fails; two f32: .*it always fails"):
        tuned_over({PREFERRED: Paced(0.01, fails=True), BROKEN: Paced(0.01, fails=True)})


def test_a_very_slow_model_is_not_measured_for_ever() -> None:
    engines = {PREFERRED: Paced(2.0), BROKEN: Paced(2.0), FAST: Paced(2.0), RELATIVE: Paced(1.0)}
    engine, tuned = tuned_over(engines, 4.0)
    assert tuned.way == PREFERRED
    assert "; two f32 not measured, no time was left; one bf16 not measured, no time was left" in tuned.sentence()
    assert isinstance(engine, Paced)
    assert engine.clock.now < 20
