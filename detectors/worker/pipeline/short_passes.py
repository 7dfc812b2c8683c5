"""Chooses how many tiles of other frames an engine runs at once while live frames come."""

from __future__ import annotations

LATELY_S = 10.0
"""Live frames come for as long as the last one is not longer ago."""
_SHORT_S = 0.015


class ShortPasses:
    """Learns how many tiles an engine runs in a time that a live frame may have to wait; for one thread."""

    def __init__(self, most: int) -> None:
        """``most``: the tiles of a pass that is not short."""
        self.tiles = 1
        """How many a pass may have"""
        self._most = most

    def record(self, tiles: int, seconds: float) -> None:
        """Note that a pass of ``tiles`` took ``seconds``."""
        fitting = int(tiles * _SHORT_S / max(seconds, 1e-6))
        # A pass of more tiles takes less for each of them, but how much less is only known when it was tried.
        self.tiles = max(1, min(self._most, fitting, 2 * tiles))
