"""Checks that the model's card fits its files, and that an engine of this machine runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from detectors.engines.registry import usable_engines
from detectors.model.loading import LoadRequest, load_model, read_request
from detectors.settings import DetectorSettings
from standgale.doctor.examine import in_thread
from standgale.doctor.port import Finding, ok


class ModelCheck:
    """Loads the model of the settings, unless that would take GPU memory from running detectors."""

    subject = "model"

    def __init__(self, settings: DetectorSettings) -> None:
        self._settings = settings

    async def look(self) -> Sequence[Finding]:
        """See :class:`.port.Check`."""
        return await in_thread(self._look)

    def _look(self) -> Sequence[Finding]:
        settings = self._settings
        # One thread, and nothing is measured or saved, so that running detectors are not disturbed.
        wanted = replace(LoadRequest.of(settings), threads=1, measure_s=0.0, fallback=False)
        card, _ = read_request(wanted)
        engines = usable_engines(settings.engine)
        about = f"{card.name} {card.version}: card and files fit together"
        usable = f"engines that can be used: {', '.join(engine.name for engine in engines)}"
        if engines[0].gpu:
            return [ok(about), ok(f"{usable}; not loaded, because that takes memory of the GPU")]
        model = load_model(wanted)
        name = model.engine.name
        model.close()
        return [ok(about), ok(f"{usable}; it runs on {name}")]
