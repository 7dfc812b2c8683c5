"""Checks the header of a TIFF on disk before a library opens it, and reads from it what the library does not tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

from detectors.tiff.colours import colour_space
from detectors.tiff.pixels import ColourSpace
from infra.errors import ImageCorruptError
from infra.tiff.directory import Buffer, directories
from infra.tiff.layout import MAX_CHUNKS, STRIP_OFFSETS, TILE_OFFSETS, TiffLayout, layout_of
from infra.tiff.verdict import Verdict, verdict_of

_GEO_KEYS = 34735


@dataclass(frozen=True, slots=True)
class RasterHeader:
    """Holds what the header says about the first page."""

    width: int
    height: int
    space: ColourSpace
    bits: int
    verdict: Verdict
    """who can read it"""
    may_have_ground: bool
    """whether it names a coordinate system"""


def raster_header(path: Path) -> RasterHeader:
    """Return what the header of the TIFF at ``path`` says.

    Raises ImageCorruptError when it contradicts itself, is cut off, or has more pages or chunks than are read; OSError
    when the file cannot be read. Only directories are read, whatever they say, and each of them once.
    """
    with _mapped(path) as data:
        try:
            layout = layout_of(data)
            _check_pages(data)
            layout.places()
        except ImageCorruptError as error:
            raise ImageCorruptError(f"{path}: {error}; the file is damaged or cut short") from error
        return _described(layout)


def _described(layout: TiffLayout) -> RasterHeader:
    return RasterHeader(
        width=layout.width,
        height=layout.height,
        space=colour_space(layout),
        bits=layout.bits,
        verdict=verdict_of(layout),
        may_have_ground=layout.directory.has(_GEO_KEYS),
    )


def _check_pages(data: Buffer) -> None:
    """Raise ImageCorruptError when pages form a circle, are too many, or one claims too many strips or tiles."""
    for directory in directories(data):
        for tag in (STRIP_OFFSETS, TILE_OFFSETS):
            entry = directory.entry(tag)
            if entry is not None and entry.total > MAX_CHUNKS:
                raise ImageCorruptError(f"a page of the TIFF claims {entry.total} strips or tiles; write larger ones")


@contextmanager
def _mapped(path: Path) -> Iterator[Buffer]:
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            yield b""
            return
        with closing(mmap(file.fileno(), 0, access=ACCESS_READ)) as data:
            yield data
