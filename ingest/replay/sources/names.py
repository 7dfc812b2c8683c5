"""Decides by the name of an item whether it is a picture, something that is refused and named, or passed over."""

from __future__ import annotations

from dataclasses import dataclass

_ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_VIDEOS = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv")


@dataclass(frozen=True, slots=True)
class Unwanted:
    """Says why an item is refused by its name."""

    code: str
    reason: str


def is_picture(name: str, suffixes: tuple[str, ...]) -> bool:
    """Return whether an item of this name is read; programs hide files that they have not finished."""
    return not is_hidden(name) and name.lower().endswith(suffixes)


def is_hidden(name: str) -> bool:
    """Return whether the last part of ``name`` begins with a dot."""
    return name.rpartition("/")[2].startswith(".")


def unwanted(name: str, *, inside: str) -> Unwanted | None:
    """Return why an item that is no picture is refused and named; None: it is passed over. ``inside``: the source."""
    lower = name.lower()
    if is_hidden(name):
        return None
    if lower.endswith(_ARCHIVES):
        return Unwanted("NESTED_ARCHIVE", f"an archive inside {inside} is not opened; replay it by itself")
    if lower.endswith(_VIDEOS):
        return Unwanted("VIDEO", f"a video inside {inside} is not read; replay it by itself")
    return None


def unsafe(name: str) -> Unwanted | None:
    """Return why the name of an entry of an archive is not one of a file below the archive; None when it is."""
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or (len(parts[0]) == 2 and parts[0].endswith(":")):
        return Unwanted("UNSAFE_NAME", "its name leads out of the archive; make the archive again with relative names")
    if "\0" in name:
        return Unwanted("UNSAFE_NAME", "its name has a null character")
    return None


def too_large(size_bytes: int, most: int) -> Unwanted:
    """Return the refusal of a picture of more than ``most`` bytes."""
    return Unwanted("FILE_TOO_LARGE", f"it has {size_bytes} bytes; gateway.max_image_bytes is {most}")
