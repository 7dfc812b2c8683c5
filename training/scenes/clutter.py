"""Draws distractors that look like objects and are not labelled: rocks, bushes, bales, tyres, crates, foam."""

import numpy as np

from training.scenes.ground import Colour, vary
from training.scenes.sprites import Drawing, Sprite

LAND = ("rock", "rock", "bush", "bush", "bale", "tyre", "crate", "sign", "log", "puddle")
SEA = ("foam", "foam", "rock", "buoy", "weed", "log")


def _blob(
    rng: np.random.Generator, x: float, y: float, size: float, tone: Colour, *, rough: float, lit: float
) -> Sprite:
    drawing = Drawing(x, y, float(rng.uniform(0, 6.3)), size * 0.8, tone)
    angles = np.linspace(0, 2 * np.pi, 11, endpoint=False)
    radius = 0.5 * size * rng.uniform(1 - rough, 1.0, 11)
    outline = np.stack([np.cos(angles) * radius, np.sin(angles) * radius * rng.uniform(0.55, 1.0)], axis=1)
    drawing.polygon(outline, tone)
    for _ in range(int(rng.integers(1, 4))):
        part = outline * rng.uniform(0.3, 0.6) + rng.uniform(-0.15, 0.15, 2) * size
        drawing.polygon(part, vary(rng, (tone[0] * lit, tone[1] * lit, tone[2] * lit), 0.1))
    return drawing.finish()


def _bale(rng: np.random.Generator, x: float, y: float, size: float) -> Sprite:
    tone = vary(rng, (95, 160, 190), 0.15)
    drawing = Drawing(x, y, float(rng.uniform(0, 6.3)), size * 0.7, tone)
    drawing.block(0, 0, size, size * float(rng.uniform(0.6, 0.9)), tone, 0.05 * size)
    for at in (-0.25, 0.0, 0.25):
        drawing.block(at * size, 0, 0.04 * size, size * 0.6, (tone[0] * 0.8, tone[1] * 0.8, tone[2] * 0.8))
    return drawing.finish()


def _tyre(rng: np.random.Generator, x: float, y: float, size: float) -> Sprite:
    drawing = Drawing(x, y, 0.0, size * 0.6, (30, 30, 30))
    drawing.ellipse(0, 0, size, size * float(rng.uniform(0.85, 1.0)), vary(rng, (34, 34, 36), 0.2))
    drawing.ellipse(0, 0, size * 0.45, size * 0.45, vary(rng, (80, 105, 110), 0.3))
    return drawing.finish()


def _crate(rng: np.random.Generator, x: float, y: float, size: float) -> Sprite:
    tone = vary(rng, ((70, 105, 140), (110, 110, 110), (130, 160, 90))[int(rng.integers(3))], 0.2)
    drawing = Drawing(x, y, float(rng.uniform(0, 6.3)), size * 0.75, tone)
    drawing.block(0, 0, size, size * float(rng.uniform(0.7, 1.0)), tone)
    for at in (-0.3, -0.1, 0.1, 0.3):
        drawing.block(0, at * size * 0.8, size, 0.03 * size, (tone[0] * 0.6, tone[1] * 0.6, tone[2] * 0.6))
    return drawing.finish()


def _sign(rng: np.random.Generator, x: float, y: float, size: float) -> Sprite:
    tone = vary(rng, ((40, 40, 190), (180, 90, 30), (40, 190, 220), (235, 235, 235))[int(rng.integers(4))], 0.1)
    drawing = Drawing(x, y, float(rng.uniform(0, 6.3)), size * 0.6, tone)
    drawing.block(0, 0, max(1.0, 0.14 * size), size * 0.7, tone)
    drawing.ellipse(0, 0, 0.2 * size, 0.2 * size, (90, 90, 90))
    return drawing.finish()


def _log(rng: np.random.Generator, x: float, y: float, size: float) -> Sprite:
    tone = vary(rng, (65, 90, 115), 0.25)
    drawing = Drawing(x, y, float(rng.uniform(0, 6.3)), size * 0.7, tone)
    drawing.block(0, 0, size, size * float(rng.uniform(0.1, 0.2)), tone, 0.03 * size)
    drawing.block(0, 0.03 * size, size * 0.9, size * 0.04, (tone[0] * 1.3, tone[1] * 1.3, tone[2] * 1.3))
    return drawing.finish()


def _buoy(rng: np.random.Generator, x: float, y: float, size: float) -> Sprite:
    tone = vary(rng, ((30, 60, 220), (40, 140, 245), (235, 235, 235), (60, 140, 60))[int(rng.integers(4))], 0.1)
    drawing = Drawing(x, y, 0.0, size * 0.6, tone)
    drawing.ellipse(0, 0, size * 0.6, size * 0.6, tone)
    drawing.ellipse(0, 0, size * 0.2, size * 0.2, (tone[0] * 0.6, tone[1] * 0.6, tone[2] * 0.6))
    return drawing.finish()


def draw_clutter(rng: np.random.Generator, kind: str, x: float, y: float, size: float) -> Sprite:
    """Draw one distractor named in LAND or SEA, of about `size` pixels at (x, y)."""
    plain = {"bale": _bale, "tyre": _tyre, "crate": _crate, "sign": _sign, "log": _log, "buoy": _buoy}
    if kind in plain:
        return plain[kind](rng, x, y, size)
    tone, rough, lit = {
        "rock": ((120, 125, 130), 0.35, 1.25),
        "bush": ((48, 88, 66), 0.4, 1.3),
        "puddle": ((95, 88, 80), 0.5, 1.1),
        "foam": ((226, 230, 226), 0.7, 1.05),
        "weed": ((52, 70, 58), 0.6, 0.8),
    }[kind]
    return _blob(rng, x, y, size, vary(rng, tone, 0.25), rough=rough, lit=lit)
