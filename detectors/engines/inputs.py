"""Makes the values of a model's inputs other than the image; they are the same for every tile, so made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from detectors.card.card import InputCard
from detectors.card.onnx_file import OnnxFile, TensorInfo
from detectors.card.onnx_graph import PixelSteps
from detectors.errors import ModelLoadError
from detectors.heads.text import Prompt

ConstantInputs = Mapping[str, npt.NDArray[np.generic]]
"""Values by the input's name, each for one tile, without the axis of tiles."""

BYTES = "uint8"
"""The type of an image input that takes pixels as they are; scaling is in the graph."""

IMAGE_TYPES = ("float32", "float16", "float64", BYTES)
"""The types of image inputs that are supported."""

# Between the scale that gives 0 to 1 and the one that leaves 0 to 255 as it is.
_LEAST_SCALE_OF_BYTES = 0.5

SIZES_INPUT = "orig_target_sizes"
"""The size in which some transformers return boxes: int64 (N, 2), width and height."""

TEXT_INPUT = "input_ids"
"""The tokens of a model's prompt: whole numbers (N, L)."""

MASK_INPUT = "pixel_mask"
"""Marks the pixels that are image: (N, height, width). Padding counts as image, as it does for every model."""

# Further inputs of a model that takes text. All are (N, L), except the mask of which tokens see each other,
# (N, L, L). One export uses for it the name that another export uses for the mask of padding.
_SEES_EACH_OTHER = ("text_self_attention_masks", "text_token_mask")
_TEXT_VALUES: Mapping[str, Callable[[Prompt, int], npt.NDArray[np.generic]]] = {
    TEXT_INPUT: Prompt.padded,
    "token_type_ids": lambda prompt, length: np.zeros(length, np.int64),
    "attention_mask": Prompt.mask,
    "position_ids": Prompt.positions,
    "text_token_mask": Prompt.mask,
    "text_self_attention_masks": Prompt.attention,
}
_BESIDE = {SIZES_INPUT, MASK_INPUT, *_TEXT_VALUES}
_NUMBERS: Mapping[str, type[np.generic]] = {
    "int64": np.int64,
    "int32": np.int32,
    "bool": np.bool_,
    "float32": np.float32,
}


def constant_inputs(about: OnnxFile, card: InputCard, path: Path, prompt: Prompt | None = None) -> ConstantInputs:
    """Return the value of every input except the image, for the model at ``path`` and its ``prompt``.

    ``orig_target_sizes`` is the input's width and height, so that boxes are in pixels of the input. Where the file
    leaves the length of text open, it is that of the prompt. Raises ModelLoadError when the model takes an unknown
    input, a type or shape that does not fit, or text without a prompt.
    """
    require_pixels_fit(image_input_of(about.inputs, path), about.graph.pixels, card, path)
    asked = takes_text(about)
    if asked and prompt is None:
        raise ModelLoadError(
            f"{path} takes text (input {TEXT_INPUT}): write layout: grounding_dino and "
            "text: {tokenizer: tokenizer.json} into the card, and put the tokenizer.json published with it beside it"
        )
    if prompt is not None and not asked:
        raise ModelLoadError(f"{path} takes no text (it has no input {TEXT_INPUT}): leave text out of the card")
    length = _text_length(about, prompt, path) if prompt else 0
    found: dict[str, npt.NDArray[np.generic]] = {}
    for one in about.inputs:
        if one.name == SIZES_INPUT:
            _require_type(one, "int64", path)
            found[one.name] = np.array([card.width, card.height], np.int64)
        elif one.name == MASK_INPUT:
            found[one.name] = _fitted(one, np.ones((card.height, card.width), np.bool_), path)
        elif prompt and one.name in _TEXT_VALUES:
            sees = one.name in _SEES_EACH_OTHER and len(one.shape) == 3
            value = prompt.attention(length) if sees else _TEXT_VALUES[one.name](prompt, length)
            found[one.name] = _fitted(one, value, path)
    return found


def require_colour_image(shape: Sequence[int | None], path: Path) -> bool:
    """Return whether an input of ``shape`` (None: open) has the channels last; raise ModelLoadError when it has not 3.

    Where all axes are open the channels come first, as in nearly all exports.
    """
    if len(shape) != 4:
        raise ModelLoadError(
            f"{path} takes input {list(shape)}; an image (N, 3, height, width) or (N, height, width, 3) is expected"
        )
    if shape[1] == 3 or (shape[1] is None and shape[3] not in (1, 3)):
        return False
    if shape[3] == 3:
        return True
    if 1 in (shape[1], shape[3]):
        raise ModelLoadError(
            f"{path} takes images of one channel (grey), input {list(shape)}; Standgale gives three: put a layer "
            'in front of it that makes grey of colours (docs/models.md has the ten lines, under "Grey models")'
        )
    raise ModelLoadError(
        f"{path} takes images of other than three channels, input {list(shape)}; Standgale gives red, green "
        "and blue, so export a model that takes (N, 3, height, width)"
    )


def require_pixels_fit(image: TensorInfo, pixels: PixelSteps, card: InputCard, path: Path) -> None:
    """Raise ModelLoadError when ``card`` scales pixels in another way than the graph's input and first nodes need."""
    if image.type not in IMAGE_TYPES:
        raise ModelLoadError(
            f"{path} takes {image.name} as {image.type}; export it with {image.name} as float32 or uint8"
        )
    plain = card.scale == 1 and not any(card.mean) and all(one == 1 for one in card.std)
    remedy = "write scale: 1 under input in the card, without mean and std"
    if image.type == BYTES and not plain:
        raise ModelLoadError(
            f"{path} takes {image.name} as uint8, whole numbers from 0 to 255, so pixels must not be scaled before; "
            f"the card scales them by {card.scale:.3g}: {remedy}"
        )
    if pixels.takes_bytes and card.scale < _LEAST_SCALE_OF_BYTES:
        raise ModelLoadError(
            f"{path} scales its pixels itself (by {pixels.factor:.3g}), and the card does so before (by "
            f"{card.scale:.3g}): {remedy}"
        )
    if pixels.normalises and any(card.mean):
        raise ModelLoadError(
            f"{path} subtracts a mean from its pixels itself, and the card does so before: "
            "leave mean and std out of the card" + (", and write scale: 1" if pixels.takes_bytes else "")
        )


def takes_text(about: OnnxFile) -> bool:
    """Return whether a model takes text besides the image."""
    return any(one.name == TEXT_INPUT for one in about.inputs)


def image_input_of(inputs: Sequence[TensorInfo], path: Path) -> TensorInfo:
    """Return the input that takes the image. Raises ModelLoadError when it is not exactly one of ``inputs``."""
    images = [one for one in inputs if one.name not in _BESIDE]
    if len(images) != 1:
        listed = ", ".join(one.name for one in inputs)
        raise ModelLoadError(
            f"{path} takes {len(inputs)} inputs ({listed}); one image is expected, besides it at most "
            f"{SIZES_INPUT}, or {MASK_INPUT} and the tokens of a text ({', '.join(_TEXT_VALUES)})"
        )
    return images[0]


def _text_length(about: OnnxFile, prompt: Prompt, path: Path) -> int:
    """Return how many tokens the model takes: the number in the file, else that of the prompt."""
    tokens = next(one for one in about.inputs if one.name == TEXT_INPUT)
    stated = tokens.shape[1] if len(tokens.shape) == 2 else None
    if stated is not None and stated < len(prompt.ids):
        raise ModelLoadError(
            f"{path} takes {stated} tokens, the names of the card's classes are {len(prompt.ids)}; "
            "leave classes out, or export it for a longer text"
        )
    return stated or len(prompt.ids)


def _fitted(one: TensorInfo, value: npt.NDArray[np.generic], path: Path) -> npt.NDArray[np.generic]:
    """Return ``value`` in the type of input ``one``. Raises ModelLoadError when its shape or type does not fit."""
    if one.type not in _NUMBERS:
        raise ModelLoadError(f"{path} takes {one.name} as {one.type}; export it with {one.name} as int64")
    fits = len(one.shape) == value.ndim + 1 and all(
        stated in (None, has) for stated, has in zip(one.shape[1:], value.shape, strict=True)
    )
    if not fits:
        raise ModelLoadError(
            f"{path} takes {one.name} as {list(one.shape)}, it is (N, {', '.join(map(str, value.shape))}) here; "
            "export it with that shape, or correct the input's width and height in the card"
        )
    return value.astype(_NUMBERS[one.type])


def _require_type(one: TensorInfo, wanted: str, path: Path) -> None:
    if one.type != wanted:
        raise ModelLoadError(f"{path} takes {one.name} as {one.type}; export it with {one.name} as {wanted}")
