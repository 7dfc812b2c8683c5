"""Checks how many tiles a pass between live frames may have."""

from __future__ import annotations

from detectors.worker.pipeline.short_passes import ShortPasses


def test_pass_grows_while_it_is_short_and_shrinks_when_it_takes_long() -> None:
    passes, sizes = ShortPasses(16), list[int]()
    assert passes.tiles == 1
    for _ in range(5):
        passes.record(passes.tiles, 0.002 + 0.0005 * passes.tiles)
        sizes.append(passes.tiles)
    assert sizes == [2, 4, 8, 16, 16]
    passes.record(16, 0.060)
    assert passes.tiles == 4
    passes.record(4, 0.5)
    assert passes.tiles == 1


def test_pass_has_one_tile_however_long_that_takes() -> None:
    passes = ShortPasses(2)
    for seconds in (0.024, 3.0, 0.0):
        assert passes.tiles == 1
        passes.record(1, seconds)
    assert passes.tiles == 2
