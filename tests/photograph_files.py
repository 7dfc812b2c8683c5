"""Writes a small folder of photographs as trainings and evaluations read it."""

import json
from pathlib import Path

import cv2
import numpy as np


def write_photographs(folder: Path) -> None:
    """Write two labelled sets and a set without objects, each of one grey picture, 200 by 160 pixels."""
    (folder / "classes.txt").write_text("vehicle\nboat\nperson\nbird\n")
    splits = {
        "town/images/a.png": ["train", "a"],
        "port/images/b.png": ["train", "b"],
        "port/images/c.png": ["test", "c"],
    }
    (folder / "splits.json").write_text(json.dumps(splits))
    for name, known in (("town", "vehicle"), ("port", "boat person")):
        (folder / name / "labels").mkdir(parents=True)
        (folder / name / "README.md").write_text(f"# {name}\nClasses labelled throughout: {known}.\n")
    (folder / "unlabelled-sand" / "images").mkdir(parents=True)
    (folder / "unlabelled-sand" / "README.md").write_text("Nothing of the four classes seen.\n")
    for name in (*splits, "unlabelled-sand/images/d.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / name), np.full((160, 200, 3), 90, np.uint8))
    (folder / "town/labels/a.txt").write_text("0 0.5 0.5 0.2 0.1\n0 0.1 0.1 0.05 0.1\n")
    (folder / "port/labels/b.txt").write_text("1 0.5 0.5 0.3 0.1\n")
    (folder / "port/labels/c.txt").write_text("")
