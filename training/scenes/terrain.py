"""Paints open country: fields, forest, water and their edges."""

from collections.abc import Callable

import cv2
import numpy as np

from training.scenes import textures
from training.scenes.ground import (
    OPEN,
    ROAD,
    TREE,
    WATER,
    Colour,
    Ground,
    blocks,
    darken,
    paint_mask,
    paint_polygon,
    vary,
)
from training.scenes.spec import Mask
from training.scenes.textures import Field

# Noise fields are made at a quarter of the size: their features are large, and this is sixteen times cheaper.
SHRINK = 4

_FIELD_KINDS: tuple[tuple[str, Colour, float], ...] = (
    ("furrow", (52, 110, 84), 0.22),
    ("furrow", (70, 140, 120), 0.20),
    ("furrow", (110, 165, 190), 0.16),
    ("furrow", (70, 98, 128), 0.20),
    ("grass", (58, 118, 88), 0.25),
    ("grass", (75, 135, 125), 0.25),
    ("gravel", (82, 112, 142), 0.18),
    ("gravel", (60, 75, 92), 0.20),
)

_BASES: dict[str, tuple[tuple[str, Colour, float], ...]] = {
    "rural": (("grass", (62, 115, 92), 0.30), ("grass", (80, 135, 130), 0.28)),
    "forest": (("grass", (48, 92, 72), 0.35), ("gravel", (62, 90, 92), 0.30)),
    "coast": (("sand", (150, 188, 208), 0.12), ("grass", (70, 120, 100), 0.28), ("gravel", (120, 132, 140), 0.22)),
    "river": (("grass", (65, 118, 95), 0.30), ("gravel", (110, 128, 140), 0.20)),
    "urban": (("grass", (70, 112, 95), 0.28), ("gravel", (118, 128, 132), 0.15)),
    "arid": (("sand", (128, 168, 200), 0.13), ("gravel", (98, 130, 165), 0.20), ("gravel", (88, 105, 118), 0.25)),
}

_WATERS: tuple[Colour, ...] = ((112, 82, 45), (95, 88, 40), (82, 78, 58), (120, 110, 62), (62, 66, 58), (70, 55, 30))


def _quarter(ground: Ground, make: Callable[[int, int], Field]) -> Field:
    rows, cols = ground.height // SHRINK + 1, ground.width // SHRINK + 1
    return make(rows, cols)


def _enlarge(ground: Ground, field: Field) -> Field:
    return np.asarray(cv2.resize(field, (ground.width, ground.height), interpolation=cv2.INTER_LINEAR), np.float32)


def paint_base(ground: Ground, theme: str) -> None:
    """Cover everything with one soil, broken by patches of a second."""
    rng = ground.rng
    options = _BASES[theme]
    everything: Mask = np.full(ground.kind.shape, 255, np.uint8)
    first = options[int(rng.integers(len(options)))]
    paint_mask(
        ground, everything, first[0], vary(rng, first[1]), amplitude=first[2], hue=6, zoom=float(rng.uniform(0.8, 1.6))
    )
    second = options[int(rng.integers(len(options)))]
    noise = _quarter(ground, lambda rows, cols: textures.fractal_noise(rng, rows, cols, 25 * ground.metre / SHRINK, 5))
    patches: Mask = (_enlarge(ground, noise) > rng.uniform(0.2, 1.2)).astype(np.uint8)
    paint_mask(
        ground, patches, second[0], vary(rng, second[1], 0.2), amplitude=second[2], zoom=float(rng.uniform(0.7, 1.4))
    )


def paint_fields(ground: Ground) -> None:
    """Paint a turned, uneven grid of crops and bare soil."""
    rng = ground.rng
    angle = float(rng.uniform(0, np.pi))
    reach = float(np.hypot(ground.width, ground.height)) / 2
    cell = float(rng.uniform(35, 90)) * ground.metre
    cuts = [np.cumsum(rng.uniform(0.5, 1.7, int(2 * reach / cell) + 3)) * cell - reach - cell for _ in range(2)]
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre = (ground.width / 2, ground.height / 2)
    margin = float(rng.uniform(0.5, 2.5)) * ground.metre
    for left, right in zip(cuts[0][:-1], cuts[0][1:], strict=True):
        for top, bottom in zip(cuts[1][:-1], cuts[1][1:], strict=True):
            if rng.random() < 0.15:
                continue
            texture, base, amplitude = _FIELD_KINDS[int(rng.integers(len(_FIELD_KINDS)))]
            corners = np.array(
                [[left, top], [right - margin, top], [right - margin, bottom - margin], [left, bottom - margin]]
            )
            along = angle + (np.pi / 2 if rng.random() < 0.5 else 0.0)
            paint_polygon(
                ground, corners @ turn + centre, texture, vary(rng, base, 0.2), amplitude=amplitude, angle=-along
            )


def paint_forest(ground: Ground, cover: float) -> None:
    """Paint woods over about `cover` of the picture, with their shade."""
    rng = ground.rng
    noise = _quarter(ground, lambda rows, cols: textures.fractal_noise(rng, rows, cols, 45 * ground.metre / SHRINK, 5))
    field = _enlarge(ground, noise)
    mask: Mask = ((field > np.quantile(noise, 1 - cover)) & (ground.kind != WATER)).astype(np.uint8) * 255
    shift = np.array([[1, 0, ground.sun.dx], [0, 1, ground.sun.dy]], np.float32)
    shift[:, 2] *= 6 * ground.metre * ground.sun.reach
    shade = cv2.warpAffine(mask, shift, (ground.width, ground.height), flags=cv2.INTER_NEAREST)
    darken_where = cv2.bitwise_and(shade, cv2.bitwise_not(mask)).astype(np.uint8)
    if rng.random() < 0.5:
        # Light falls through the leaves.
        leaves = textures.TexturePlacement.at_random("foliage", rng, zoom=2.0).cut(ground.height, ground.width)
        darken_where[leaves > int(rng.integers(120, 190))] = 0
    for window in blocks(ground):
        darken(ground.image[window], darken_where[window], ground.sun.strength)
    base = vary(rng, ((40, 78, 58), (48, 92, 82), (42, 70, 50))[int(rng.integers(3))], 0.2)
    paint_mask(
        ground,
        mask,
        "canopy" if rng.random() < 0.6 else "foliage",
        base,
        amplitude=0.75,
        hue=8,
        zoom=float(np.clip(ground.metre / 4.0, 0.7, 2.0) * rng.uniform(0.8, 1.2)),
        kind=TREE,
    )


def water_field(ground: Ground, theme: str) -> Field:
    """Return a field that is positive on water: sea on one side, a river band, or lakes; a quarter of the size."""
    rng = ground.rng
    rows, cols = ground.height // SHRINK + 1, ground.width // SHRINK + 1
    ys, xs = np.mgrid[0:rows, 0:cols].astype(np.float32)
    span = float(max(rows, cols))
    angle = float(rng.uniform(0, 2 * np.pi))
    across = ((xs - cols / 2) * np.cos(angle) + (ys - rows / 2) * np.sin(angle)) / span
    wobble = textures.fractal_noise(rng, rows, cols, span * 0.35, 6)
    if theme == "coast":
        return np.asarray(across - rng.uniform(-0.25, 0.15) + 0.05 * wobble, np.float32)
    if theme == "river":
        breadth = float(np.clip(rng.uniform(18, 60) * ground.metre / SHRINK / span, 0.06, 0.3))
        return np.asarray(breadth - np.abs(across + 0.09 * wobble + rng.uniform(-0.2, 0.2)), np.float32)
    return np.asarray(0.12 * (wobble - rng.uniform(1.0, 1.7)), np.float32)


def paint_water(ground: Ground, theme: str) -> None:
    """Paint water with a wet shore, shallows, foam and glitter."""
    rng = ground.rng
    coarse = water_field(ground, theme)
    field = _enlarge(ground, coarse)
    unit = 1.0 / max(ground.width, ground.height)
    wet: Mask = ((field > -4 * ground.metre * unit) & (field <= 0)).astype(np.uint8) * 255
    for window in blocks(ground):
        darken(ground.image[window], wet[window], 0.25)
    water: Mask = (field > 0).astype(np.uint8)
    base = vary(rng, _WATERS[int(rng.integers(len(_WATERS)))], 0.25)
    paint_mask(
        ground,
        water,
        "ripples",
        base,
        amplitude=float(rng.uniform(0.08, 0.4)),
        zoom=float(rng.uniform(0.7, 1.8)),
        kind=WATER,
    )
    _pale_shallows(ground, field, float(rng.uniform(3, 18)) * ground.metre * unit)
    _foam_and_glitter(ground, coarse, field)


def paint_litter(ground: Ground) -> None:
    """Paint specks of a pixel or two on dry land: stones, flowers, rubbish, dead leaves."""
    rng = ground.rng
    grey = textures.TexturePlacement.at_random("sensor", rng, zoom=float(rng.uniform(0.9, 1.8))).cut(
        ground.height, ground.width
    )
    patches = textures.fractal_noise(rng, ground.height // 16 + 1, ground.width // 16 + 1, 40, 4)
    where = cv2.resize(patches, (ground.width, ground.height), interpolation=cv2.INTER_LINEAR) * 20 + grey
    dry = (ground.kind == OPEN) | (ground.kind == ROAD)
    ground.image[(where > rng.uniform(225, 260)) & dry] = np.asarray(vary(rng, (190, 200, 200), 0.25), np.uint8)
    ground.image[(where < rng.uniform(-5, 30)) & dry] = np.asarray(vary(rng, (60, 65, 65), 0.3), np.uint8)


def _pale_shallows(ground: Ground, field: Field, depth: float) -> None:
    pale = np.asarray(vary(ground.rng, (140, 150, 105), 0.15), np.float32)
    for window in blocks(ground):
        weight = 0.55 * np.clip(1.0 - field[window] / depth, 0, 1) * (field[window] > 0)
        if weight.any():
            part = ground.image[window]
            part[:] = part + weight[:, :, None] * (pale - part)


def _foam_and_glitter(ground: Ground, coarse: Field, field: Field) -> None:
    rng = ground.rng
    rows, cols = coarse.shape
    unit = 1.0 / max(ground.width, ground.height)
    if rng.random() < 0.6:
        span = 6 * ground.metre * unit
        breakers = np.sin(coarse / span * np.pi) + 0.7 * textures.fractal_noise(rng, rows, cols, 30, 4)
        near = (coarse > 0) & (coarse < rng.uniform(2, 14) * ground.metre * unit)
        foam = _enlarge(ground, (near * (breakers - 0.9)).astype(np.float32)) > 0.05
        paint_mask(ground, (foam & (field > 0)).astype(np.uint8), "gravel", (232, 236, 232), amplitude=0.25)
    if rng.random() < 0.5:
        lit = textures.fractal_noise(rng, rows, cols, max(rows, cols) * 0.3, 3)
        grey = textures.TexturePlacement.at_random("sensor", rng, zoom=1.3).cut(ground.height, ground.width)
        sparkle = (_enlarge(ground, lit) * 22 + grey > rng.uniform(215, 245)) & (ground.kind == WATER)
        ground.image[sparkle] = 240
