"""The torch engine on a GPU: the model alone by CUDA events, the engine with its copies, uint8 against float upload."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.result import RATIO, Figure, Result
from detectors.card.card import ModelCard, default_card_path, read_card
from detectors.engines.gpu.cuda import why_no_gpu
from detectors.engines.port import EngineRequest

_TITLE = "torch engine on a GPU"
_BATCH = 16
_ALONE = "model alone, CUDA events"
_ENGINE = "engine, uint8 copied up and answers down"
_SHARE = "engine over model alone"
_UINT8 = "upload as uint8, prepared on the GPU"
_FLOAT = "prepared on the CPU, upload as float32"
_GAIN = "uint8 over float32"


def run(quick: bool) -> Result:
    """The shipped model in half precision; without a GPU every figure is left open and the note says why."""
    why_not = why_no_gpu()
    if why_not is None and find_spec("torch") is None:
        why_not = "torch is not installed; install standgale[torch]"
    if why_not is not None:
        return _result([None] * 6, f"No GPU at hand, so nothing was measured: {why_not}.")
    return _measured(quick)


def _result(values: list[float | None], note: str) -> Result:
    names = (_ALONE, _ENGINE, _SHARE, _UINT8, _FLOAT, _GAIN)
    figures = tuple(
        Figure(name, value, RATIO if name in (_SHARE, _GAIN) else "tiles/s")
        for name, value in zip(names, values, strict=True)
    )
    return Result("torch_engine", _TITLE, figures, (note,))


def _measured(quick: bool) -> Result:
    from detectors.engines.gpu.torch import TorchEngine

    path = default_card_path()
    card = read_card(path)
    engine = TorchEngine(EngineRequest(path.parent / card.file, card.input, 1, "f16", batch=_BATCH))
    shape = (_BATCH, card.input.height, card.input.width, 3)
    tiles = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    rounds, seconds = (3, 0.3) if quick else (9, 1.0)
    try:
        alone = statistics.median(_events(engine, seconds) for _ in range(rounds))
        whole = statistics.median(_calls(engine, tiles, seconds) for _ in range(rounds))
        uint8, prepared = _uploads(card, tiles, rounds, seconds)
        note = (
            f"{card.name}, {_BATCH} tiles a run. {engine.reason}. The engine is fed from as many threads as it wants, "
            "with tiles cut beforehand. Uploads are from pinned memory, one at a time, up to the model's input."
        )
    finally:
        engine.close()
    return _result([alone, whole, whole / alone, uint8, prepared, uint8 / prepared], note)


def _events(engine: Any, seconds: float) -> float:
    """Tiles per second of runs one after the other on the GPU, nothing copied, by the GPU's own clock."""
    import torch

    stream, go = engine.on_device()
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    count, until = 0, time.perf_counter() + seconds
    with torch.inference_mode(), torch.cuda.stream(stream):
        go()
        first.record(stream)
        while time.perf_counter() < until:
            go()
            count += 1
            if count % 8 == 0:
                # Otherwise the host only fills the queue, and the time is that of filling it.
                stream.synchronize()
        last.record(stream)
    last.synchronize()
    return float(count * engine.batch_size / (first.elapsed_time(last) / 1000))


def _calls(engine: Any, tiles: NDArray[np.uint8], seconds: float) -> float:
    """Tiles per second through ``run``, from as many threads as the engine wants."""
    start = time.perf_counter()

    def call(_: int) -> int:
        runs = 0
        while time.perf_counter() - start < seconds:
            engine.run(tiles)
            runs += 1
        return runs

    with ThreadPoolExecutor(engine.parallel) as callers:
        runs = sum(callers.map(call, range(engine.parallel)))
    return runs * len(tiles) / (time.perf_counter() - start)


def _uploads(card: ModelCard, tiles: NDArray[np.uint8], rounds: int, seconds: float) -> tuple[float, float]:
    """Tiles per second until they are the model's input on the GPU: as uint8, and as float32 made on the CPU."""
    import torch

    from detectors.engines.cpu.onnxruntime import to_input
    from detectors.engines.gpu.torch import preparation

    prepare = preparation(card.input, torch.device("cuda:0"))

    def as_uint8() -> None:
        prepare(torch.from_numpy(tiles).pin_memory().to("cuda:0", non_blocking=True))
        torch.cuda.synchronize()

    def as_float() -> None:
        torch.from_numpy(to_input(tiles, card.input)).pin_memory().to("cuda:0", non_blocking=True)
        torch.cuda.synchronize()

    turns = [(_rate(as_uint8, len(tiles), seconds), _rate(as_float, len(tiles), seconds)) for _ in range(rounds)]
    return statistics.median(one for one, _ in turns), statistics.median(other for _, other in turns)


def _rate(work: Callable[[], None], tiles: int, seconds: float) -> float:
    work()
    start, runs = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        work()
        runs += 1
    return runs * tiles / (time.perf_counter() - start)
