"""A served model on a faster engine that takes minutes to make: obtained in the background, then loaded and checked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from detectors.engines.artefact import UpgradeState, obtain, upgrade_for
from detectors.model.loading import LoadRequest, load_on, request_of
from detectors.model.predict import Model
from detectors.store.port import ModelStore
from schemas.events import ModelRef

logger = logging.getLogger(__name__)


async def upgraded_model(
    wanted: LoadRequest, store: ModelStore | None, cache: Path, on_state: Callable[[UpgradeState], None]
) -> Model | None:
    """The model asked for on a TensorRT engine made for this machine's GPU, or None where none is made.

    None is made without TensorRT or a GPU, and when ``wanted`` names another engine than TensorRT's: then it is meant.
    ``store``: asked for the engine first, and given it when it is built here; ``cache``: where engines are kept, the
    folder models are fetched into; ``on_state``: told what begins. Takes minutes where the engine has to be built.
    Raises ModelLoadError when it cannot be had or does not fit: whatever serves goes on.
    """
    if wanted.engine not in ("auto", "tensorrt"):
        return None
    card, request = await asyncio.to_thread(request_of, wanted)
    model = ModelRef(name=card.name, version=card.version)
    upgrade = await asyncio.to_thread(upgrade_for, request, cache, model)
    if upgrade is None:
        return None
    path = await obtain(upgrade, store, on_state)
    logger.info("TensorRT engine is there", extra={"model": card.name, "version": card.version, "path": str(path)})
    loading = asyncio.create_task(asyncio.to_thread(load_on, replace(wanted, engine="auto"), upgrade.load))
    try:
        return await asyncio.shield(loading)
    except asyncio.CancelledError:
        # A thread can't be stopped: what nobody waits for is closed when it is loaded.
        loading.add_done_callback(_closed)
        raise


def _closed(loading: asyncio.Task[Model]) -> None:
    if not loading.cancelled() and loading.exception() is None:
        loading.result().close()
