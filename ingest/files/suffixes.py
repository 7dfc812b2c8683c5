"""Defines the setting that says which files are pictures, by the ends of their names."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")


def _check(suffixes: tuple[str, ...]) -> tuple[str, ...]:
    if not suffixes or any(not each.startswith(".") or each.lower() == ".json" for each in suffixes):
        raise ValueError("each begins with a dot, and .json is for side files")
    return tuple(each.lower() for each in suffixes)


Suffixes = Annotated[tuple[str, ...], AfterValidator(_check)]
"""Ends of names, in small letters; .json is none of them."""
