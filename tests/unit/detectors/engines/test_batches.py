"""The sizes of runs on a GPU."""

from __future__ import annotations

import pytest

from detectors.engines.batches import portions, sizes_up_to


@pytest.mark.parametrize(("batch", "sizes"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))])
def test_few_tiles_run_in_the_smallest_size_that_takes_them(batch: int, sizes: tuple[int, ...]) -> None:
    assert sizes_up_to(batch) == sizes
    for count in range(1, 20):
        runs = list(portions(count, sizes))
        assert [first for first, _, _ in runs] == list(range(0, count, batch))
        assert runs[-1][1] == count
        for first, end, size in runs:
            assert size in sizes
            assert size >= end - first
            assert not any(end - first <= smaller < size for smaller in sizes)
