"""Applies the effects of air and camera to a scene: cloud shadow, light, haze, blur, noise, JPEG."""

import cv2
import numpy as np

from training.scenes import textures
from training.scenes.spec import Image

_BAND = 256


def _shade_field(rng: np.random.Generator, height: int, width: int) -> textures.Field:
    """Return relative brightness, a sixteenth of the size: uneven light and, at times, cloud shadows."""
    rows, cols = height // 16 + 2, width // 16 + 2
    span = max(rows, cols)
    field = 1.0 + 0.05 * textures.fractal_noise(rng, rows, cols, span * 0.5, 4)
    if rng.random() < 0.35:
        cloud = textures.fractal_noise(rng, rows, cols, span * 0.6, 4)
        field *= 1.0 - rng.uniform(0.2, 0.45) * np.clip((cloud - rng.uniform(-0.3, 1.0)) * 4, 0, 1)
    return np.asarray(field, np.float32)


def expose(image: Image, rng: np.random.Generator) -> None:
    """Apply light, white balance, haze and sensor noise, in place, to (H, W, 3) BGR."""
    height, width = image.shape[:2]
    light = cv2.resize(_shade_field(rng, height, width), (width, height), interpolation=cv2.INTER_LINEAR)
    haze = float(rng.uniform(0.02, 0.35)) if rng.random() < 0.35 else 0.0
    gain = rng.uniform(0.7, 1.15) * rng.uniform(0.94, 1.06, 3) * (1 - haze)
    lift = haze * np.array([215.0, 210.0, 205.0]) + rng.uniform(-6, 6)
    noise = float(rng.uniform(0.5, 7.0)) / 42.0
    grain = cv2.cvtColor(textures.tile("sensor"), cv2.COLOR_GRAY2BGR)
    for channel in range(3):
        grain[:, :, channel] = np.roll(grain[:, :, channel], rng.integers(0, textures.TILE, 2), axis=(0, 1))
    wide = np.tile(grain, (1, width // textures.TILE + 2, 1)).astype(np.float32)
    wide = (wide - 128.0) * noise + lift.astype(np.float32)
    scale = gain.astype(np.float32)
    for top in range(0, height, _BAND):
        rows = slice(top, min(top + _BAND, height))
        count = rows.stop - rows.start
        start, left = int(rng.integers(0, textures.TILE - count + 1)), int(rng.integers(0, textures.TILE))
        exposed = image[rows] * (light[rows, :, None] * scale) + wide[start : start + count, left : left + width]
        image[rows] = cv2.convertScaleAbs(np.maximum(exposed, 0))


def blur(image: Image, rng: np.random.Generator) -> Image:
    """Apply lens softness or a little motion; at most about two pixels, so that boxes stay true."""
    choice = rng.random()
    if choice < 0.35:
        return cv2.GaussianBlur(image, (5, 5), float(rng.uniform(0.4, 1.0))).astype(np.uint8, copy=False)
    if choice < 0.5:
        angle = float(rng.uniform(0, np.pi))
        kernel = np.zeros((5, 5), np.float32)
        step = np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(0.8, 1.9)
        ends = [tuple(int(v) for v in np.round((2 + sign * step) * 16)) for sign in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_8, 4)
        return cv2.filter2D(image, -1, kernel / kernel.sum()).astype(np.uint8, copy=False)
    return image


def compress(image: Image, rng: np.random.Generator) -> Image:
    """Encode as JPEG at a camera's quality, and decode."""
    ok, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 97))])
    if not ok:
        raise ValueError(
            f"OpenCV could not encode a picture of shape {image.shape} as JPEG: check that it is uint8 BGR"
        )
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
