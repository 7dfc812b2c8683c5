"""A faster engine that takes minutes to make: fetched from the model store, else built and put there for the next."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from detectors.engines.installed import why_no_tensorrt
from detectors.engines.port import Engine, EngineRequest
from detectors.errors import ModelLoadError
from detectors.store.port import ModelStore
from infra.errors import TransientError
from schemas.event_base import ModelRef

ArtefactState = Literal["downloading", "converting", "uploading"]
"""What a worker reports while it obtains an engine; it serves with another one meanwhile."""

logger = logging.getLogger(__name__)


class EngineArtefact(Protocol):
    """A faster engine for a loaded model, as a file made for this model, library and GPU: its artefact."""

    @property
    def model(self) -> ModelRef:
        """The model it is made from."""
        ...

    @property
    def name(self) -> str:
        """The artefact's file name; a file of this name fits, and no other does."""
        ...

    @property
    def model_cache(self) -> Path:
        """The folder artefacts lie in, as ``<model>/<version>/<name>``: where a model store brings them, too."""
        ...

    @property
    def path(self) -> Path:
        """Where the artefact lies, or will lie."""
        ...

    @property
    def is_cached(self) -> bool:
        """Whether the artefact lies there, whole."""
        ...

    def build(self, stop: threading.Event) -> bool:
        """Make the artefact; takes minutes, so from a thread of its own. False when another process just made it.

        It is made in a process of its own, so a crash there harms nobody here, and only one at a time per machine:
        the others wait. Raises ModelLoadError when that fails, takes too long, or failed before and is not worth
        trying again, and when ``stop`` is set meanwhile.
        """
        ...

    def load(self) -> Engine:
        """The engine from the artefact.

        Raises ModelLoadError when it cannot be loaded, and drops the file unless the GPU is to blame.
        """
        ...


def artefact_for(request: EngineRequest, model_cache: Path, model: ModelRef) -> EngineArtefact | None:
    """The artefact for ``request``, whose artefacts lie in ``model_cache``; None where there is none for this machine.

    None means: no TensorRT, or no GPU it could use; the log says which. Quick, but it reads the model file.
    """
    why_not = why_no_tensorrt()
    if why_not is not None:
        logger.info("no TensorRT engine is made for %s %s: %s", model.name, model.version, why_not)
        return None
    from detectors.engines.gpu.tensorrt_artefact import TensorRtArtefact  # noqa: PLC0415 - only where it is installed

    return TensorRtArtefact(request, model_cache, model)


async def obtain_artefact(
    artefact: EngineArtefact, store: ModelStore | None, on_state: Callable[[ArtefactState], None]
) -> Path:
    """Have ``artefact``'s artefact on this machine: it is there, comes from ``store``, or is built and put into it.

    ``on_state`` is told what begins. A store that is away costs only its part: then it is built, or not shared. Raises
    ModelLoadError when it cannot be had; what serves meanwhile goes on serving. Cancelling ends a build.
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
        logger.warning("the model store is away, so %s is built here", artefact.name, exc_info=error)
        return False
    return found is not None and artefact.is_cached


async def _build(artefact: EngineArtefact) -> bool:
    stop = threading.Event()
    building = asyncio.create_task(asyncio.to_thread(artefact.build, stop))
    try:
        return await asyncio.shield(building)
    except asyncio.CancelledError:
        stop.set()
        # The builder ends within moments; what it says of that is no news.
        await asyncio.wait([building])
        if not building.cancelled():
            building.exception()
        raise


async def _publish(artefact: EngineArtefact, store: ModelStore) -> None:
    try:
        await store.publish_artefact(artefact.model, artefact.path)
    except (TransientError, ModelLoadError) as error:
        logger.warning("%s is used here but could not be put into the model store", artefact.name, exc_info=error)
