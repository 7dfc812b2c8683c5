"""Paints roads, car parks, houses and piers into a scene."""

import cv2
import numpy as np

from training.scenes.ground import (
    BUILDING,
    OPEN,
    ROAD,
    TREE,
    WATER,
    Colour,
    Ground,
    Points,
    Slot,
    cast_shadow,
    paint_mask,
    paint_polygon,
    rectangle,
    vary,
)
from training.scenes.spec import Mask

LANE_M = 3.4

_ROOFS: tuple[Colour, ...] = (
    (62, 78, 148),
    (70, 92, 170),
    (92, 96, 104),
    (122, 124, 126),
    (168, 170, 172),
    (78, 84, 112),
    (60, 58, 60),
    (96, 128, 150),
)


def curve(ground: Ground) -> Points:
    """Return a road's centre line across the picture, points about 2 m apart, (N, 2)."""
    rng = ground.rng
    angle = float(rng.uniform(0, 2 * np.pi))
    reach = 0.8 * float(np.hypot(ground.width, ground.height))
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    centre = rng.uniform(0.15, 0.85, 2) * (ground.width, ground.height)
    steps = np.linspace(-1.0, 1.0, max(8, int(reach / ground.metre)))
    bend = np.zeros_like(steps)
    for wave in range(1, 4):
        bend += rng.normal(0, 0.06 / wave) * np.sin(steps * np.pi * wave + rng.uniform(0, 6.3))
    return np.asarray(centre + steps[:, None] * reach * along + (bend * reach)[:, None] * across, np.float64)


def straight(ground: Ground, x: float, y: float, angle: float) -> Points:
    """Return a straight centre line through (x, y), (N, 2)."""
    reach = float(np.hypot(ground.width, ground.height))
    steps = np.linspace(-reach, reach, max(8, int(reach / ground.metre)))
    return np.asarray(np.stack([x + steps * np.cos(angle), y + steps * np.sin(angle)], axis=1), np.float64)


def paint_road(ground: Ground, line: Points, lanes: int, *, paved: bool) -> None:
    """Paint a road along `line` with verge, markings and the places where vehicles drive."""
    rng = ground.rng
    breadth = max(3, round(lanes * LANE_M * ground.metre))
    mask: Mask = np.zeros(ground.kind.shape, np.uint8)
    points = [np.round(line * 16).astype(np.int32)]
    if paved:
        cv2.polylines(mask, points, False, 255, breadth + max(2, round(1.6 * ground.metre)), cv2.LINE_8, 4)
        paint_mask(ground, mask, "gravel", vary(rng, (135, 142, 145), 0.15), amplitude=0.12)
        mask[:] = 0
    cv2.polylines(mask, points, False, 255, breadth, cv2.LINE_8, 4)
    tone = vary(rng, (98, 98, 98), 0.3) if paved else vary(rng, (105, 138, 162), 0.15)
    paint_mask(
        ground,
        mask,
        "asphalt" if paved else "gravel",
        tone,
        amplitude=0.12,
        zoom=float(rng.uniform(0.7, 1.5)),
        kind=ROAD,
    )
    headings = np.arctan2(*np.diff(line, axis=0).T[::-1])
    if paved and lanes > 1:
        _mark_lanes(ground, line, headings, lanes)
    for index in range(0, len(headings), 3):
        lane = int(rng.integers(lanes))
        side = (lane - (lanes - 1) / 2) * LANE_M * ground.metre + rng.normal(0, 0.3) * ground.metre
        heading = float(headings[index])
        x, y = line[index] + side * np.array([-np.sin(heading), np.cos(heading)])
        if 0 <= x < ground.width and 0 <= y < ground.height:
            ground.lanes.append(Slot(float(x), float(y), heading + (np.pi if side < 0 else 0.0)))


def _mark_lanes(ground: Ground, line: Points, headings: Points, lanes: int) -> None:
    thick = max(1, round(0.18 * ground.metre))
    white = (205, 212, 214)
    normal = np.stack([-np.sin(headings), np.cos(headings)], axis=1)
    for lane in range(1, lanes):
        offset = (lane - lanes / 2) * LANE_M * ground.metre
        track = line[:-1] + normal * offset
        for index in range(0, len(track) - 3, 8):
            dash = [np.round(track[index : index + 4] * 16).astype(np.int32)]
            cv2.polylines(ground.image, dash, False, white, thick, cv2.LINE_AA, 4)
    if ground.rng.random() < 0.6:
        for side in (-1, 1):
            edge = line[:-1] + normal * side * (lanes / 2 - 0.1) * LANE_M * ground.metre
            cv2.polylines(ground.image, [np.round(edge * 16).astype(np.int32)], False, white, thick, cv2.LINE_AA, 4)


def is_free(ground: Ground, corners: Points, allowed: tuple[int, ...] = (OPEN,)) -> bool:
    """Return whether a polygon is inside the picture and touches only the allowed kinds."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    if low.min() < 0 or high[0] >= ground.width or high[1] >= ground.height:
        return False
    window = ground.kind[int(low[1]) : int(high[1]) + 1 : 3, int(low[0]) : int(high[0]) + 1 : 3]
    return bool(np.isin(window, allowed).all())


def paint_car_park(ground: Ground, x: float, y: float, angle: float) -> None:
    """Paint asphalt with rows of marked bays, if there is free space at (x, y)."""
    rng, m = ground.rng, ground.metre
    bays, rows = int(rng.integers(6, 18)), int(rng.integers(1, 4)) * 2
    length, breadth = bays * 2.7 * m + 4 * m, rows * 5.2 * m + rows // 2 * 6.5 * m
    corners = rectangle(x, y, length, breadth, angle)
    if not is_free(ground, corners):
        return
    paint_polygon(ground, corners, "asphalt", vary(rng, (105, 105, 105), 0.25), amplitude=0.12, kind=ROAD)
    cos, sin = np.cos(angle), np.sin(angle)
    top = -breadth / 2 + 2.6 * m
    for row in range(rows):
        v = top + row * 5.2 * m + ((row + 1) // 2) * 6.5 * m
        if v > breadth / 2 - 2 * m:
            break
        for bay in range(bays + 1):
            u = (bay - bays / 2) * 2.7 * m
            ends = np.array([[u * cos - w * sin + x, u * sin + w * cos + y] for w in (v - 2.4 * m, v + 2.4 * m)])
            cv2.polylines(
                ground.image,
                [np.round(ends * 16).astype(np.int32)],
                False,
                (208, 210, 210),
                max(1, round(0.12 * m)),
                cv2.LINE_AA,
                4,
            )
            centre = u + 1.35 * m
            if bay < bays and rng.random() < 0.5:
                ground.parking.append(
                    Slot(
                        centre * cos - v * sin + x, centre * sin + v * cos + y, angle + np.pi / 2 * rng.choice((-1, 1))
                    )
                )


def paint_house(ground: Ground, x: float, y: float, angle: float) -> None:
    """Paint a house with roof and shadow, if there is free space at (x, y)."""
    rng, m = ground.rng, ground.metre
    length, breadth = float(rng.uniform(8, 30)) * m, float(rng.uniform(7, 15)) * m
    corners = rectangle(x, y, length, breadth, angle)
    if not is_free(ground, corners):
        return
    cast_shadow(ground, corners, float(rng.uniform(3, 9)) * m)
    base = vary(rng, _ROOFS[int(rng.integers(len(_ROOFS)))], 0.2)
    paint_polygon(ground, corners, "planks", base, amplitude=0.15, angle=-angle, kind=BUILDING)
    across = np.array([-np.sin(angle), np.cos(angle)])
    if rng.random() < 0.6:
        facing = float(across @ (ground.sun.dx, ground.sun.dy))
        shade = (base[0] * (1 - 0.3 * facing), base[1] * (1 - 0.3 * facing), base[2] * (1 - 0.3 * facing))
        half = rectangle(x + across[0] * breadth / 4, y + across[1] * breadth / 4, length, breadth / 2, angle)
        paint_polygon(ground, half, "planks", shade, amplitude=0.15, angle=-angle)
    else:
        cv2.polylines(
            ground.image,
            [np.round(corners * 16).astype(np.int32)],
            True,
            tuple(c * 0.7 for c in base),
            max(1, round(0.3 * m)),
            cv2.LINE_AA,
            4,
        )
    for _ in range(int(rng.integers(0, 5))):
        u, v = rng.uniform(-0.4, 0.4, 2) * (length, breadth)
        spot = (x + u * np.cos(angle) - v * np.sin(angle), y + u * np.sin(angle) + v * np.cos(angle))
        _roof_fitting(ground, spot, angle)


def _roof_fitting(ground: Ground, spot: tuple[float, float], angle: float) -> None:
    rng, m = ground.rng, ground.metre
    panels = rng.random() < 0.3
    size = rng.uniform(2.0, 4.5, 2) * m if panels else rng.uniform(0.6, 2.0, 2) * m
    block = rectangle(spot[0], spot[1], float(size[0]), float(size[1]), angle)
    if not panels:
        cast_shadow(ground, block, float(rng.uniform(0.5, 1.5)) * m)
    tone = vary(
        rng, (70, 45, 35) if panels else ((150, 150, 150), (70, 85, 130), (60, 60, 60))[int(rng.integers(3))], 0.25
    )
    cv2.fillPoly(ground.image, [np.round(block * 16).astype(np.int32)], tone, cv2.LINE_AA, 4)


def paint_town(ground: Ground) -> None:
    """Paint a turned street grid whose blocks hold houses, lawns and car parks."""
    rng, m = ground.rng, ground.metre
    angle = float(rng.uniform(0, np.pi))
    reach = float(np.hypot(ground.width, ground.height)) / 2
    centre = np.array([ground.width / 2, ground.height / 2])
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    cuts = [np.cumsum(rng.uniform(38, 95, int(2 * reach / (60 * m)) + 2)) * m - reach for _ in range(2)]
    for axis in range(2):
        for cut in cuts[axis]:
            through = centre + cut * axes[axis]
            paint_road(
                ground,
                straight(ground, through[0], through[1], angle + (np.pi / 2 if axis == 0 else 0.0)),
                2,
                paved=True,
            )
    step = 17 * m
    for u in np.arange(-reach, reach, step):
        for v in np.arange(-reach, reach, step):
            x, y = centre + (np.array([u, v]) + rng.uniform(-0.25, 0.25, 2) * step) @ axes
            turn = angle + (np.pi / 2 if rng.random() < 0.5 else 0.0)
            if rng.random() < 0.06:
                paint_car_park(ground, x, y, angle)
            elif rng.random() < 0.7:
                paint_house(ground, x, y, turn)


def paint_pier(ground: Ground) -> None:
    """Paint a pier from the shore into the water, with moorings next to it."""
    rng, m = ground.rng, ground.metre
    rows, cols = np.nonzero(ground.kind[::16, ::16] == WATER)
    if len(rows) < 50:
        return
    pick = int(rng.integers(len(rows)))
    x, y, angle = float(cols[pick] * 16), float(rows[pick] * 16), float(rng.uniform(0, np.pi))
    length, breadth = float(rng.uniform(18, 60)) * m, float(rng.uniform(1.5, 3)) * m
    corners = rectangle(x, y, length, breadth, angle)
    if not is_free(ground, corners, (WATER, OPEN)):
        return
    cast_shadow(ground, corners, 1.2 * m)
    paint_polygon(
        ground, corners, "planks", vary(rng, (110, 130, 145), 0.2), amplitude=0.25, angle=-angle + np.pi / 2, kind=ROAD
    )
    for u in np.arange(-length / 2 + 2 * m, length / 2 - 2 * m, 4.2 * m):
        for side in (-1, 1):
            v = side * (breadth / 2 + 4.0 * m)
            spot = (x + u * np.cos(angle) - v * np.sin(angle), y + u * np.sin(angle) + v * np.cos(angle))
            ground.moorings.append(Slot(spot[0], spot[1], angle + side * np.pi / 2))


def plant_trees(ground: Ground, count: int) -> None:
    """Paint single trees with crowns and shadows on open ground."""
    rng, m = ground.rng, ground.metre
    for _ in range(count):
        x, y = rng.uniform(0, ground.width), rng.uniform(0, ground.height)
        radius = float(rng.uniform(1.5, 4.5)) * m
        angles = np.linspace(0, 2 * np.pi, 18, endpoint=False)
        crown = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (radius * rng.uniform(0.8, 1.15, 18))[:, None] + (
            x,
            y,
        )
        if not is_free(ground, crown):
            continue
        cast_shadow(ground, crown, radius * 1.2)
        base = vary(rng, (42, 82, 62), 0.3)
        texture = "canopy" if rng.random() < 0.5 else "foliage"
        paint_polygon(ground, crown, texture, base, amplitude=0.7, kind=TREE)
        lit = crown * 0.6 + np.array([x - ground.sun.dx * radius * 0.5, y - ground.sun.dy * radius * 0.5]) * 0.4
        paint_polygon(ground, lit, texture, (base[0] * 1.2, base[1] * 1.25, base[2] * 1.25), amplitude=0.7)
