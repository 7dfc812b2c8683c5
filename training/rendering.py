"""Renders scenes into a pool in processes beside a training."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from infra.process.safe_path import children_with_safe_path
from schemas.errors import StandgaleError
from training.pool import fill_pool


class RenderingError(StandgaleError):
    """Says that a pool stays without the scenes that a training needs."""


def _render(pool_folder: Path, count: int, first: int, step: int) -> None:
    """Fill a share of the pool with one thread, at a lower priority than the training."""
    os.nice(3)
    cv2.setNumThreads(1)

    def leave_with_the_training(_: int) -> None:
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            raise SystemExit(0)

    fill_pool(pool_folder, count, leave_with_the_training, first=first, step=step)


@contextmanager
def rendering(pool_folder: Path, scenes: int, processes: int) -> Iterator[Callable[[], None]]:
    """Start processes that fill the pool; yields a function that waits for them for a short time."""
    context = multiprocessing.get_context("spawn")
    jobs = [
        context.Process(
            target=_render,
            args=(pool_folder, scenes, first, processes),
            daemon=True,
        )
        for first in range(processes)
    ]
    with children_with_safe_path():
        for job in jobs:
            job.start()

    def wait() -> None:
        if not jobs:
            raise RenderingError(f"{pool_folder} lacks scenes and renderers is 0: give at least one renderer")
        if any(job.exitcode not in (None, 0) for job in jobs):
            raise RenderingError(
                f"a process rendering scenes into {pool_folder} died: see its error above, check free space"
            )
        time.sleep(0.2)

    try:
        yield wait
    finally:
        for job in jobs:
            job.terminate()
            job.join()
