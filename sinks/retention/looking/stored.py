"""Remembers of each picture in the store when it was put, in 16 bytes."""

from __future__ import annotations

from array import array
from bisect import bisect_left


class StoredPictures:
    """Finds pictures by digest; stores list them in the order of the digests, or they are sorted once."""

    def __init__(self) -> None:
        # The first eight bytes of each digest: a picture that has those of another one would be taken for it, which is
        # not to be expected among fewer than a billion.
        self._starts = array("Q")
        self._put_s = array("d")
        self._is_sorted = True

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, digest: str, put_s: float) -> None:
        """Add a picture that was put, for the last time, ``put_s`` seconds after 1970."""
        start = _start(digest)
        if self._starts and start < self._starts[-1]:
            self._is_sorted = False
        self._starts.append(start)
        self._put_s.append(put_s)

    def put_s(self, digest: str) -> float | None:
        """Return when a picture was put; None when it is not in the store."""
        if not self._is_sorted:
            self._sort()
        start = _start(digest)
        place = bisect_left(self._starts, start)
        if place == len(self._starts) or self._starts[place] != start:
            return None
        return self._put_s[place]

    def _sort(self) -> None:
        both = sorted(zip(self._starts, self._put_s, strict=True))
        self._starts = array("Q", (start for start, _ in both))
        self._put_s = array("d", (put_s for _, put_s in both))
        self._is_sorted = True


def _start(digest: str) -> int:
    return int(digest[:16], 16)
