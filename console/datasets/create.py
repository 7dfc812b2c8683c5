"""Makes a data set: selects, divides, copies pictures, writes label files, and gives all of it its name at the end."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from console.datasets.errors import DatasetExistsError, DatasetOptionError
from console.datasets.manifest import FORMATS, PICTURES, DatasetFormat, Manifest, pictures_in
from console.datasets.names import require_name
from console.datasets.query.language import parse_query
from console.datasets.query.reader import read_pictures
from console.datasets.query.statement import write_statement
from console.datasets.selection import Selection, gather
from console.datasets.settings import DatasetSettings
from console.datasets.splits import Scene, Shares, divide, scene_of
from console.datasets.stores.port import DatasetStore
from console.datasets.writing import DatasetFiles
from infra.database.pool import Database
from infra.storage.frames.port import FrameStore

Progress = Callable[[str, int, int | None], None]
"""Gets what is being done, how much of it is done, and of how much"""


@dataclass(frozen=True, slots=True)
class DatasetRequest:
    """Says what a data set is to contain."""

    name: str
    where: str
    shares: Shares
    formats: tuple[DatasetFormat, ...] = ("coco", "yolo")
    model: str | None = None
    """Only the detections of this model count, else those of the newest session of a picture"""
    version: str | None = None
    seed: int = 0
    like: str | None = None
    """Another data set, whose devices and days stay in their splits"""
    skip_missing: bool = False
    """Leave out pictures that the frame store no longer has"""
    jobs: bool = False
    """Also what belongs to jobs and media of clients; a query that names a job selects among it anyway"""


@dataclass(frozen=True, slots=True)
class DatasetParts:
    """Holds what making a data set needs."""

    database: Database
    frames: FrameStore
    store: DatasetStore
    settings: DatasetSettings
    program: str
    """The version of Standgale"""


@dataclass(frozen=True, slots=True)
class Created:
    """Says what was made."""

    manifest: Manifest
    is_new: bool
    """False: it was there already, made from the same"""
    unusable: int
    """Corrections with a box that cannot be used, which was left out"""


@dataclass(frozen=True, slots=True)
class Preview:
    """Says what would be made."""

    pictures: int
    boxes: int
    corrected: int
    duplicates: int
    unusable: int
    """Corrections with a box that cannot be used, which would be left out"""
    classes: tuple[str, ...]
    splits: Mapping[str, int]
    """Pictures of each"""


async def create_dataset(parts: DatasetParts, request: DatasetRequest, progress: Progress) -> Created:
    """Make a data set: all of it, or nothing when the process is killed; the same request then goes on.

    Raises the errors of :mod:`console.datasets.errors`, of the database and of the stores.
    """
    require_name(request.name)
    with tempfile.TemporaryDirectory(prefix="standgale-dataset-") as folder:
        selection, splits, like = await _select(parts, request, Path(folder), progress)
        digest = _selection_digest(selection, request, like)
        existing = await parts.store.open(request.name)
        if existing is not None:
            if existing.manifest.selection != digest:
                raise DatasetExistsError(
                    f"there is a data set {request.name} already, made from other pictures, boxes or options; give "
                    f"another name, or delete it: standgale dataset delete {request.name}"
                )
            await parts.store.complete(request.name)
            return Created(existing.manifest, is_new=False, unusable=selection.unusable)
        async with parts.store.writing(request.name, digest) as writer:
            files = DatasetFiles(
                parts.frames,
                writer,
                Path(folder),
                sorted(selection.labels),
                request.formats,
                splits,
                skip_missing=request.skip_missing,
                transfers=parts.settings.transfers,
            )
            try:
                async for chunk in selection.chunks(parts.settings.transfers * 4):
                    await files.add(chunk)
                    progress("copied", files.done, selection.pictures)
                manifest = await files.complete(
                    name=request.name,
                    selection=digest,
                    where=request.where,
                    options=_options(request, like),
                    duplicates=selection.duplicates,
                    standgale=parts.program,
                )
            finally:
                files.close()
            await writer.finish(manifest)
        return Created(manifest, is_new=True, unusable=selection.unusable)


async def preview_dataset(parts: DatasetParts, request: DatasetRequest, progress: Progress) -> Preview:
    """Return what :func:`create_dataset` would make; nothing is written, and no picture is read."""
    require_name(request.name)
    with tempfile.TemporaryDirectory(prefix="standgale-dataset-") as folder:
        selection, splits, _ = await _select(parts, request, Path(folder), progress)
    counts = dict.fromkeys(request.shares.wanted, 0)
    for scene, split in splits.items():
        counts[split] = counts.get(split, 0) + selection.scenes.counts[scene]
    return Preview(
        selection.pictures,
        selection.boxes,
        selection.corrected,
        selection.duplicates,
        selection.unusable,
        tuple(sorted(selection.labels)),
        counts,
    )


async def _select(
    parts: DatasetParts, request: DatasetRequest, folder: Path, progress: Progress
) -> tuple[Selection, Mapping[Scene, str], str | None]:
    """Return the pictures, the split of each scene, and the id of the data set whose splits are kept."""
    statement = write_statement(parse_query(request.where), request.model, request.version, jobs=request.jobs)
    like, known = None, dict[Scene, str]()
    if request.like is not None:
        like, known = await _known_scenes(parts.store, request.like, folder)
    # Closed at once after an error, too, because it holds a connection.
    async with aclosing(read_pictures(parts.database, statement, timeout_s=parts.settings.query_timeout_s)) as pictures:
        selection = await gather(
            pictures, folder / "selection", parts.settings, lambda count: progress("selected", count, None)
        )
    return selection, divide(selection.scenes, request.shares, seed=request.seed, known=known), like


async def _known_scenes(store: DatasetStore, name: str, folder: Path) -> tuple[str, dict[Scene, str]]:
    found = await store.open(require_name(name))
    if found is None:
        raise DatasetOptionError(f"--like: there is no data set {name} in {store.where}; see standgale dataset list")
    file = folder / "like"
    await found.fetch(PICTURES, file)
    return found.manifest.id, await asyncio.to_thread(_scenes_in, file)


def _scenes_in(file: Path) -> dict[Scene, str]:
    return {
        scene_of(entry.device, datetime.fromisoformat(entry.captured_at)): entry.split for entry in pictures_in(file)
    }


def _options(request: DatasetRequest, like: str | None) -> dict[str, Any]:
    return {
        "model": request.model,
        "version": request.version,
        "shares": {name: round(share, 6) for name, share in request.shares.wanted.items()},
        "seed": request.seed,
        "like": like,
        "jobs": request.jobs,
    }


def _selection_digest(selection: Selection, request: DatasetRequest, like: str | None) -> str:
    about = {
        "pictures": selection.digest,
        "where": request.where,
        "options": _options(request, like),
        "formats": sorted(request.formats),
    }
    return hashlib.sha256(orjson.dumps(about, option=orjson.OPT_SORT_KEYS)).hexdigest()


def parse_formats(texts: Sequence[str]) -> tuple[DatasetFormat, ...]:
    """Return the formats that are named, each once, in a fixed order. Raises DatasetOptionError."""
    wrong = [text for text in texts if text not in FORMATS]
    if wrong:
        raise DatasetOptionError(f"--format is {wrong[0][:60]!r}; it takes {', '.join(FORMATS)}")
    return tuple(each for each in FORMATS if each in texts)
