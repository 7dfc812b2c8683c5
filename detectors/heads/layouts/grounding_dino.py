"""Reads Grounding DINO: a box for each query, and a logit for each token of the prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detectors.geometry.arrays import Outputs, RawBoxes
from detectors.heads.checks import require_numbers
from detectors.heads.grids import boxes_from_centres
from detectors.heads.layouts.detr import output_indices
from detectors.heads.logits import sigmoid
from detectors.heads.port import HeadRequest, Shape

# The second output as Hugging Face's export calls it, and as those of the original code do.
_BOXES = ("pred_boxes", "boxes")


class GroundingDinoHead:
    """Reads ``logits`` (N, Q, T), one per token, and ``pred_boxes`` (N, Q, 4), centre and size as shares of the input.

    The score of a class is that of its best token; a box is of the class with the best score, the first of equal ones,
    and has its score. It counts when its score reaches the confidence and the text threshold: in the reference a box
    without a token above the threshold has an empty label. Tokens of no class ([CLS], full stops, padding) never count.
    """

    def __init__(self, request: HeadRequest) -> None:
        found = (output_indices(request.outputs, ("logits", boxes)) for boxes in _BOXES)
        self._at = next((tuple(at.values()) for at in found if at is not None), None)
        self._size = np.array((request.width, request.height) * 2, np.float32)
        self._prompt = request.prompt
        spans = request.prompt.spans if request.prompt else ()
        self._tokens = np.array([place for start, end in spans for place in range(start, end)], np.int64)
        lengths = [end - start for start, end in spans]
        self._starts = np.cumsum([0, *lengths[:-1]])

    def mismatch(self, shapes: Sequence[Shape]) -> str | None:
        """See :class:`detectors.heads.port.Head`."""
        if self._prompt is None:
            return (
                "grounding_dino takes a text prompt: write layout: grounding_dino and text: {tokenizer: tokenizer.json}"
            )
        least = self._prompt.length
        if self._at is not None:
            logits, boxes = (shapes[at] for at in self._at)
            if len(logits) == 3 and boxes == (*logits[:2], 4) and logits[2] >= least:
                return None
        return (
            f"grounding_dino asked with {least} tokens has outputs logits (N, Q, {least} or more) and "
            "pred_boxes (N, Q, 4)"
        )

    def decode(self, outputs: Outputs, confidence: float) -> RawBoxes:
        """See :class:`detectors.heads.port.Head`. One box per query: that of its best class."""
        assert self._at is not None and self._prompt is not None, "decode follows a mismatch() that found none"
        logits = np.maximum.reduceat(outputs[self._at[0]][:, :, self._tokens], self._starts, axis=2)
        best = logits.max(axis=2)
        require_numbers(best, "scores")
        scores = sigmoid(best)
        # A confidence below 0 requests all boxes, as the first run does: then the text threshold does not apply.
        least = max(confidence, self._prompt.threshold) if confidence >= 0 else confidence
        tiles, queries = np.nonzero(scores >= least)
        found = outputs[self._at[1]][tiles, queries] * self._size
        require_numbers(found, "boxes")
        return RawBoxes(
            boxes=boxes_from_centres(found[:, :2], found[:, 2:]),
            scores=scores[tiles, queries],
            classes=logits[tiles, queries].argmax(axis=1).astype(np.int32),
            tiles=tiles.astype(np.int32),
        )
