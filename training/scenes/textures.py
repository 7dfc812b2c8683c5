"""Makes the grey texture tiles and smooth noise that terrain is painted with."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from training.scenes.spec import Image, Mask

TILE = 1024
Field = NDArray[np.float32]


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> Field:
    """Make noise of about unit deviation whose features are `cell` pixels large; (height, width) float32."""
    rows, cols = int(height / cell) + 3, int(width / cell) + 3
    coarse = rng.standard_normal((rows, cols), dtype=np.float32)
    size = (max(width, int(cols * cell)), max(height, int(rows * cell)))
    return np.ascontiguousarray(
        cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)[:height, :width], dtype=np.float32
    )


def fractal_noise(rng: np.random.Generator, height: int, width: int, cell: float, octaves: int = 4) -> Field:
    """Make octaves of smooth noise from `cell` pixels downwards, unit deviation; (height, width) float32."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        total += smooth_noise(rng, height, width, max(1.0, cell / 2**octave)) * np.float32(0.55**octave)
    return total / np.float32(max(float(total.std()), 1e-6))


def _to_tile(field: Field) -> Image:
    unit = (field - field.mean()) / max(float(field.std()), 1e-6)
    return np.asarray(np.clip(128.0 + unit * 42.0, 0, 255), np.uint8)


def _grain(rng: np.random.Generator, cell: float, fine: float) -> Field:
    return fractal_noise(rng, TILE, TILE, cell, 4) + np.float32(fine) * rng.standard_normal(
        (TILE, TILE), dtype=np.float32
    )


def _grass(rng: np.random.Generator) -> Field:
    return _grain(rng, 24, 0.6)


def _gravel(rng: np.random.Generator) -> Field:
    return _grain(rng, 6, 1.0)


def _asphalt(rng: np.random.Generator) -> Field:
    return _grain(rng, 90, 0.7)


def _sand(rng: np.random.Generator) -> Field:
    ripples = np.sin(np.arange(TILE, dtype=np.float32)[:, None] / 3.1 + 2.5 * smooth_noise(rng, TILE, TILE, 70))
    return np.asarray(_grain(rng, 60, 0.4) + 0.5 * ripples, np.float32)


def _furrow(rng: np.random.Generator) -> Field:
    rows = np.sin(np.arange(TILE, dtype=np.float32)[:, None] / 1.9 + 0.5 * smooth_noise(rng, TILE, TILE, 200))
    gaps = smooth_noise(rng, TILE, TILE, 9)
    return np.asarray(rows * 1.1 + 0.5 * gaps + 0.4 * rng.standard_normal((TILE, TILE), dtype=np.float32), np.float32)


def _canopy(rng: np.random.Generator) -> Field:
    seeds = np.full((TILE, TILE), 255, np.uint8)
    points = rng.integers(0, TILE, (2600, 2))
    seeds[points[:, 1], points[:, 0]] = 0
    distance = cv2.distanceTransform(seeds, cv2.DIST_L2, 3)
    dome = np.clip(1.0 - distance / 13.0, 0.0, 1.0) ** 0.6
    lit = dome - np.roll(dome, (3, 4), axis=(0, 1))
    leaves = smooth_noise(rng, TILE, TILE, 2.5)
    return np.asarray(1.4 * dome + 2.2 * lit + 0.4 * leaves, np.float32)


def _foliage(rng: np.random.Generator) -> Field:
    leaves = smooth_noise(rng, TILE, TILE, 2.2) + smooth_noise(rng, TILE, TILE, 5)
    lit = leaves - np.roll(leaves, (2, 2), axis=(0, 1))
    return np.asarray(fractal_noise(rng, TILE, TILE, 26, 3) + 0.7 * leaves + 0.5 * lit, np.float32)


def _ripples(rng: np.random.Generator) -> Field:
    waves = smooth_noise(rng, TILE // 3, TILE, 5)
    tall = cv2.resize(waves, (TILE, TILE), interpolation=cv2.INTER_CUBIC).T
    small, large = smooth_noise(rng, TILE, TILE, 3), fractal_noise(rng, TILE, TILE, 120, 3)
    return np.asarray(tall + 0.8 * small + 0.9 * large, np.float32)


def _planks(rng: np.random.Generator) -> Field:
    period = 7
    boards = np.repeat(rng.standard_normal(TILE // period + 1).astype(np.float32), period)[:TILE, None]
    seams = (np.arange(TILE) % period == 0).astype(np.float32)[:, None]
    return np.asarray(
        0.7 * boards - 1.6 * seams + 0.4 * rng.standard_normal((TILE, TILE), dtype=np.float32), np.float32
    )


def _sensor(rng: np.random.Generator) -> Field:
    return rng.standard_normal((TILE, TILE), dtype=np.float32)


_MAKERS: dict[str, Callable[[np.random.Generator], Field]] = {
    "grass": _grass,
    "gravel": _gravel,
    "asphalt": _asphalt,
    "sand": _sand,
    "furrow": _furrow,
    "canopy": _canopy,
    "foliage": _foliage,
    "ripples": _ripples,
    "planks": _planks,
    "sensor": _sensor,
}


@cache
def tile(name: str) -> Image:
    """Return the named texture, (TILE, TILE) uint8 around 128; always the same, so scenes vary by its placement."""
    return _to_tile(_MAKERS[name](np.random.default_rng([20_011, sorted(_MAKERS).index(name)])))


@dataclass(frozen=True)
class TexturePlacement:
    """Places a texture over a picture: turned, zoomed, shifted, and repeated by mirroring."""

    name: str
    angle_rad: float
    zoom: float
    shift: tuple[float, float]

    @classmethod
    def at_random(
        cls, name: str, rng: np.random.Generator, *, angle_rad: float | None = None, zoom: float = 1.0
    ) -> "TexturePlacement":
        """Place the named texture at a random position, and at a random angle unless one is given."""
        angle = float(rng.uniform(0, 2 * np.pi)) if angle_rad is None else angle_rad
        return cls(name, angle, zoom, (float(rng.uniform(0, TILE)), float(rng.uniform(0, TILE))))

    def cut(self, height: int, width: int, left: int = 0, top: int = 0) -> Image:
        """Return the part of size (height, width) whose upper left pixel is (left, top)."""
        cos, sin = np.cos(self.angle_rad) / self.zoom, np.sin(self.angle_rad) / self.zoom
        x, y = self.shift[0] + cos * left - sin * top, self.shift[1] + sin * left + cos * top
        matrix = np.array([[cos, -sin, x], [sin, cos, y]], np.float64)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(tile(self.name), matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)
        return warped.astype(np.uint8, copy=False)


def colour(texture: Image, base: tuple[float, float, float], amplitude: float, hue: float = 0.0) -> Image:
    """Turn a grey texture into BGR around `base`; amplitude is the relative swing, hue tints lights against darks."""
    swing = (np.arange(256, dtype=np.float32) - 128.0) / 128.0
    ramp = np.asarray(base, np.float32) * (1.0 + amplitude * swing[:, None])
    ramp += swing[:, None] * np.array([-hue, 0.2 * hue, hue], np.float32)
    table = np.clip(ramp, 0, 255).astype(np.uint8).reshape(256, 1, 3)
    return cv2.applyColorMap(texture, table).astype(np.uint8, copy=False)


def blend_mask(image: Image, paint: Image, mask: Mask) -> None:
    """Copy paint into image, both (H, W, 3), where mask is set."""
    cv2.copyTo(paint, mask, image)
