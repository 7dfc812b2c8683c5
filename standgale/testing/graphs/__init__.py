"""Small ONNX detectors built for tests: they find pure red, green and blue rectangles, exactly, in a known layout.

Those with rotated boxes give the rectangle of least area, in steps of half a degree, around what they see.

Such a graph is a real detector: its outputs depend on the pixels, so a wrong channel order, scale, letterbox, tile
offset or head shows as a wrong box. It finds one rectangle per colour and tile.
"""

from __future__ import annotations

from standgale.testing.graphs.builder import anchors
from standgale.testing.graphs.models import (
    ASKED_NAMES,
    build,
    change_graph,
    tiles_that_differ,
    write_asked_model,
    write_model,
)
from standgale.testing.graphs.spec import CLASS_NAMES, COLOURS_BGR, RFDETR_COLUMNS, SCORES, VOCABULARY, GraphSpec
from standgale.testing.graphs.text import write_tokenizer

__all__ = [
    "ASKED_NAMES",
    "CLASS_NAMES",
    "COLOURS_BGR",
    "RFDETR_COLUMNS",
    "SCORES",
    "VOCABULARY",
    "GraphSpec",
    "anchors",
    "build",
    "change_graph",
    "tiles_that_differ",
    "write_asked_model",
    "write_model",
    "write_tokenizer",
]
