"""Draws aerial scenes with exact ground truth from a seed, with numpy and OpenCV only."""

from training.scenes.flight import Flight
from training.scenes.render import render_scene
from training.scenes.spec import CLASS_NAMES, Scene, SceneSpec

__all__ = ["CLASS_NAMES", "Flight", "Scene", "SceneSpec", "render_scene"]
