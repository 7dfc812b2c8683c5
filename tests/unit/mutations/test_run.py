"""Runs a small part of the mutated inputs in this process, and checks that failures are found and repeated."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.mutations import targets
from tests.mutations.run import Tally, run_inputs, table, write_failures
from tests.mutations.targets import TARGETS, OverMemoryError, Target, make_input

SEED = 1


@pytest.fixture(scope="module")
def long_run() -> tuple[Tally, list[tuple[Target, bytes]]]:
    """Runs some thousand inputs; returns what they gave, and some inputs as they were made before."""
    before = [make_input(Random(), SEED, number) for number in range(300)]
    tally = Tally()
    run_inputs(SEED, range(3_000), tally)
    return tally, before


def test_some_thousand_mutated_inputs_raise_no_foreign_exception(
    long_run: tuple[Tally, list[tuple[Target, bytes]]],
) -> None:
    tally, _ = long_run
    assert tally.failures == []
    assert set(tally.inputs) == {target.name for target in TARGETS}
    # Inputs that are all refused, or all accepted, test little.
    refused = sum(tally.refused.values()) / tally.inputs.total()
    assert 0.2 < refused < 0.8


def test_make_input_of_the_same_number_gives_the_same_bytes() -> None:
    first = [make_input(Random(), SEED, number) for number in range(200)]
    again = [make_input(Random(5), SEED, number) for number in reversed(range(200))]
    assert first == again[::-1]
    assert len({data for _, data in first}) > 150
    assert make_input(Random(), SEED + 1, 3)[1] != first[3][1]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KeyError("a"), "foreign exception"),
        (RecursionError(), "foreign exception"),
        (MemoryError(), "memory"),
        (OverMemoryError("much"), "memory"),
    ],
)
def test_run_inputs_reports_foreign_errors_and_writes_the_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    def read(data: bytes) -> None:
        raise error

    monkeypatch.setattr(targets, "TARGETS", (Target("exif", 1_000, lambda rng: rng.randbytes(9), read, 50),))
    monkeypatch.setattr(targets, "_places", lambda: (0,) * targets.PARTS)
    tally = Tally()
    run_inputs(SEED, range(3), tally)
    assert [(failure.number, failure.kind) for failure in tally.failures] == [(0, kind), (1, kind), (2, kind)]
    lines = write_failures(tmp_path, SEED, tally)
    assert "python -m tests.mutations --seed 1 --only 0" in lines[0]
    assert (tmp_path / "exif-0.bin").read_bytes() == make_input(Random(), SEED, 0)[1]
    assert table(tally)[-1].startswith("3 inputs")


def test_run_inputs_reports_slow_inputs_only_when_they_are_slow_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []

    def read(data: bytes) -> None:
        calls.append(data)
        if len(calls) in slow:
            sum(range(3_000_000))

    monkeypatch.setattr(targets, "TARGETS", (Target("exif", 1_000, lambda rng: rng.randbytes(9), read, 10),))
    monkeypatch.setattr(targets, "_places", lambda: (0,) * targets.PARTS)
    slow = range(1, 2)
    tally = Tally()
    run_inputs(SEED, range(1), tally)
    assert tally.failures == []
    slow = range(99)
    run_inputs(SEED, range(1), tally)
    assert [failure.kind for failure in tally.failures] == ["time"]


def test_a_long_run_does_not_change_the_values_that_it_inserts(
    long_run: tuple[Tally, list[tuple[Target, bytes]]],
) -> None:
    _, before = long_run
    assert [make_input(Random(), SEED, number) for number in range(300)] == before
