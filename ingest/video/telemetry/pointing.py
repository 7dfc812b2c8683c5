"""Computes where a camera on a turned aircraft looks."""

from __future__ import annotations

import math

Vector = tuple[float, float, float]
Angles = tuple[float, float, float]
"""Degrees: around the axis down (clockwise from above), then around the axis right (up), then around the axis ahead."""


def direction_of(aircraft: Angles, camera: Angles) -> tuple[float, float]:
    """Return pitch and heading in degrees of a camera that is turned by ``camera`` against an ``aircraft``.

    Pitch is that of its axis above the horizon. Heading is where the top of the picture points to, as for photographs;
    both are well defined also for a camera that looks straight down.
    """
    axis = _turned(_turned((1.0, 0.0, 0.0), camera), aircraft)
    top = _turned(_turned((0.0, 0.0, -1.0), camera), aircraft)
    pitch = math.degrees(math.asin(max(-1.0, min(1.0, -axis[2]))))
    # Of a camera that looks ahead only the axis has a direction on the ground, of one that looks down only the top.
    heading = math.degrees(math.atan2(axis[1] + top[1], axis[0] + top[0])) % 360
    return pitch, heading if heading < 360 else 0.0


def _turned(vector: Vector, angles: Angles) -> Vector:
    """Return ``vector`` (ahead, right, down) turned around the axis ahead, then right, then down."""
    yaw, pitch, roll = map(math.radians, angles)
    x, y, z = vector
    y, z = y * math.cos(roll) - z * math.sin(roll), y * math.sin(roll) + z * math.cos(roll)
    x, z = x * math.cos(pitch) + z * math.sin(pitch), -x * math.sin(pitch) + z * math.cos(pitch)
    x, y = x * math.cos(yaw) - y * math.sin(yaw), x * math.sin(yaw) + y * math.cos(yaw)
    return x, y, z
