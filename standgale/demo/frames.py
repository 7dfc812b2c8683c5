"""Makes the demonstration's frames: from simulated flights with ground truth, a folder of pictures, or a video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ingest.settings import GatewaySettings
from schemas.geometry import Box
from standgale.demo.source import Source
from standgale.videos import open_video
from training.scenes.flight import Flight
from training.scenes.spec import CLASS_NAMES

_JPEG_QUALITY = 90
_VIDEO_FRAMES_PER_S = 2.0


@dataclass(frozen=True, slots=True)
class TruthBox:
    """Describes one object that really is in a frame."""

    label: str
    box: Box


@dataclass(frozen=True, slots=True)
class DemoFrame:
    """Holds an encoded frame for the gateway; ``truth`` is None when its objects are unknown."""

    device_id: str
    data: bytes
    media_type: str
    name: str
    truth: tuple[TruthBox, ...] | None


def flight_frames(device_id: str, seed: int, frames: int, size: tuple[int, int]) -> Iterator[DemoFrame]:
    """Yield the frames of one simulated drone, ``size`` (width, height) in pixels; each is rendered when needed."""
    for number, scene in enumerate(Flight(seed=seed, frame_size=size, frames=frames)):
        truth = tuple(
            TruthBox(CLASS_NAMES[label], _normalised(box, size))
            for box, label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True)
        )
        yield DemoFrame(device_id, _jpeg(scene.image), "image/jpeg", f"{device_id}-{number:05}.jpg", truth)


def source_frames(source: Source, device_id: str, most: int) -> Iterator[DemoFrame]:
    """Yield up to ``most`` frames of the pictures (unchanged) or the video (two per second of play time)."""
    for path in source.pictures[:most]:
        suffix = path.suffix[1:].lower()
        media_type = "image/" + {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix)
        yield DemoFrame(device_id, path.read_bytes(), media_type, path.name, None)
    if source.video is not None:
        yield from _video_frames(source.video, device_id, most)


def _video_frames(source: Path, device_id: str, most: int) -> Iterator[DemoFrame]:
    # The size was checked before anything started.
    with open_video(source, GatewaySettings().max_pixels) as video:
        step = max(1, round((video.frames_per_s or _VIDEO_FRAMES_PER_S) / _VIDEO_FRAMES_PER_S))
        for frame in islice(video.read(step), most):
            yield DemoFrame(device_id, _jpeg(frame.image), "image/jpeg", f"{source.stem}-{frame.number:06}.jpg", None)


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    encoded, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not encoded:
        raise ValueError(f"OpenCV could not encode an image of shape {image.shape}")
    return data.tobytes()


def _normalised(box: list[float], size: tuple[int, int]) -> Box:
    width, height = size
    return Box(x1=box[0] / width, y1=box[1] / height, x2=box[2] / width, y2=box[3] / height)
