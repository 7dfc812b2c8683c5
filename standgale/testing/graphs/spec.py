"""Says what a small ONNX detector is built like, and what it knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from detectors.card.card import BoxesCard, Layout

COLOURS_BGR = ((0, 0, 255), (0, 255, 0), (255, 0, 0))
COLOURS_HEX = ("#ff0000", "#00ff00", "#0000ff")
CLASS_NAMES = ("red", "green", "blue")
SCORES = (0.9, 0.8, 0.7)
Fault = Literal[
    "nan",
    "logits",
    "extra_class",
    "two_outputs",
    "zero_scores",
    "constant",
    "normalised",
    "other_input",
    "float_sizes",
    "degrees",
    "no_area",
]
# The rows of layouts whose outputs are finished boxes, and where RF-DETR has the three classes among its columns.
FINISHED_ROWS, RFDETR_COLUMNS, RFDETR_IDS = 20, 91, (3, 17, 90)
# The angle where a model with rotated boxes finds nothing.
NO_ANGLE = 0.8
# What the model that is asked in words knows: each word's place within its name, how many tokens belong to that name
# with the full stop behind it, its colour and by how much its logit is below that of the colour's score.
WORDS = {
    "red": (0, 3, 0, 1.0),
    "##dish": (1, 3, 0, 0.0),
    "big": (0, 3, 1, 2.0),
    "green": (1, 3, 1, 0.0),
    "blue": (0, 2, 2, 0.0),
    "boat": (0, 2, 2, 9.0),
}
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "?", *WORDS)
TEXT_COLUMNS = 256


@dataclass(frozen=True)
class GraphSpec:
    """The model to build; ``batch`` None leaves it dynamic, ``dynamic`` leaves height and width open. ``metadata`` goes
    into the file; ``turned`` lists the outputs in the opposite order. A model asked in words takes ``tokens`` of them
    (None: any number), and with ``original`` what the original code's export takes, else what Hugging Face's does. The
    image is of type ``kind``; with ``scales_itself`` the graph applies scale, mean and std, and the card has none."""

    layout: Layout = "yolov8"
    width: int = 128
    height: int = 128
    batch: int | None = None
    channels: Literal["rgb", "bgr"] = "rgb"
    scale: float = 1 / 255
    mean: float = 0.0
    std: float = 1.0
    fault: Fault | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    turned: bool = False
    dynamic: bool = False
    tokens: int | None = None
    original: bool = False
    kind: Literal["float32", "float16", "float64", "uint8", "int32"] = "float32"
    scales_itself: bool = False
    channels_last: bool = False
    input_channels: int = 3
    boxes: BoxesCard = field(default_factory=BoxesCard)
