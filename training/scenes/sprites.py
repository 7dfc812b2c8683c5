"""Draws objects seen from above, several times too large and then shrunk, with their exact outlines."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.scenes.ground import Colour, Points, vary
from training.scenes.spec import BIRD, BOAT, PERSON, VEHICLE, Image, Mask

PAINTS: tuple[Colour, ...] = (
    (238, 238, 238),
    (205, 205, 205),
    (150, 150, 152),
    (78, 76, 74),
    (32, 30, 30),
    (42, 40, 175),
    (150, 82, 30),
    (95, 45, 25),
    (40, 190, 225),
    (60, 110, 45),
    (120, 160, 185),
    (30, 110, 225),
)
CLOTHES: tuple[Colour, ...] = (
    (235, 235, 235),
    (40, 40, 210),
    (200, 90, 30),
    (40, 210, 240),
    (30, 30, 32),
    (60, 150, 60),
    (170, 60, 160),
    (30, 120, 245),
    (200, 180, 60),
    (110, 60, 40),
)


@dataclass(frozen=True, eq=False)
class Sprite:
    """Holds a shrunk drawing.

    colour is (h, w, 3) uint8 BGR, alpha (h, w) uint8, (x, y) the picture position of its first pixel, box the exact
    outline xyxy in picture pixels, found before shrinking.
    """

    colour: Image
    alpha: Mask
    x: int
    y: int
    box: tuple[float, float, float, float]

    @property
    def longest(self) -> float:
        """The longer side of the box in pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


class Drawing:
    """Draws on a canvas around (x, y) in object coordinates: x forward, y to the left, in pixels of the picture."""

    def __init__(self, x: float, y: float, heading: float, reach: float, fill: Colour) -> None:
        self.oversample = 8 if reach < 14 else 4
        self._half = int(np.ceil(reach)) + 2
        self._origin = (int(np.floor(x)) - self._half, int(np.floor(y)) - self._half)
        self._centre = np.array([x - self._origin[0], y - self._origin[1]])
        side = 2 * self._half * self.oversample
        self._colour: Image = np.empty((side, side, 3), np.uint8)
        self._colour[:] = np.clip(fill, 0, 255)
        self._mask: Mask = np.zeros((side, side), np.uint8)
        self._turn = np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])

    def _place(self, points: Points) -> list[NDArray[np.int32]]:
        return [np.round((points @ self._turn + self._centre) * self.oversample).astype(np.int32)]

    def polygon(self, points: Points, tone: Colour) -> None:
        """Fill a polygon, (N, 2)."""
        at = self._place(points)
        cv2.fillPoly(self._colour, at, tone)
        cv2.fillPoly(self._mask, at, 255)

    def ellipse(self, x: float, y: float, length: float, breadth: float, tone: Colour) -> None:
        """Fill an ellipse with its axes along the object's."""
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        self.polygon(np.stack([x + np.cos(angles) * length / 2, y + np.sin(angles) * breadth / 2], axis=1), tone)

    def block(self, x: float, y: float, length: float, breadth: float, tone: Colour, corner: float = 0.0) -> None:
        """Fill a rectangle whose corners are cut off by `corner`."""
        a, b, c = length / 2, breadth / 2, corner
        outline = [
            (a, -b + c),
            (a, b - c),
            (a - c, b),
            (-a + c, b),
            (-a, b - c),
            (-a, -b + c),
            (-a + c, -b),
            (a - c, -b),
        ]
        self.polygon(np.array(outline, np.float64) + np.array([x, y]), tone)

    def finish(self) -> Sprite:
        """Shrink to picture pixels."""
        rows, cols = np.flatnonzero(self._mask.any(axis=1)), np.flatnonzero(self._mask.any(axis=0))
        left, top = self._origin
        scale = self.oversample
        box = (
            left + cols[0] / scale,
            top + rows[0] / scale,
            left + (cols[-1] + 1) / scale,
            top + (rows[-1] + 1) / scale,
        )
        size = (2 * self._half, 2 * self._half)
        colour = cv2.resize(self._colour, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        alpha = cv2.resize(self._mask, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        return Sprite(colour, alpha, left, top, (float(box[0]), float(box[1]), float(box[2]), float(box[3])))


def _scaled(tone: Colour, factor: float) -> Colour:
    return min(255.0, tone[0] * factor), min(255.0, tone[1] * factor), min(255.0, tone[2] * factor)


def _vehicle(rng: np.random.Generator, x: float, y: float, heading: float, size: float, tone: Colour) -> Sprite:
    kind = rng.choice(["car", "car", "car", "van", "pickup", "truck"])
    glass: Colour = vary(rng, (58, 48, 42), 0.3)
    breadth = size * float(rng.uniform(0.40, 0.47) if kind in ("car", "pickup") else rng.uniform(0.30, 0.42))
    drawing = Drawing(x, y, heading, size * 0.62, tone)
    if kind == "truck":
        drawing.block(-0.12 * size, 0, 0.76 * size, breadth, vary(rng, PAINTS[int(rng.integers(4))], 0.15))
        drawing.block(0.39 * size, 0, 0.22 * size, breadth * 0.94, tone, 0.03 * size)
        drawing.block(0.45 * size, 0, 0.05 * size, breadth * 0.8, glass)
        return drawing.finish()
    drawing.block(0, 0, size, breadth, tone, 0.07 * size)
    drawing.block(0.42 * size, 0, 0.13 * size, breadth * 0.8, _scaled(tone, 0.88))
    if kind == "pickup":
        drawing.block(-0.27 * size, 0, 0.38 * size, breadth * 0.8, _scaled(tone, 0.45))
        drawing.block(0.14 * size, 0, 0.1 * size, breadth * 0.82, glass)
        return drawing.finish()
    front, rear = (0.34, -0.45) if kind == "van" else (float(rng.uniform(0.14, 0.22)), float(rng.uniform(-0.40, -0.30)))
    drawing.block((front + rear) / 2 * size, 0, (front - rear + 0.12) * size, breadth * 0.86, glass, 0.03 * size)
    drawing.block(
        (front + rear) / 2 * size - 0.02 * size, 0, (front - rear - 0.1) * size, breadth * 0.72, _scaled(tone, 1.08)
    )
    return drawing.finish()


def _boat(rng: np.random.Generator, x: float, y: float, heading: float, size: float, tone: Colour) -> Sprite:
    breadth = size * float(rng.uniform(0.28, 0.42))
    stern = float(rng.uniform(0.6, 0.95))
    drawing = Drawing(x, y, heading, size * 0.62, tone)
    along = np.array([0.5, 0.36, 0.12, -0.2, -0.5])
    beam = np.array([0.0, 0.26, 0.46, 0.5, 0.5 * stern])
    hull = np.concatenate([np.stack([along, beam], 1), np.stack([along, -beam], 1)[::-1]]) * (size, breadth)
    drawing.polygon(hull, tone)
    deck = ((170, 190, 205), (120, 150, 175), (225, 228, 228), (95, 110, 120))[int(rng.integers(4))]
    drawing.polygon(hull * 0.78, vary(rng, deck, 0.12))
    style = rng.random()
    if style < 0.4:
        drawing.block(
            float(rng.uniform(-0.15, 0.05)) * size, 0, 0.3 * size, breadth * 0.6, (235, 236, 236), 0.04 * size
        )
        drawing.block(0.1 * size, 0, 0.07 * size, breadth * 0.55, (60, 48, 40))
    elif style < 0.65:
        drawing.block(-0.1 * size, 0, 0.75 * size, max(0.8, 0.03 * size), (225, 225, 225))
        drawing.ellipse(0.15 * size, 0, 0.06 * size, 0.06 * size, (40, 40, 40))
    else:
        for at in (-0.3, -0.08, 0.14):
            drawing.block(at * size, 0, 0.06 * size, breadth * 0.75, vary(rng, (70, 95, 120), 0.2))
        if rng.random() < 0.5:
            drawing.block(-0.5 * size, 0, 0.1 * size, 0.1 * size, (35, 35, 38))
    return drawing.finish()


def _person(rng: np.random.Generator, x: float, y: float, heading: float, size: float, tone: Colour) -> Sprite:
    skin: Colour = vary(rng, ((120, 150, 205), (85, 115, 165), (55, 75, 110))[int(rng.integers(3))], 0.12)
    hair: Colour = vary(rng, ((30, 35, 40), (45, 70, 100), (90, 150, 190), (170, 170, 170))[int(rng.integers(4))], 0.15)
    drawing = Drawing(x, y, heading, size * 0.66, tone)
    stride = float(rng.uniform(-0.3, 0.3)) * size
    legs = vary(rng, (75, 60, 45), 0.4)
    drawing.ellipse(stride, 0.14 * size, 0.3 * size, 0.17 * size, legs)
    drawing.ellipse(-stride, -0.14 * size, 0.3 * size, 0.17 * size, legs)
    for side in (-1, 1):
        swing = float(rng.uniform(-0.25, 0.3)) * size
        drawing.ellipse(swing * 0.6, side * 0.40 * size, abs(swing) * 0.8 + 0.18 * size, 0.17 * size, tone)
        drawing.ellipse(swing, side * 0.42 * size, 0.13 * size, 0.13 * size, skin)
    drawing.ellipse(0, 0, 0.38 * size, 0.86 * size, tone)
    if rng.random() < 0.2:
        drawing.block(
            -0.18 * size,
            0,
            0.26 * size,
            0.36 * size,
            vary(rng, PAINTS[int(rng.integers(len(PAINTS)))], 0.2),
            0.05 * size,
        )
    drawing.ellipse(0.04 * size, 0, 0.32 * size, 0.28 * size, hair)
    return drawing.finish()


def _bird(rng: np.random.Generator, x: float, y: float, heading: float, size: float, tone: Colour) -> Sprite:
    drawing = Drawing(x, y, heading, size * 0.66, tone)
    sweep, flap = float(rng.uniform(-0.05, 0.22)) * size, float(rng.uniform(0.75, 1.0))
    tips = vary(rng, (45, 45, 45), 0.3) if rng.random() < 0.6 else _scaled(tone, 0.75)
    for side in (-1.0, 1.0):
        reach = 0.5 * size * flap * side
        wing = np.array(
            [
                (0.10 * size, 0),
                (0.17 * size, 0.45 * reach),
                (0.02 * size - sweep, reach),
                (-0.05 * size, 0.5 * reach),
                (-0.10 * size, 0),
            ]
        )
        drawing.polygon(wing, tone)
        tip = wing[2]
        drawing.polygon(np.array([tip, 0.65 * tip + 0.35 * wing[1], 0.65 * tip + 0.35 * wing[3]]), tips)
    body = _scaled(tone, float(rng.uniform(0.75, 1.1)))
    drawing.ellipse(0.02 * size, 0, 0.5 * size, 0.14 * size, body)
    drawing.polygon(np.array([(-0.18, 0), (-0.38, 0.10), (-0.38, -0.10)]) * size, body)
    drawing.ellipse(0.27 * size, 0, 0.11 * size, 0.1 * size, body)
    drawing.polygon(np.array([(0.31, 0.025), (0.31, -0.025), (0.38, 0)]) * size, (40, 150, 220))
    return drawing.finish()


_TONES: dict[int, tuple[Colour, ...]] = {
    VEHICLE: PAINTS,
    BOAT: (
        (240, 240, 240),
        (235, 232, 225),
        (60, 50, 180),
        (150, 75, 30),
        (70, 95, 130),
        (60, 60, 60),
        (40, 170, 225),
        (90, 130, 60),
    ),
    PERSON: CLOTHES,
    BIRD: ((240, 240, 240), (225, 228, 228), (150, 150, 150), (40, 38, 36), (60, 85, 115)),
}
_DRAW = {VEHICLE: _vehicle, BOAT: _boat, PERSON: _person, BIRD: _bird}


def tone_against(rng: np.random.Generator, label: int, background: NDArray[np.float64], contrast: float) -> Colour:
    """Return a colour of the class that differs from the background, (3,) BGR, by `contrast` in a channel, if any."""
    best: Colour = (0.0, 0.0, 0.0)
    best_distance = -1.0
    for _ in range(6):
        tone = vary(rng, _TONES[label][int(rng.integers(len(_TONES[label])))], 0.12)
        distance = float(np.abs(np.asarray(tone) - background).max())
        if distance > best_distance:
            best, best_distance = tone, distance
        if distance >= contrast:
            break
    return best


def draw_object(
    rng: np.random.Generator, label: int, x: float, y: float, heading: float, size: float, tone: Colour
) -> Sprite:
    """Draw one labelled object of about `size` pixels at (x, y)."""
    return _DRAW[label](rng, x, y, heading, size, tone)
