"""Runs SAHI for the comparison, under an interpreter that has sahi and onnxruntime and no Standgale.

``python sahi_side.py MODEL.onnx CONFIDENCE IOU CLASSES``; each line on standard input is the path of a picture, each
line of JSON on standard output what SAHI found in it and how long that took, reading the file included.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from sahi.models.base import DetectionModel
from sahi.predict import get_sliced_prediction
from sahi.prediction import ObjectPrediction

SIDE = 640
OVERLAP = 0.2


class OnnxYolo(DetectionModel):
    """Runs a YOLOv8 layout in ONNX Runtime for SAHI, as SAHI's adapters run other models."""

    def __init__(self, model: str, confidence: float, iou: float, classes: list[str]) -> None:
        self._iou = iou
        self._names = {str(number): name for number, name in enumerate(classes)}
        super().__init__(model_path=model, confidence_threshold=confidence, category_mapping=self._names)

    def set_device(self, device: str | None = None) -> None:
        """Do nothing: SAHI's method asks torch for a device, and ONNX Runtime is on the CPU."""
        self.device = "cpu"

    def load_model(self) -> None:
        """Load one session with ONNX Runtime's defaults: all cores."""
        self.model = ort.InferenceSession(self.model_path, providers=["CPUExecutionProvider"])

    def perform_inference(self, image: np.ndarray) -> None:
        """Compute the boxes of one slice (uint8 (h, w, 3) RGB), without duplicates."""
        height, width = image.shape[:2]
        padded = np.full((SIDE, SIDE, 3), 114, np.uint8)
        padded[:height, :width] = image
        values = np.ascontiguousarray(padded.transpose(2, 0, 1)[None], dtype=np.float32) / 255
        (output,) = self.model.run(None, {self.model.get_inputs()[0].name: values})
        rows = output[0].T
        scores = rows[:, 4:].max(axis=1)
        kept = rows[scores >= self.confidence_threshold]
        scores, classes = kept[:, 4:].max(axis=1), kept[:, 4:].argmax(axis=1)
        corner = kept[:, :2] - kept[:, 2:4] / 2
        boxes = np.concatenate((corner, kept[:, 2:4]), axis=1)
        chosen = cv2.dnn.NMSBoxesBatched(
            boxes.tolist(), scores.tolist(), classes.tolist(), self.confidence_threshold, self._iou
        )
        self._original_predictions = [(boxes[one], scores[one], int(classes[one])) for one in chosen]

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list: Any = None, full_shape_list: Any = None
    ) -> None:
        shift, shape = shift_amount_list[0], full_shape_list[0]
        found = []
        for (left, top, width, height), score, number in self._original_predictions:
            box = [max(0.0, left), max(0.0, top), min(SIDE, left + width), min(SIDE, top + height)]
            found.append(
                ObjectPrediction(
                    bbox=[float(side) for side in box],
                    category_id=number,
                    score=float(score),
                    category_name=self._names[str(number)],
                    shift_amount=shift,
                    full_shape=shape,
                )
            )
        self._object_prediction_list_per_image = [found]


def detect_picture(model: OnnxYolo, path: str, iou: float) -> dict[str, Any]:
    """Return what SAHI finds in the picture at ``path``: seconds, boxes as x1, y1, x2, y2, score, class."""
    start = time.perf_counter()
    result = get_sliced_prediction(
        path,
        model,
        slice_height=SIDE,
        slice_width=SIDE,
        overlap_height_ratio=OVERLAP,
        overlap_width_ratio=OVERLAP,
        perform_standard_pred=False,
        postprocess_type="NMS",
        postprocess_match_metric="IOU",
        postprocess_match_threshold=iou,
        verbose=0,
    )
    seconds = time.perf_counter() - start
    boxes = [[*one.bbox.to_xyxy(), one.score.value, one.category.id] for one in result.object_prediction_list]
    return {"seconds": seconds, "boxes": boxes}


def main() -> None:
    """Process one picture after the other until standard input ends."""
    file, confidence, iou, classes = sys.argv[1:5]
    model = OnnxYolo(str(Path(file)), float(confidence), float(iou), classes.split(","))
    for line in sys.stdin:
        print(json.dumps(detect_picture(model, line.strip(), float(iou)), default=float), flush=True)


if __name__ == "__main__":
    main()
