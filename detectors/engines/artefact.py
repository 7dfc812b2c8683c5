"""Obtains a file from which a faster engine is loaded: fetches it from the model store, or builds and publishes it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from detectors.engines.gpu.cuda import why_no_gpu
from detectors.engines.installed import why_no_tensorrt
from detectors.engines.port import Engine, EngineRequest
from detectors.errors import ModelLoadError
from detectors.store.port import ModelStore
from infra.errors import TransientError
from schemas.event_base import ModelRef

ArtefactState = Literal["downloading", "converting", "uploading"]
"""Steps that a worker reports while it obtains the file; another engine runs the model during that time."""

logger = logging.getLogger(__name__)


class EngineArtefact(Protocol):
    """The port of engine artefacts: a file from which a faster engine of one model, library and GPU is loaded."""

    @property
    def model(self) -> ModelRef:
        """The model from which it is built."""
        ...

    @property
    def name(self) -> str:
        """The file's name; only a file of this name fits model, library and GPU."""
        ...

    @property
    def model_cache(self) -> Path:
        """The folder of artefacts, ``<model>/<version>/<name>`` in it; the model store fetches them into it, too."""
        ...

    @property
    def path(self) -> Path:
        """The file's path; the file need not exist yet."""
        ...

    @property
    def is_cached(self) -> bool:
        """Whether the complete file is at ``path``."""
        ...

    def build(self, stop: threading.Event) -> bool:
        """Build the file, which takes minutes; call it from a separate thread.

        Returns False when another process has just built it. The build runs in a separate process, so that a crash
        cannot end this one, and one at a time per machine: the others wait. Raises ModelLoadError when the build
        fails, takes too long, failed too often before, or when ``stop`` is set during the build.
        """
        ...

    def load(self) -> Engine:
        """Load the engine from the file.

        Raises ModelLoadError when it cannot be loaded; then the file is deleted, unless the GPU is the cause.
        """
        ...


def artefact_for(request: EngineRequest, model_cache: Path, model: ModelRef) -> EngineArtefact | None:
    """Return the artefact for ``request``, to be kept in ``model_cache``; None where this machine can use none.

    None means that TensorRT or a GPU for it is missing; the log says which, at level DEBUG where there is no GPU.
    Quick, but it reads the model file.
    """
    why_not = why_no_tensorrt()
    if why_not is not None:
        # Without a GPU nobody expects one.
        level = logging.INFO if why_no_gpu() is None else logging.DEBUG
        logger.log(level, "no TensorRT engine is built for %s %s: %s", model.name, model.version, why_not)
        return None
    from detectors.engines.gpu.tensorrt_artefact import TensorRtArtefact  # noqa: PLC0415 - only where it is installed

    return TensorRtArtefact(request, model_cache, model)


async def obtain_artefact(
    artefact: EngineArtefact, store: ModelStore | None, on_state: Callable[[ArtefactState], None]
) -> Path:
    """Return the path of the artefact's file, fetched from ``store`` or built here and published there if need be.

    ``on_state`` is called when a step begins. When the store is unavailable, the file is built here, or not published.
    Raises ModelLoadError when the file can neither be fetched nor built. Cancelling ends a build.
    """
    if artefact.is_cached:
        return artefact.path
    if store is not None:
        on_state("downloading")
        if await _fetch(artefact, store):
            return artefact.path
    on_state("converting")
    made_here = await _build(artefact)
    if store is not None and made_here:
        on_state("uploading")
        await _publish(artefact, store)
    return artefact.path


async def _fetch(artefact: EngineArtefact, store: ModelStore) -> bool:
    try:
        found = await store.fetch_artefact(artefact.model, artefact.name, artefact.model_cache)
    except TransientError as error:
        logger.warning("the model store is unavailable, so %s is built here", artefact.name, exc_info=error)
        return False
    return found is not None and artefact.is_cached


async def _build(artefact: EngineArtefact) -> bool:
    stop = threading.Event()
    building = asyncio.create_task(asyncio.to_thread(artefact.build, stop))
    try:
        return await asyncio.shield(building)
    except asyncio.CancelledError:
        stop.set()
        # The builder ends within moments; its error says only that it was cancelled.
        await asyncio.wait([building])
        if not building.cancelled():
            building.exception()
        raise


async def _publish(artefact: EngineArtefact, store: ModelStore) -> None:
    try:
        await store.publish_artefact(artefact.model, artefact.path)
    except (TransientError, ModelLoadError) as error:
        logger.warning("%s is used here but could not be published to the model store", artefact.name, exc_info=error)
