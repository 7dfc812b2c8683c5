"""Divides pictures into train, val and test by device and day, so that no scene is in two of them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from console.datasets.errors import DatasetOptionError
from infra.texts import shortened

SPLITS = ("train", "val", "test")
Scene = tuple[str, date]
"""A device and a day (UTC)"""


@dataclass(frozen=True, slots=True)
class Shares:
    """Says which share of the pictures each split is to have; they are 1 together."""

    train: float
    val: float
    test: float

    @property
    def wanted(self) -> Mapping[str, float]:
        """The splits that are to have pictures, and their shares."""
        shares = {"train": self.train, "val": self.val, "test": self.test}
        return {name: share for name, share in shares.items() if share > 0}


def parse_shares(text: str) -> Shares:
    """Return the shares in ``text``: numbers for train, val and test. Raises DatasetOptionError."""
    parts = text.split("/")
    if not 1 <= len(parts) <= len(SPLITS) or not all(part.isascii() and part.isdecimal() for part in parts):
        raise _wrong_shares(text)
    numbers = [int(part[:10]) for part in parts] + [0] * (len(SPLITS) - len(parts))
    total = sum(numbers)
    if total == 0 or any(len(part) > 4 for part in parts):
        raise _wrong_shares(text)
    train, val, test = (number / total for number in numbers)
    return Shares(train, val, test)


def _wrong_shares(text: str) -> DatasetOptionError:
    return DatasetOptionError(
        f"--split is {shortened(text, 60)!r}; it takes whole numbers for train, val and test such as 80/10/10, or 100 "
        "for train alone, not all of them 0"
    )


def scene_of(device: str, captured_at: datetime) -> Scene:
    """Return the scene of a picture."""
    return device, captured_at.astimezone(UTC).date()


@dataclass(slots=True)
class Scenes:
    """Counts the pictures of scenes; those that share a flight belong together, as one at midnight does."""

    counts: dict[Scene, int] = field(default_factory=lambda: defaultdict(int))
    _parents: dict[Scene, Scene] = field(default_factory=dict)
    _flights: dict[tuple[str, str], Scene] = field(default_factory=dict)

    def add(self, device: str, captured_at: datetime, flight: str | None) -> Scene:
        """Count a picture; return its scene."""
        scene = scene_of(device, captured_at)
        self._parents.setdefault(scene, scene)
        self.counts[scene] += 1
        if flight is not None:
            self._join(self._flights.setdefault((device, flight), scene), scene)
        return scene

    def groups(self) -> Mapping[Scene, Sequence[Scene]]:
        """Return the scenes that must be in one split, under the first of each."""
        found: dict[Scene, list[Scene]] = defaultdict(list)
        for scene in sorted(self.counts):
            found[self._root(scene)].append(scene)
        return found

    def _root(self, scene: Scene) -> Scene:
        while self._parents[scene] != scene:
            self._parents[scene] = self._parents[self._parents[scene]]
            scene = self._parents[scene]
        return scene

    def _join(self, one: Scene, other: Scene) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        self._parents[second] = first


def divide(
    scenes: Scenes, shares: Shares, *, seed: int = 0, known: Mapping[Scene, str] | None = None
) -> dict[Scene, str]:
    """Return the split of each scene.

    Groups of scenes are taken in an order that ``seed`` decides; each goes to the split that lacks most of its share.
    No split stays empty when there are as many groups. A group with a scene in ``known`` (of another data set) is
    where it was there. Raises DatasetOptionError where one group would have to be in two splits.
    """
    groups = scenes.groups()
    sizes = {root: sum(scenes.counts[scene] for scene in members) for root, members in groups.items()}
    total = sum(sizes.values())
    found: dict[Scene, str] = {}
    lacking = {name: share * total for name, share in shares.wanted.items()}
    for root, members in groups.items():
        before = {known[scene] for scene in members if scene in known} if known else set()
        if len(before) > 1:
            device, day = root
            raise DatasetOptionError(
                f"--like: the pictures of {device} since {day} belong to one flight now, and that data set has them in "
                f"{' and '.join(sorted(before))}; leave --like out"
            )
        if before:
            found[root] = before.pop()
            lacking[found[root]] = lacking.get(found[root], 0.0) - sizes[root]
    open_ = sorted((root for root in groups if root not in found), key=lambda root: _order(root, seed))
    for root in open_:
        name = max(shares.wanted, key=lambda name: lacking[name])
        found[root] = name
        lacking[name] -= sizes[root]
    _fill_empty(found, open_, sizes, tuple(shares.wanted))
    return {scene: found[root] for root, members in groups.items() for scene in members}


def _fill_empty(
    found: dict[Scene, str], movable: Sequence[Scene], sizes: Mapping[Scene, int], names: Sequence[str]
) -> None:
    """Give each split without a group the smallest one of the split that has most of them."""
    for name in names:
        if name in found.values():
            continue
        roots: dict[str, list[Scene]] = defaultdict(list)
        for root in movable:
            roots[found[root]].append(root)
        richest = max(roots.values(), key=len, default=[])
        held = sum(split == found[richest[0]] for split in found.values()) if richest else 0
        if held > 1:
            found[min(richest, key=lambda root: (sizes[root], root))] = name


def _order(scene: Scene, seed: int) -> bytes:
    device, day = scene
    return hashlib.sha256(f"{seed}/{device}/{day.isoformat()}".encode()).digest()
