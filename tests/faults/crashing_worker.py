"""Runs a detector worker whose engine really crashes, by a read of address 0, on tiles that show magenta."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Model
from detectors.worker.worker import DetectorWorker, QuarantineParts
from tests.harnesses.worker_site import WorkerSite

MAGENTA_BGR = (255, 0, 255)


def crashing_model(request: LoadRequest) -> Model:
    """Load the model of ``request`` with an engine that crashes the process on magenta."""
    model = load_model(request)
    infer = model.infer

    def crash_on_magenta(tiles: np.ndarray) -> object:
        if (tiles == np.array(MAGENTA_BGR, np.uint8)).all(axis=3).any():
            ctypes.string_at(0)
        return infer(tiles)

    model.infer = crash_on_magenta  # type: ignore[assignment,method-assign]  # a real engine's defect can't be ordered
    return model


async def main(folder: Path) -> None:
    """Work on the broker in ``folder`` until SIGTERM."""
    site = WorkerSite(folder)
    request = LoadRequest(site.card, "onnxruntime", 1)
    parts = replace(
        site.parts(),
        load_model=partial(crashing_model, request),
        quarantine=QuarantineParts(folder / "detectors", request),
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await DetectorWorker(parts).run(stop, site.health.part("worker"))
    await site.broker.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
