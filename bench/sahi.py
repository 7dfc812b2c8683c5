"""Compares Standgale with SAHI from file to boxes: same weights, pictures, tiles and thresholds."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from bench import pictures
from bench.measure import take_turns
from bench.result import RATIO, Figure, Goal, Result
from detectors.card.card import default_card_path, read_card
from detectors.engines.host import configure_process
from detectors.geometry.boxes import iou_matrix
from detectors.images.decode import decode_image
from detectors.model.loading import LoadRequest, load_model
from detectors.model.options import FrameView
from detectors.model.predict import Predictor
from detectors.settings import DetectorSettings
from schemas.errors import StandgaleError
from schemas.events import DetectOptions

INTERPRETER = "BENCH_SAHI_PYTHON"
"""The environment variable with the Python that has sahi and onnxruntime; `make bench` makes one."""

_SIDE = 640
_SIZE = (4000, 3000)
_SAME_IOU = 0.9
_PIXELS = 10**8

_Boxes = NDArray[np.float64]


class SahiMissingError(StandgaleError):
    """There is no interpreter with SAHI."""

    code = "SAHI_MISSING"


@dataclass(frozen=True, slots=True)
class _Peer:
    """Runs SAHI in a separate process."""

    process: subprocess.Popen[str]

    def detect(self, picture: Path) -> tuple[float, _Boxes]:
        """Return seconds, and boxes (K, 6) x1, y1, x2, y2, score, class."""
        given, taken = self.process.stdin, self.process.stdout
        assert given is not None and taken is not None, "the process was started with pipes"
        print(picture, file=given, flush=True)
        line = taken.readline()
        if not line:
            raise SahiMissingError(f"SAHI's process ended with status {self.process.wait()}; its error is above")
        found = json.loads(line)
        return float(found["seconds"]), np.array(found["boxes"], np.float64).reshape(-1, 6)


def run(quick: bool) -> Result:
    """Measure the default engine, and the same engine as SAHI's at f32."""
    configure_process()
    rounds, count = (1, 1) if quick else (4, 4)
    plans = [
        ("engine chosen by default", LoadRequest(measure_s=DetectorSettings().measure_s), 2.0),
        ("ONNX Runtime, f32", LoadRequest(engine="onnxruntime", precision="f32"), 1.15),
    ]
    with TemporaryDirectory() as folder, _sahi() as peer:
        files = [_written(Path(folder), number) for number in range(count)]
        figures: list[Figure] = []
        reasons: list[str] = []
        for name, wanted, goal in plans:
            with Predictor(load_model(wanted)) as predictor:
                figures += _compared(name, predictor, peer, files, rounds, goal)
                reasons.append(f"{name}: {predictor.model.engine.reason}.")
    return Result("sahi", "Beside SAHI", tuple(figures), (_NOTE, *reasons))


_NOTE = (
    f"{_SIZE[0]}×{_SIZE[1]} JPEG files to boxes, decoding included: {_SIDE}×{_SIDE} tiles with 0.2 overlap, "
    "the shipped model, NMS with IoU 0.5 within tiles and across. SAHI runs the same ONNX file in one ONNX Runtime "
    "session with its defaults, on all cores, in a separate process; one side waits while the other runs."
)


def _compared(
    name: str, predictor: Predictor, peer: _Peer, files: Sequence[Path], rounds: int, goal: float
) -> list[Figure]:
    tiles = _tiles(predictor)

    async def ours() -> float:
        return tiles * len(files) / sum(_ours(predictor, file)[0] for file in files)

    async def theirs() -> float:
        return tiles * len(files) / sum(peer.detect(file)[0] for file in files)

    found = asyncio.run(take_turns(ours, theirs, rounds))
    pairs = [(_ours(predictor, file)[1], peer.detect(file)[1]) for file in files]
    return [
        Figure(f"{name}: SAHI", found.bare_rate, "tiles/s"),
        Figure(f"{name}: Standgale", found.our_rate, "tiles/s"),
        Figure(f"{name}: Standgale over SAHI", found.ratio, RATIO, Goal(goal)),
        Figure(f"{name}: our boxes that SAHI has", 100 * _share(pairs), "%", Goal(98)),
        Figure(f"{name}: SAHI's boxes that we have", 100 * _share([(b, a) for a, b in pairs]), "%"),
    ]


def _ours(predictor: Predictor, file: Path) -> tuple[float, _Boxes]:
    start = time.perf_counter()
    image = decode_image(file.read_bytes(), max_pixels=_PIXELS)
    found = predictor.predict(image, _OPTIONS)
    seconds = time.perf_counter() - start
    return seconds, np.column_stack((found.boxes, found.scores, found.classes)).astype(np.float64)


_OPTIONS = DetectOptions(tile_width=_SIDE, tile_height=_SIDE, overlap=0.2, whole_frame=False, merge_method="nms")


def _tiles(predictor: Predictor) -> int:
    view = FrameView(*_SIZE)
    return len(predictor.model.plan(view, predictor.model.resolved(_OPTIONS, view)))


def _share(pairs: Sequence[tuple[_Boxes, _Boxes]]) -> float:
    """Return the share of the first's boxes that the second has too, of the same class, with IoU >= 0.9."""
    same = total = 0
    for first, second in pairs:
        total += len(first)
        if not len(first) or not len(second):
            continue
        iou = iou_matrix(first[:, :4], second[:, :4])
        same += int(((iou >= _SAME_IOU) & (first[:, None, 5] == second[None, :, 5])).any(axis=1).sum())
    return same / max(1, total)


def _written(folder: Path, number: int) -> Path:
    file = folder / f"scene-{number}.jpg"
    file.write_bytes(pictures.scene(*_SIZE, number).data)
    return file


@contextmanager
def _sahi() -> Iterator[_Peer]:
    """Start SAHI, ready for pictures. Raises SahiMissingError when there is none."""
    python = os.environ.get(INTERPRETER)
    if not python:
        raise SahiMissingError(f"{INTERPRETER} is not set; `make bench` installs SAHI separately and sets it")
    path = default_card_path()
    card = read_card(path)
    names = ",".join(one.name for one in card.classes)
    limits = (str(card.thresholds.confidence), str(card.thresholds.iou))
    command = [
        python,
        "-P",
        str(Path(__file__).with_name("sahi_side.py")),
        str(path.parent / card.file),
        *limits,
        names,
    ]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    except OSError as error:
        raise SahiMissingError(f"{INTERPRETER}={python} cannot be run ({error.strerror})") from error
    try:
        yield _Peer(process)
    finally:
        process.terminate()
        process.wait()
