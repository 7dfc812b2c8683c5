"""Places objects and clutter on the ground, with their shadows."""

from dataclasses import dataclass

import cv2
import numpy as np

from training.scenes.clutter import LAND, SEA, draw_clutter
from training.scenes.ground import OPEN, ROAD, TREE, WATER, Ground, Slot, darken
from training.scenes.spec import BIRD, BOAT, MAX_OBJECT_PX, MIN_OBJECT_PX, PERSON, VEHICLE
from training.scenes.sprites import Sprite, draw_object, tone_against

# Each try to seat an object is cheap; a scene without free places gets fewer objects.
_TRIES = 12
_LAND_KINDS = (OPEN, ROAD)


@dataclass(frozen=True)
class PlacedObject:
    """Holds a labelled object: exact box xyxy in pixels, and class index."""

    box: tuple[float, float, float, float]
    label: int


class Seats:
    """Keeps which boxes are taken, on a coarse grid, so that objects do not cover one another."""

    def __init__(self, width: int, height: int, cell: int = 4) -> None:
        self._cell = cell
        self._taken = np.zeros((height // cell + 1, width // cell + 1), np.bool_)

    def reserve(self, box: tuple[float, float, float, float], gap: float = 2.0) -> bool:
        """Reserve a box with a gap around it; False if any of it is taken."""
        left, top = max(0, int((box[0] - gap) // self._cell)), max(0, int((box[1] - gap) // self._cell))
        window = self._taken[top : int((box[3] + gap) // self._cell) + 1, left : int((box[2] + gap) // self._cell) + 1]
        if window.any():
            return False
        window[:] = True
        return True


def inside(ground: Ground, box: tuple[float, float, float, float]) -> bool:
    """Return whether a box is wholly inside the picture."""
    return box[0] >= 0 and box[1] >= 0 and box[2] <= ground.width and box[3] <= ground.height


def paste(ground: Ground, sprite: Sprite) -> None:
    """Set a sprite into the picture, cut at its borders."""
    height, width = sprite.alpha.shape
    left, top = max(0, sprite.x), max(0, sprite.y)
    right, bottom = min(ground.width, sprite.x + width), min(ground.height, sprite.y + height)
    if right <= left or bottom <= top:
        return
    cut = (slice(top - sprite.y, bottom - sprite.y), slice(left - sprite.x, right - sprite.x))
    weight = sprite.alpha[cut].astype(np.float32)[:, :, None] / 255.0
    window = ground.image[top:bottom, left:right]
    window[:] = (window * (1 - weight) + sprite.colour[cut] * weight + 0.5).astype(np.uint8)


def shade(ground: Ground, sprite: Sprite, near: float, far: float, soft: float = 0.0) -> None:
    """Paint the sprite's shadow: its outline swept from `near` to `far` pixels of height, blurred by `soft` pixels."""
    reach = ground.sun.reach
    pad = int(np.ceil(far * reach)) + 2
    mask = np.pad(sprite.alpha, pad)
    total = np.zeros_like(mask)
    steps = max(1, int(np.ceil((far - near) * reach / 1.5)))
    for height_px in np.linspace(near, far, steps + 1):
        move = np.array(
            [[1, 0, ground.sun.dx * reach * height_px], [0, 1, ground.sun.dy * reach * height_px]], np.float32
        )
        np.maximum(total, cv2.warpAffine(mask, move, (mask.shape[1], mask.shape[0])), out=total)
    if soft > 0.3:
        total = cv2.GaussianBlur(total, (0, 0), soft).astype(np.uint8, copy=False)
    left, top = sprite.x - pad, sprite.y - pad
    x, y = max(0, left), max(0, top)
    right, bottom = min(ground.width, left + total.shape[1]), min(ground.height, top + total.shape[0])
    if right > x and bottom > y:
        darken(
            ground.image[y:bottom, x:right], total[y - top : bottom - top, x - left : right - left], ground.sun.strength
        )


def _kind_at(ground: Ground, x: float, y: float) -> int:
    if not (0 <= x < ground.width and 0 <= y < ground.height):
        return -1
    return int(ground.kind[int(y), int(x)])


def _is_on(ground: Ground, sprite: Sprite, allowed: tuple[int, ...]) -> bool:
    x0, y0, x1, y1 = sprite.box
    spots = [(x0, y0), (x1, y0), (x0, y1), (x1, y1), ((x0 + x1) / 2, (y0 + y1) / 2)]
    return all(_kind_at(ground, min(x, ground.width - 1), min(y, ground.height - 1)) in allowed for x, y in spots)


def size_for(ground: Ground, label: int) -> float:
    """Return a size in pixels for the class at this scene's scale."""
    rng, car = ground.rng, 4.5 * ground.metre
    if label == VEHICLE:
        wanted = car * (rng.uniform(0.85, 1.2) if rng.random() < 0.85 else rng.uniform(1.4, 2.2))
    elif label == BOAT:
        wanted = car * np.exp(rng.uniform(np.log(0.7), np.log(2.6)))
    elif label == PERSON:
        wanted = car * rng.uniform(0.42, 0.62)
    else:
        wanted = car * np.exp(rng.uniform(np.log(0.5), np.log(1.15)))
    return float(np.clip(wanted, MIN_OBJECT_PX, MAX_OBJECT_PX * 0.96))


def _slot_for(ground: Ground, label: int) -> Slot:
    rng = ground.rng
    anywhere = Slot(
        float(rng.uniform(0, ground.width)), float(rng.uniform(0, ground.height)), float(rng.uniform(0, 2 * np.pi))
    )
    invited = {VEHICLE: ground.lanes + ground.parking, BOAT: ground.moorings}.get(label, [])
    share = {VEHICLE: 0.75, BOAT: 0.25}.get(label, 0.0)
    if not invited or rng.random() >= share:
        return anywhere
    slot = invited[int(rng.integers(len(invited)))]
    return Slot(slot.x, slot.y, slot.heading + float(rng.normal(0, 0.05)))


def _sprite_for(ground: Ground, label: int, slot: Slot, size: float) -> Sprite:
    """Draw the object; draw it again, corrected, if its outline is outside the promised range of sizes."""
    x, y = min(max(slot.x, 0.0), ground.width - 1.0), min(max(slot.y, 0.0), ground.height - 1.0)
    patch = ground.image[max(0, int(y - size)) : int(y + size) + 1, max(0, int(x - size)) : int(x + size) + 1]
    # The smaller an object, the more it must stand out to be visible at all.
    contrast = float(np.interp(size, (8.0, 24.0), (75.0, 40.0)))
    tone = tone_against(ground.rng, label, patch.mean(axis=(0, 1), dtype=np.float64), contrast)
    state = ground.rng.bit_generator.state
    sprite = draw_object(ground.rng, label, slot.x, slot.y, slot.heading, size, tone)
    if MIN_OBJECT_PX <= sprite.longest <= MAX_OBJECT_PX:
        return sprite
    wanted = np.clip(sprite.longest, MIN_OBJECT_PX + 0.6, MAX_OBJECT_PX - 1.0)
    # The same random numbers again: the same object, only larger or smaller.
    ground.rng.bit_generator.state = state
    return draw_object(ground.rng, label, slot.x, slot.y, slot.heading, size * wanted / sprite.longest, tone)


def _wake(ground: Ground, slot: Slot, size: float) -> None:
    rng = ground.rng
    back = np.array([-np.cos(slot.heading), -np.sin(slot.heading)])
    across = np.array([-back[1], back[0]])
    for _ in range(int(rng.integers(15, 60))):
        distance = float(rng.uniform(0.45, 2.5)) * size
        side = float(rng.choice((-1, 0, 1))) * distance * 0.22 + rng.normal(0, 0.05) * size
        x, y = np.array([slot.x, slot.y]) + back * distance + across * side
        if _kind_at(ground, x, y) == WATER:
            cv2.circle(
                ground.image,
                (int(x * 8), int(y * 8)),
                int(max(0.5, 0.04 * size) * 8),
                (225, 228, 224),
                -1,
                cv2.LINE_AA,
                3,
            )


def place_object(ground: Ground, seats: Seats, label: int) -> PlacedObject | None:
    """Find a suitable free place for one object and draw it there; None if there is none."""
    rng = ground.rng
    allowed = {VEHICLE: _LAND_KINDS, BOAT: (WATER,), PERSON: _LAND_KINDS, BIRD: (OPEN, WATER, ROAD, TREE, 3)}[label]
    for _ in range(_TRIES):
        slot = _slot_for(ground, label)
        if _kind_at(ground, slot.x, slot.y) not in allowed:
            continue
        size = size_for(ground, label)
        sprite = _sprite_for(ground, label, slot, size)
        if not inside(ground, sprite.box) or not _is_on(ground, sprite, allowed) or not seats.reserve(sprite.box):
            continue
        if label == BIRD:
            lift = float(rng.uniform(0.8, 5.0)) * size
            shade(ground, sprite, lift, lift, 0.08 * lift)
        elif label == BOAT:
            if rng.random() < 0.4:
                _wake(ground, slot, sprite.longest)
            shade(ground, sprite, 0.0, 0.12 * size)
        else:
            shade(ground, sprite, 0.0, {VEHICLE: 0.3, PERSON: 1.3}[label] * size)
        paste(ground, sprite)
        return PlacedObject(sprite.box, label)
    return None


def place_clutter(ground: Ground, seats: Seats, count: int) -> None:
    """Scatter unlabelled objects over land and water."""
    rng = ground.rng
    for _ in range(count):
        x, y = float(rng.uniform(0, ground.width)), float(rng.uniform(0, ground.height))
        kind = _kind_at(ground, x, y)
        if kind not in (OPEN, WATER, ROAD) or (kind == ROAD and rng.random() < 0.8):
            continue
        options = SEA if kind == WATER else LAND
        size = float(np.clip(4.5 * ground.metre * np.exp(rng.uniform(np.log(0.2), np.log(1.1))), 4, 70))
        name = options[int(rng.integers(len(options)))]
        sprite = draw_clutter(rng, name, x, y, size)
        if not seats.reserve(sprite.box):
            continue
        if name not in ("puddle", "foam", "weed"):
            shade(ground, sprite, 0.0, (1.5 if name == "sign" else 0.35) * size)
        paste(ground, sprite)
