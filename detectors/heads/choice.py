"""Lists the head of each export layout, and chooses the head that fits a model's outputs and metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from detectors.card.card import Layout
from detectors.errors import ModelLoadError
from detectors.heads.families import family_of
from detectors.heads.layouts.boxes_scores import BoxesScoresHead
from detectors.heads.layouts.detr import RfDetrHead, RtDetrHead
from detectors.heads.layouts.finished_parts import FinishedPartsHead, MmdetHead
from detectors.heads.layouts.grounding_dino import GroundingDinoHead
from detectors.heads.layouts.nms_inside import NmsInsideHead
from detectors.heads.layouts.obb import NmsInsideObbHead, YoloV8ObbHead
from detectors.heads.layouts.objectness import ObjectnessHead
from detectors.heads.layouts.yolov8 import YoloV8Head
from detectors.heads.layouts.yolox import YoloXHead
from detectors.heads.metadata import Metadata, foreign_task, layouts_meant, names_against, task_against
from detectors.heads.plugins import HEAD_PLUGINS, make_plugin_head
from detectors.heads.port import Head, HeadRequest, Shape
from infra.plugin_names import warn_of_hidden_plugins

HEADS: Mapping[Layout, Callable[[HeadRequest], Head]] = {
    "yolov8": lambda request: YoloV8Head(request.width, request.height, request.classes.count),
    "yolov5": lambda request: ObjectnessHead.yolov5(request.width, request.height, request.classes.count),
    "nms_inside": lambda request: NmsInsideHead(request.classes),
    "yolox": lambda request: YoloXHead(request.width, request.height, request.classes.count),
    "yolox_decoded": lambda request: ObjectnessHead.yolox(request.width, request.height, request.classes.count),
    "rtdetr": RtDetrHead,
    "rfdetr": RfDetrHead,
    "yolov8_obb": lambda request: YoloV8ObbHead(request.width, request.height, request.classes.count),
    "nms_inside_obb": lambda request: NmsInsideObbHead(request.classes),
    "grounding_dino": GroundingDinoHead,
    "boxes_scores": BoxesScoresHead,
    "tf_nms": lambda request: FinishedPartsHead("tf_nms", request),
    "nms_parts": lambda request: FinishedPartsHead("nms_parts", request),
    "mmdet": MmdetHead,
}
"""Layout → head, built for a request. Where a request fits several layouts, the first one is the most common."""

LAYOUTS: Mapping[Layout, str] = {
    "yolov8": "YOLOv8 and YOLO11",
    "yolov5": "YOLOv5 and YOLOv7",
    "nms_inside": "YOLO26, YOLOv10, or an export with NMS inside",
    "yolox": "YOLOX as it is exported by default, with raw boxes",
    "yolox_decoded": "YOLOX exported with decoded boxes",
    "rtdetr": "RT-DETRv2 and D-FINE",
    "rfdetr": "RF-DETR",
    "yolov8_obb": "YOLOv8-OBB and YOLO11-OBB",
    "nms_inside_obb": "YOLO26-OBB, or an OBB export with NMS inside",
    "grounding_dino": "Grounding DINO, which takes a text prompt",
    "boxes_scores": "boxes beside scores: YOLO-NAS, DAMO-YOLO, SSD, UltraFace, YOLOv4",
    "tf_nms": "detectors of TensorFlow's Object Detection API, with NMS inside",
    "nms_parts": "exports with NMS inside and four outputs, as YOLO-NAS has",
    "mmdet": "MMDetection exported with NMS inside",
}
"""Layout → the models that have it, for people."""

NUMBERED: frozenset[Layout] = frozenset({"nms_inside", "rtdetr", "nms_inside_obb", "tf_nms", "nms_parts", "mmdet"})
"""These give each box its class's number, so only the metadata shows how many classes there are."""
# In these a class may have any number or column; all others have one column per class, in the card's order.
_WITH_IDS = NUMBERED | {"rfdetr", "boxes_scores"}
_ROTATED: frozenset[Layout] = frozenset({"yolov8_obb", "nms_inside_obb"})


def layouts_to_try(metadata: Metadata) -> list[Layout]:
    """Return the layouts that a file with this metadata may have when the card names none.

    Rotated boxes only where the metadata says task obb: an angle has the shape of one more class score.
    """
    rotated = metadata.get("task") == "obb"
    return [layout for layout in HEADS if (layout in _ROTATED) == rotated]


def fitting_heads(
    layouts: Sequence[Layout], request: HeadRequest, shapes: Sequence[Shape], metadata: Metadata
) -> tuple[dict[Layout, Head], list[str]]:
    """Return the heads among ``layouts`` that fit outputs of ``shapes``, and what the other layouts would have.

    Raises ModelLoadError when the metadata says that the model does not detect objects.
    """
    warn_of_hidden_plugins(HEAD_PLUGINS, tuple(HEADS))
    foreign = foreign_task(metadata)
    if foreign is not None:
        raise ModelLoadError(f"the model cannot be read: {foreign}")
    fitting: dict[Layout, Head] = {}
    reasons: list[str] = []
    for layout in layouts:
        head = HEADS[layout](request) if layout in HEADS else make_plugin_head(layout, request)
        reason = _reason_against(layout, head, request, shapes, metadata)
        if reason is None:
            fitting[layout] = head
        else:
            reasons.append(reason)
    return fitting, reasons


def _reason_against(
    layout: Layout, head: Head, request: HeadRequest, shapes: Sequence[Shape], metadata: Metadata
) -> str | None:
    """Return what speaks against ``head`` for the model, or None. Of a plug-in's layout only its head knows that."""
    if layout not in HEADS:
        return head.mismatch(shapes)
    if request.classes.stated and layout not in _WITH_IDS:
        return f"{layout} has one column per class in the card's order, without ids"
    reason = task_against(metadata, layout in _ROTATED) or head.mismatch(shapes)
    if reason is None and layout in NUMBERED:
        return names_against(metadata, request.classes)
    return reason


def choose_head(layout: Layout | None, request: HeadRequest, shapes: Sequence[Shape], metadata: Metadata) -> Head:
    """Return the head for a model whose outputs have ``shapes`` and whose file has ``metadata``.

    With a ``layout`` the model has to be of it; without one the only layout that fits shapes and metadata is taken.
    Raises ModelLoadError that says what was expected, what the model has, and what to write into the card.
    """
    fitting, reasons = fitting_heads([layout] if layout else layouts_to_try(metadata), request, shapes, metadata)
    if len(fitting) > 1:
        fitting = narrow_by_metadata(fitting, metadata)
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    has = describe_outputs(request.outputs, shapes)
    if layout is None:
        reasons = reasons_in_reach(reasons, shapes)
    if fitting:
        choices = " or ".join(f"layout: {name} ({LAYOUTS[name]})" for name in fitting)
        raise ModelLoadError(f"the model has {has}, which several layouts have; write {choices} into the card")
    raise ModelLoadError(
        f"the model is not what its card says: {'; '.join(reasons)}; this model has {has}; "
        f"check layout, input width and height, and the number of classes in the card{_hint(layout, request, shapes)}"
        f"{_resemblance(request, shapes)}"
    )


def _resemblance(request: HeadRequest, shapes: Sequence[Shape]) -> str:
    """Return which family of models the outputs resemble, to follow other text; empty for no known one."""
    names = request.outputs or tuple(f"output{number}" for number in range(len(shapes)))
    family = family_of(names, shapes, (request.width, request.height))
    return "" if family is None else f"; {family}"


def reasons_in_reach(reasons: Sequence[str], shapes: Sequence[Shape]) -> list[str]:
    """Return the ``reasons`` against layouts without those with another number of outputs, which help nobody."""
    one = len(shapes) == 1
    return [reason for reason in reasons if ("has one output" in reason) == one or "metadata" in reason]


def _hint(layout: Layout | None, request: HeadRequest, shapes: Sequence[Shape]) -> str:
    """Return what else to write into a card without ``layout`` when the outputs may be those of rotated boxes."""
    could = [name for name in _ROTATED if layout is None and HEADS[name](request).mismatch(shapes) is None]
    return f"; if its boxes are rotated, write layout: {could[0]} into the card" if could else ""


def narrow_by_metadata(fitting: Mapping[Layout, Head], metadata: Metadata) -> dict[Layout, Head]:
    """Return those of the ``fitting`` heads that the metadata names; all of them when it names none."""
    meant = layouts_meant(metadata)
    return {name: head for name, head in fitting.items() if meant is None or name in meant} or dict(fitting)


def describe_outputs(names: Sequence[str], shapes: Sequence[Shape]) -> str:
    """Return the outputs as text for people; the first axis is the tile."""
    parts = [
        f"{name} ({', '.join(('N', *map(str, shape[1:])))})"
        for name, shape in zip(names or ["output"] * len(shapes), shapes, strict=True)
    ]
    return f"output {parts[0]}" if len(parts) == 1 else f"outputs {', '.join(parts)}"
