"""Writes detections in the formats of results: JSON with pixels, YOLO label lines, COCO, and Pascal VOC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from console.results.compare import Comparison
from console.results.records import Found, ResultFile

Format = Literal["json", "yolo", "coco", "voc"]
FORMATS: Sequence[Format] = ("json", "yolo", "coco", "voc")
_NO_XML = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), 0xFFFE, 0xFFFF])
"""Characters that XML cannot hold, or no reader expects in a name."""


class LabelledPicture(Protocol):
    """Says about a picture what label files say of it; a :class:`ResultFile` is one."""

    @property
    def filename(self) -> str:
        """Its name, without a folder."""
        ...

    @property
    def width(self) -> int:
        """Pixels."""
        ...

    @property
    def height(self) -> int:
        """Pixels."""
        ...


def pixel_box(found: Found, width: int, height: int) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom in pixels, two decimals."""
    left, top, right, bottom = found.box
    return round(left * width, 2), round(top * height, 2), round(right * width, 2), round(bottom * height, 2)


def centre_box(found: Found) -> tuple[float, float, float, float]:
    """Return the centre, width and height, normalised, six decimals: as YOLO has them."""
    left, top, right, bottom = found.box
    return round((left + right) / 2, 6), round((top + bottom) / 2, 6), round(right - left, 6), round(bottom - top, 6)


def as_json(file: ResultFile, found: Sequence[Found]) -> dict[str, Any]:
    """Return one file of the format json; one that failed has its error."""
    width, height = file.file.image.width, file.file.image.height
    body: dict[str, Any] = {
        "file_id": file.file.file_id,
        "filename": file.file.filename,
        "detections": [_detection(each, width, height) for each in found],
        "detection_count": len(found),
    }
    if file.rules is not None:
        body["rules"] = {name: file.rules.get(name) for name in ("file", "sha256", "dropped_by_rule", "problem")}
    if file.failed:
        body["error"] = {"code": file.error_code, "message": file.error_message}
    return body


def _detection(found: Found, width: int, height: int) -> dict[str, Any]:
    left, top, right, bottom = pixel_box(found, width, height)
    x, y, across, down = centre_box(found)
    body: dict[str, Any] = {
        "class_id": found.class_id,
        "class_name": found.label,
        "confidence": found.confidence,
        "bbox": {"format": "xyxy", "x_min": left, "y_min": top, "x_max": right, "y_max": bottom},
        "bbox_normalized": {"format": "yolo", "center_x": x, "center_y": y, "width": across, "height": down},
    }
    if found.corners is not None:
        body["corners"] = _pixel_corners(found.corners, width, height)
    if found.rule is not None:
        body["rule"] = found.rule
    return body


def as_yolo(found: Iterable[Found], *, scores: bool = True) -> str:
    """Return the label lines of one file: class, centre, width, height (normalised), and the score.

    Programs that train take lines without ``scores`` only.
    """
    return "".join(
        f"{each.class_id} {' '.join(map(_number, centre_box(each)))}"
        f"{f' {_number(each.confidence)}' if scores else ''}\n"
        for each in found
    )


def as_voc(image: LabelledPicture, found: Iterable[Found], folder: str = "") -> str:
    """Return the annotation of one file in the XML of Pascal VOC; pixels count from 1 in it."""
    root = Element("annotation")
    _add(root, "folder", folder)
    _add(root, "filename", image.filename)
    size = SubElement(root, "size")
    for name, value in (("width", image.width), ("height", image.height), ("depth", 3)):
        _add(size, name, value)
    _add(root, "segmented", 0)
    for each in found:
        left, top, right, bottom = pixel_box(each, image.width, image.height)
        thing = SubElement(root, "object")
        _add(thing, "name", each.label)
        _add(thing, "pose", "Unspecified")
        cut = left <= 0 or top <= 0 or right >= image.width or bottom >= image.height
        _add(thing, "truncated", int(cut))
        _add(thing, "difficult", 0)
        _add(thing, "confidence", _number(each.confidence))
        box = SubElement(thing, "bndbox")
        for name, value in (
            ("xmin", min(image.width, int(left) + 1)),
            ("ymin", min(image.height, int(top) + 1)),
            ("xmax", min(image.width, max(int(left) + 1, round(right)))),
            ("ymax", min(image.height, max(int(top) + 1, round(bottom)))),
        ):
            _add(box, name, value)
    indent(root)
    return tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def coco_image(image: LabelledPicture, number: int) -> dict[str, Any]:
    """Return the image of COCO for the ``number``-th file, from 1."""
    return {"id": number, "file_name": image.filename, "width": image.width, "height": image.height}


class CocoAnnotations:
    """Makes the annotations of a COCO document, and its categories by class number."""

    def __init__(self, classes: Mapping[int, str]) -> None:
        """``classes`` are the labels that are known before anything is found."""
        self._count = 0
        self._categories = dict(classes)

    def of(self, image: LabelledPicture, number: int, found: Iterable[Found]) -> list[dict[str, Any]]:
        """Return the annotations of the ``number``-th file; ids go on from those of the file before."""
        annotations = []
        for each in found:
            left, top, right, bottom = pixel_box(each, image.width, image.height)
            width, height = round(right - left, 2), round(bottom - top, 2)
            self._categories.setdefault(each.class_id, each.label)
            # pycocotools takes the annotation 0 for none.
            self._count += 1
            annotations.append(
                {
                    "id": self._count,
                    "image_id": number,
                    "category_id": each.class_id,
                    "bbox": [left, top, width, height],
                    "area": round(width * height, 2),
                    "segmentation": [_outline(each, image.width, image.height)],
                    "iscrowd": 0,
                    "score": each.confidence,
                }
            )
        return annotations

    def categories(self) -> list[dict[str, Any]]:
        """Return all classes, and those of the annotations so far."""
        return [{"id": number, "name": name} for number, name in sorted(self._categories.items())]


def _outline(found: Found, width: int, height: int) -> list[float]:
    """Return the polygon of a box: programs that make masks of COCO fail at an annotation without one."""
    if found.corners is None:
        left, top, right, bottom = pixel_box(found, width, height)
        return [left, top, right, top, right, bottom, left, bottom]
    return [side for point in _pixel_corners(found.corners, width, height) for side in point]


def _pixel_corners(corners: Sequence[float], width: int, height: int) -> list[list[float]]:
    return [[round(x * width, 2), round(y * height, 2)] for x, y in zip(corners[::2], corners[1::2], strict=True)]


def _number(value: float) -> str:
    """Write a number without zeros at its end, never with an exponent."""
    return f"{value:.6f}".rstrip("0").rstrip(".") or "0"


def _add(parent: Element, name: str, value: object) -> None:
    SubElement(parent, name).text = str(value).translate(_NO_XML)


def compared(first: ResultFile, second: ResultFile, outcome: Comparison) -> dict[str, Any]:
    """Return what two jobs found in one picture (a ComparedFile); detections are as in the format json."""
    size = first.file.image.width, first.file.image.height
    return {
        "filename": first.file.filename,
        "first_file_id": first.file.file_id,
        "second_file_id": second.file.file_id,
        "both": len(outcome.both),
        "relabelled": [
            {"first": _detection(one, *size), "second": _detection(other, *size), "iou": round(overlap, 4)}
            for one, other, overlap in outcome.relabelled
        ],
        "only_first": [_detection(each, *size) for each in outcome.only_first],
        "only_second": [_detection(each, *size) for each in outcome.only_second],
    }
