"""Changes colours, brightness and sharpness of a crop at random, as cameras, weather and compression do."""

import cv2
import numpy as np

from training.scenes.spec import Image


def vary_light(image: Image, rng: np.random.Generator) -> Image:
    """Return an image (H, W, 3) uint8 BGR with another hue, saturation, gamma, sharpness or noise; often the same."""
    if rng.random() < 0.3:
        image = _other_colours(image, rng)
    if rng.random() < 0.4:
        levels = 255 * (np.arange(256) / 255) ** rng.uniform(0.6, 1.6)
        image = cv2.LUT(image, levels.astype(np.uint8)).astype(np.uint8)
    kind = rng.random()
    if kind < 0.08:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.3)).astype(np.uint8)
    elif kind < 0.16:
        image = _compressed(image, int(rng.integers(35, 85)))
    elif kind < 0.24:
        noise = rng.normal(0, rng.uniform(2, 9), image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.04:
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        image = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR).astype(np.uint8)
    return np.ascontiguousarray(image)


def _other_colours(image: Image, rng: np.random.Generator) -> Image:
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(np.int16)
    hsv[..., 0] = (hsv[..., 0] + int(rng.integers(-8, 9))) % 180
    hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.5, 1.6), 0, 255)
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR).astype(np.uint8)


def _compressed(image: Image, quality: int) -> Image:
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"OpenCV cannot write {image.shape} as JPEG")
    read = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert read is not None, "what OpenCV has just written it can read"
    return read.astype(np.uint8)
