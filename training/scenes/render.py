"""Draws a scene from its spec: ground, buildings, clutter, objects, camera."""

import numpy as np

from training.scenes import built, optics, placement, terrain
from training.scenes.ground import OPEN, WATER, Ground, Sun
from training.scenes.spec import BIRD, BOAT, PERSON, VEHICLE, Scene, SceneSpec

_THEMES = ("rural", "forest", "coast", "river", "urban", "arid")
_THEME_WEIGHTS = (0.22, 0.12, 0.22, 0.14, 0.18, 0.12)


def _scale(rng: np.random.Generator, spec: SceneSpec) -> float:
    """Return the pixels per metre: a 4.5 m car is 16 to 34 px in large frames, up to 46 px in small ones."""
    megapixels = spec.width * spec.height / 1e6
    largest = float(np.interp(megapixels, (1.0, 8.0), (46.0, 34.0)))
    return float(np.exp(rng.uniform(np.log(16.0), np.log(largest)))) / 4.5


def _sun(rng: np.random.Generator) -> Sun:
    angle = float(rng.uniform(0, 2 * np.pi))
    dull = rng.random() < 0.2
    strength = float(rng.uniform(0.1, 0.25) if dull else rng.uniform(0.35, 0.6))
    return Sun(float(np.cos(angle)), float(np.sin(angle)), float(rng.uniform(0.4, 1.8)), strength)


def _lay_land(ground: Ground, theme: str) -> None:
    rng = ground.rng
    terrain.paint_base(ground, theme)
    if theme in ("rural", "river") or (theme == "coast" and rng.random() < 0.4):
        terrain.paint_fields(ground)
    if theme in ("coast", "river") or (theme != "arid" and rng.random() < 0.35):
        terrain.paint_water(ground, theme)
    cover = {"forest": rng.uniform(0.25, 0.6), "arid": 0.0}.get(theme, rng.uniform(0.0, 0.15))
    if cover > 0.03:
        terrain.paint_forest(ground, float(cover))


def _build(ground: Ground, theme: str, area_m2: float) -> None:
    rng = ground.rng
    if theme == "urban":
        built.paint_town(ground)
    else:
        for _ in range(int(rng.integers(1, 4))):
            paved = bool(rng.random() < 0.7)
            built.paint_road(ground, built.curve(ground), int(rng.choice((2, 2, 4))) if paved else 1, paved=paved)
        for _ in range(int(rng.integers(0, 4))):
            x, y = rng.uniform(0, ground.width), rng.uniform(0, ground.height)
            built.paint_car_park(ground, float(x), float(y), float(rng.uniform(0, 3.2)))
        for _ in range(int(rng.poisson(area_m2 / 25_000))):
            x, y = rng.uniform(0, ground.width), rng.uniform(0, ground.height)
            built.paint_house(ground, float(x), float(y), float(rng.uniform(0, 3.2)))
    for _ in range(int(rng.integers(2, 7))):
        built.paint_pier(ground)
    built.plant_trees(ground, int(area_m2 / 1_000 * rng.uniform(0.1, 0.9 if theme != "arid" else 0.2)))


def _populate(ground: Ground, spec: SceneSpec) -> list[placement.PlacedObject]:
    rng = ground.rng
    megapixels = spec.width * spec.height / 1e6
    wet = float((ground.kind[::8, ::8] == WATER).mean())
    dry = float((ground.kind[::8, ::8] == OPEN).mean())
    seats = placement.Seats(spec.width, spec.height)
    wanted = max(3.0, megapixels * float(rng.uniform(5, 13))) * spec.density
    shares = {
        VEHICLE: 0.36 * (0.3 + 0.7 * (1 - wet)),
        BOAT: 0.5 * wet**0.5,
        PERSON: 0.3 * (0.3 + 0.7 * dry),
        BIRD: 0.16,
    }
    total = sum(shares.values())
    order = [label for label, share in shares.items() for _ in range(int(rng.poisson(wanted * share / total)))]
    placement.place_clutter(ground, seats, int(megapixels * rng.uniform(10, 50)) + 4)
    placed = (placement.place_object(ground, seats, order[index]) for index in rng.permutation(len(order)))
    return [item for item in placed if item is not None]


def render_scene(spec: SceneSpec) -> Scene:
    """Draw the scene; the same spec always gives the same picture and boxes.

    Every box is wholly inside the picture, its longest side between 8 and 80 pixels.
    """
    rng = np.random.default_rng([spec.seed, 77_003])
    theme = str(rng.choice(_THEMES, p=_THEME_WEIGHTS))
    image = np.zeros((spec.height, spec.width, 3), np.uint8)
    metre = _scale(rng, spec)
    ground = Ground(image, np.full(image.shape[:2], OPEN, np.uint8), rng, _sun(rng), metre)
    _lay_land(ground, theme)
    _build(ground, theme, spec.width * spec.height / metre**2)
    if rng.random() < 0.6:
        terrain.paint_litter(ground)
    objects = _populate(ground, spec)
    soft = optics.blur(ground.image, rng)
    optics.expose(soft, rng)
    boxes = np.array([item.box for item in objects], np.float32).reshape(-1, 4)
    labels = np.array([item.label for item in objects], np.int64)
    return Scene(optics.compress(soft, rng), boxes, labels, spec)
