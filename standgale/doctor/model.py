"""The model: whether its card and files fit together, and an engine of this machine runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from detectors.engines.registry import usable_engines
from detectors.model.loading import LoadRequest, load_model, read_request
from detectors.settings import DetectorSettings
from standgale.doctor.examine import in_thread
from standgale.doctor.port import Finding, ok


class ModelCheck:
    """Loads the model that the settings name, unless a GPU would have to be shared with a detector at work."""

    subject = "model"

    def __init__(self, settings: DetectorSettings) -> None:
        self._settings = settings

    async def look(self) -> Sequence[Finding]:
        """See the port."""
        return await in_thread(self._look)

    def _look(self) -> Sequence[Finding]:
        settings = self._settings
        # One thread, nothing measured, nothing remembered: detectors at work keep theirs.
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
