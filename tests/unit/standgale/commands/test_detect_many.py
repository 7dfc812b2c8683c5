"""Checks the names of the pictures that `standgale detect` draws for a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from standgale.commands.detect_many import _drawn_names


@pytest.mark.parametrize(
    ("names", "drawn"),
    [
        (["a.jpg", "b.png"], ["a.jpg", "b.jpg"]),
        (["a.jpg", "a.webp"], ["a.jpg.jpg", "a.webp.jpg"]),
        (["a.jpg", "a.jpg.png"], ["a.jpg", "a.jpg.png.jpg"]),
        (["a.jpg", "a.jpg.png", "a.webp"], ["a.jpg.jpg", "a.jpg.png.jpg", "a.webp.jpg"]),
    ],
)
def test_each_picture_of_a_folder_is_drawn_under_a_name_of_its_own(names: list[str], drawn: list[str]) -> None:
    assert list(_drawn_names([Path(name) for name in names]).values()) == drawn


def test_a_drawn_picture_whose_name_would_be_too_long_gets_a_shorter_one() -> None:
    names = ["ü" * 125 + end for end in ("a.jpg", "b.jpg")]
    drawn = list(_drawn_names([Path(name) for name in names]).values())
    assert len(set(drawn)) == len(names)
    assert all(len(os.fsencode(name)) <= 255 for name in drawn)
