"""Comparing two jobs in one picture: the same pairs as by looking at all, and a limit of pairs."""

from __future__ import annotations

import random

import pytest

from console.results import compare as module
from console.results.compare import TooManyPairsError, compare
from console.results.records import Found


def boxes(chance: random.Random, count: int) -> list[Found]:
    """Boxes of very different sides, exact as numbers, some without an area, and several at one place."""
    found = []
    for _ in range(count):
        x, y = chance.randrange(10) / 16, chance.randrange(10) / 16
        width, height = (chance.choice((0.0, 1 / 64, 1 / 8, 1 / 4, 7 / 8)) for _ in range(2))
        found.append(Found(chance.choice("ab"), 0, 0.5, (x, y, min(1.0, x + width), min(1.0, y + height)), None))
    return found


def overlap(one: Found, other: Found) -> float:
    """Return the IoU of two boxes, step by step."""
    (a, b, c, d), (e, f, g, h) = one.box, other.box
    shared = max(0.0, min(c, g) - max(a, e)) * max(0.0, min(d, h) - max(b, f))
    union = (c - a) * (d - b) + (g - e) * (h - f) - shared
    return shared / union if union > 0 else 0.0


@pytest.mark.parametrize("seed", range(8))
def test_pairs_are_those_that_overlap_most_of_all_pairs(seed: int) -> None:
    chance = random.Random(seed)
    first, second = boxes(chance, 60), boxes(chance, 50)
    every = [(overlap(a, b), i, j) for i, a in enumerate(first) for j, b in enumerate(second)]
    ordered = sorted((pair for pair in every if pair[0] >= 0.2), key=lambda pair: (-pair[0], *pair[1:]))
    taken_first: set[int] = set()
    taken_second: set[int] = set()
    expected: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    for same_class in (True, False):
        for _, i, j in ordered:
            if i in taken_first or j in taken_second or (first[i].label == second[j].label) is not same_class:
                continue
            taken_first.add(i)
            taken_second.add(j)
            expected[same_class].append((i, j))
    found = compare(first, second, 0.2)
    for same_class, pairs in ((True, found.both), (False, found.relabelled)):
        assert [(one, other) for one, other, _ in pairs] == [(first[i], second[j]) for i, j in expected[same_class]]
    assert found.only_first == [each for i, each in enumerate(first) if i not in taken_first]
    assert found.only_second == [each for j, each in enumerate(second) if j not in taken_second]


def test_pairs_are_found_across_the_pieces_that_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(9)
    first, second = boxes(chance, 40), boxes(chance, 40)
    whole = compare(first, second, 0.1)
    monkeypatch.setattr(module, "_CHUNK", 7)
    assert compare(first, second, 0.1) == whole


@pytest.mark.parametrize("limit", ["_MOST_PAIRS", "_MOST_TRIED"])
def test_too_many_boxes_over_each_other_are_not_compared(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, limit, 99)
    same = [Found("a", 0, 0.5, (0.1, 0.1, 0.2, 0.2), None)] * 10
    with pytest.raises(TooManyPairsError, match="more than 99 pairs"):
        compare(same, same, 0.5)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 0), (0, 3)])
def test_nothing_is_compared_with_nothing(first: int, second: int) -> None:
    found = compare(boxes(random.Random(1), first), boxes(random.Random(2), second), 0.5)
    assert (len(found.only_first), len(found.only_second), found.both) == (first, second, [])
