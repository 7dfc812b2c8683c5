"""Defines the metrics of replays."""

from __future__ import annotations

from prometheus_client import Counter

REPLAYED = Counter("standgale_replayed_frames_total", "Items of replays, by what became of them", ["result"])
