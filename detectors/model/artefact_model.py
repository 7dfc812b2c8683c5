"""Loads a model on an engine that takes minutes to build, in the background while another engine runs it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from detectors.engines.artefact import ArtefactState, artefact_for, obtain_artefact
from detectors.model.loading import LoadRequest, load_on_engine, read_request
from detectors.model.predict import Model
from detectors.store.port import ModelStore
from schemas.event_base import ModelRef

logger = logging.getLogger(__name__)


async def load_artefact_model(
    wanted: LoadRequest, store: ModelStore | None, model_cache: Path, on_state: Callable[[ArtefactState], None]
) -> Model | None:
    """Load the requested model on a TensorRT engine for this machine's GPU; None where no engine is built.

    None is built without TensorRT or a GPU, and when ``wanted`` names another engine.
    ``store``: the engine is fetched from it, or published to it when it is built here; ``model_cache``: the folder into
    which models are fetched, where engines are kept too; ``on_state``: called when a step begins. Takes minutes where
    the engine has to be built. Raises ModelLoadError when it cannot be built or does not fit.
    """
    if wanted.engine not in ("auto", "tensorrt"):
        return None
    card, request = await asyncio.to_thread(read_request, wanted)
    model = ModelRef(name=card.name, version=card.version)
    artefact = await asyncio.to_thread(artefact_for, request, model_cache, model)
    if artefact is None:
        return None
    path = await obtain_artefact(artefact, store, on_state)
    logger.info("TensorRT engine is available", extra={"model": card.name, "version": card.version, "path": str(path)})
    loading = asyncio.create_task(asyncio.to_thread(load_on_engine, replace(wanted, engine="auto"), artefact.load))
    try:
        return await asyncio.shield(loading)
    except asyncio.CancelledError:
        # A thread cannot be stopped: close the model when it is loaded, because no caller waits for it.
        loading.add_done_callback(_close_when_loaded)
        raise


def _close_when_loaded(loading: asyncio.Task[Model]) -> None:
    if not loading.cancelled() and loading.exception() is None:
        loading.result().close()
