"""Measures `standgale detect` on a GeoTIFF of 20,000 × 20,000 pixels: its memory, and its tiles per second."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
import orjson
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from bench.detector import run_engine
from bench.measure import rate
from bench.processes import BenchError
from bench.result import RATIO, Figure, Goal, Result
from detectors.engines.host import configure_process
from detectors.model.loading import LoadRequest, load_model
from detectors.model.options import FrameView
from detectors.model.predict import Model
from schemas.events import DetectOptions
from standgale.children import standgale_command
from training.scenes.render import render_scene
from training.scenes.spec import SceneSpec

MOST_MB = 1_500
_SIDE, _QUICK_SIDE = 20_000, 5_000
_SCENE_PX, _SCENES, _SEED = 2_000, 4, 940_000
_BARE_S = 8.0
# Starts a command and prints on stderr how long it took and its peak memory. In a separate process, because the kernel
# counts for a child what its parent held when it was started.
_WATCH = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:])
_, status, used = os.wait4(process.pid, 0)
print(time.perf_counter() - start, used.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
"""
# Pixels of 10 cm, somewhere in a zone of UTM.
_PROFILE = {
    "driver": "GTiff",
    "count": 3,
    "dtype": "uint8",
    "tiled": True,
    "blockxsize": 512,
    "blockysize": 512,
    "compress": "jpeg",
    "jpeg_quality": 85,
    "photometric": "ycbcr",
    "interleave": "pixel",
    "crs": "EPSG:32633",
    "transform": rasterio.Affine(0.1, 0, 500_000, 0, -0.1, 5_000_000),
}


def run(quick: bool) -> Result:
    """Run once through the file, with the bare engine before and after; quick: a sixteenth of the file."""
    configure_process()
    side = _QUICK_SIDE if quick else _SIDE
    scenes = [render_scene(SceneSpec(_SCENE_PX, _SCENE_PX, _SEED + number)).image for number in range(_SCENES)]
    with tempfile.TemporaryDirectory(prefix="standgale-bench-") as folder:
        large, small = Path(folder) / "large.tif", Path(folder) / "small.png"
        _write(large, scenes, side)
        cv2.imwrite(str(small), scenes[0][:640, :640])
        model = load_model(LoadRequest())
        tiles = _tiles(model, scenes[0])
        started = _detect(small)
        before = _bare(model, tiles)
        found = _detect(large)
        after = _bare(model, tiles)
        engine = model.engine.name
        model.close()
        megabytes = large.stat().st_size / 1e6
    bare = mean((before, after))
    working = found.tiles / (found.wall_s - started.wall_s)
    figures = (
        Figure("peak memory of the process", found.peak_mb, "MB", Goal(MOST_MB, "below")),
        Figure("peak memory on one tile", started.peak_mb, "MB"),
        Figure("wall time", found.wall_s, "s"),
        Figure("start and loading, within it", started.wall_s, "s"),
        Figure("detect, once started", working, "tiles/s"),
        Figure("bare engine", bare, "tiles/s"),
        Figure("detect over bare engine", working / bare, RATIO),
    )
    note = (
        f"{side}×{side} pixels, {found.tiles} tiles, {found.detections} detections, a JPEG-compressed tiled GeoTIFF of "
        f"{megabytes:,.0f} MB from {_SCENES} rendered scenes; standgale-small on {engine}. The bare engine runs the "
        "same kind of tiles cut beforehand, before and after. Start and loading: the same command on one tile."
    )
    return Result("raster", "A very large GeoTIFF", figures, (note,))


@dataclass(frozen=True, slots=True)
class _Run:
    """Holds what one run of `standgale detect` took."""

    wall_s: float
    peak_mb: float
    tiles: int
    detections: int


def _detect(path: Path) -> _Run:
    """Run `standgale detect PATH` in a separate process. Raises BenchError when it fails."""
    command = [sys.executable, "-P", "-c", _WATCH, *standgale_command("detect", str(path), "--json")]
    # A separate data folder, without measurements that the bare engine does not have.
    environment = {**os.environ, "STANDGALE_DATA_DIR": str(path.parent / "data")}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    if done.returncode:
        raise BenchError(f"standgale detect ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    wall_s, peak_kb = map(float, done.stderr.splitlines()[-1].split())
    printed = orjson.loads(done.stdout)
    return _Run(wall_s, peak_kb * 1024 / 1e6, printed["tiles"], len(printed["detections"]))


def _write(path: Path, scenes: Sequence[NDArray[np.uint8]], side: int) -> None:
    """Write a picture of ``side`` × ``side`` pixels from ``scenes``, turned differently each time one is used."""
    with rasterio.open(path, "w", width=side, height=side, **_PROFILE) as file:
        for row in range(0, side, _SCENE_PX):
            for column in range(0, side, _SCENE_PX):
                number = (row * 7 + column * 3) // _SCENE_PX
                piece = np.rot90(scenes[number % len(scenes)], number // len(scenes) % 4)
                wide, high = min(_SCENE_PX, side - column), min(_SCENE_PX, side - row)
                window = Window(column, row, wide, high)
                file.write(np.ascontiguousarray(piece[:high, :wide, ::-1].transpose(2, 0, 1)), window=window)


def _tiles(model: Model, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    view = FrameView(image.shape[1], image.shape[0])
    return model.cut(image, model.plan(view, model.resolved(DetectOptions(), view)))


def _bare(model: Model, tiles: NDArray[np.uint8]) -> float:
    """Return the tiles per second of the engine alone."""
    step = model.engine.batch_size
    batches = [tiles[first : first + step] for first in range(0, len(tiles), step)]
    run_engine(model, batches)
    start = time.perf_counter()
    times = 0
    while time.perf_counter() - start < _BARE_S:
        run_engine(model, batches)
        times += 1
    return rate(times * len(tiles), start)
