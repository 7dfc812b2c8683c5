"""Says how far the results on own pictures can be trusted, by what the model card says that the model was tested on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from detectors.card.card import ClassCard, ModelCard
from infra.texts import counted
from schemas.events import DetectionsMade

# So many of the objects in a picture must be outside the range of the card before it is called unlike its pictures.
_SHARE = 0.5
_MOST_NAMED = 10


def describe_trust(card: ModelCard, events: Iterable[DetectionsMade]) -> list[str]:
    """Return lines for people: which classes were tested on photographs, and which pictures are unlike those."""
    lines = list(_evidence(card.classes))
    unlike = [line for event in events for line in _differences(card, event)]
    lines += unlike[:_MOST_NAMED]
    if len(unlike) > _MOST_NAMED:
        lines.append(f"and {counted(len(unlike) - _MOST_NAMED, 'more picture')} like these")
    return lines


def _evidence(classes: Iterable[ClassCard]) -> Iterator[str]:
    names: dict[str, list[str]] = {}
    for each in classes:
        if each.evidence is not None:
            names.setdefault(each.evidence, []).append(each.name)
    if not names:
        yield "the model card does not state what its classes were tested on; look at each result before you rely on it"
    if "photographs" in names:
        yield f"tested on photographs: {', '.join(names['photographs'])}"
    untested = names.get("drawn", []) + names.get("none", [])
    if untested:
        yield f"not tested on photographs: {', '.join(untested)}; look at each before you rely on it"


def _differences(card: ModelCard, event: DetectionsMade) -> Iterator[str]:
    name = event.original_filename or str(event.frame_id)
    known_gsd, known_px = card.tiling.gsd_m, card.tiling.object_px
    used = event.options.scales
    scales = used if isinstance(used, tuple) else (1.0,)
    gsd_m = event.gsd_m
    if known_gsd and gsd_m and not any(known_gsd[0] <= gsd_m / scale <= known_gsd[1] for scale in scales):
        yield (
            f"{name}: {gsd_m:.3g} m on the ground per pixel, the model was tested at {known_gsd[0]:g} to "
            f"{known_gsd[1]:g}; its results may be wrong"
        )
        return
    if known_px is None or not event.detections:
        return
    width, height = event.image.width, event.image.height
    sides = [
        max((each.box.x2 - each.box.x1) * width, (each.box.y2 - each.box.y1) * height) for each in event.detections
    ]
    large = sum(side * min(scales) > known_px[1] for side in sides)
    if large >= _SHARE * len(sides):
        yield (
            f"{name}: most boxes are larger than the {known_px[1]:g} px that the model was tested with; if its objects "
            "fill the picture, make it smaller or try another model"
        )
