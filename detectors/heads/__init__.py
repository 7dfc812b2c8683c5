"""Heads: one module per export layout, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from detectors.card import Layout
from detectors.errors import ModelLoadError
from detectors.heads.port import Head, Shape
from detectors.heads.yolov8 import YoloV8Head
from detectors.heads.yolox import YoloXHead

HEADS: Mapping[Layout, Callable[[int, int, int], Head]] = {"yolov8": YoloV8Head, "yolox": YoloXHead}
"""Layout → head, built from the input's width and height in pixels and the number of classes."""


def choose_head(layout: Layout | None, size: tuple[int, int], classes: int, shapes: Sequence[Shape]) -> Head:
    """The head for a model whose outputs have ``shapes`` for an input of ``size`` (width, height) and ``classes``.

    With a ``layout`` the model has to be of it; without one the only layout that fits is taken. Raises ModelLoadError
    that says what was expected and what the model has.
    """
    names: list[Layout] = [layout] if layout else list(HEADS)
    fitting: list[Head] = []
    reasons: list[str] = []
    for name in names:
        head = HEADS[name](*size, classes)
        reason = head.mismatch(shapes)
        if reason is None:
            fitting.append(head)
        else:
            reasons.append(reason)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ModelLoadError(
            f"outputs {list(shapes)} fit several layouts; write one of {names} as layout into the card"
        )
    raise ModelLoadError(
        f"the model is not what its card says: {'; '.join(reasons)}; "
        "check layout, input width and height, and the number of classes in the card"
    )
