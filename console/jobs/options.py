"""Converts the options of a job into what the events of its frames ask of a detector."""

from __future__ import annotations

from console.jobs.config import JobConfig
from schemas.event_base import ModelRef
from schemas.events import DetectOptions


def detect_options(config: JobConfig) -> DetectOptions:
    """Return the options of frames; for what ``config`` leaves out, the model's card decides."""
    slicing, merging = config.sahi, config.merging
    given: dict[str, object] = {
        "confidence": config.confidence_threshold,
        "iou": config.iou_threshold,
        "min_box_px": config.min_box_px,
        "whole_frame": config.whole_frame,
        "prompt": config.prompt,
    }
    if slicing is not None:
        if not slicing.enabled:
            given["mode"] = "whole"
        else:
            sides = (slicing.slice_width, slicing.slice_height)
            # With one side given, slices are square; with none, the card says how pictures are cut, unless it is not
            # at all.
            given["tile_width"], given["tile_height"] = sides[0] or sides[1], sides[1] or sides[0]
            given["overlap"] = slicing.overlap_ratio
            if any(sides):
                given["mode"] = "fixed"
    if merging is not None:
        given["merge_method"] = merging.method
        given["merge_metric"] = merging.metric
        given["merge_threshold"] = merging.threshold
    return DetectOptions.model_validate({name: value for name, value in given.items() if value is not None})


def model_of(config: JobConfig) -> ModelRef | None:
    """Return the model version that the job asks for; None: the one that is active."""
    return None if config.model is None else ModelRef(name=config.model.name, version=config.model.version)
