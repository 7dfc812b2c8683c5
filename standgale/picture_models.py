"""Loads a model for pictures that a person or an inference job names, one after the other."""

from __future__ import annotations

from dataclasses import replace

from detectors.engines.host import configure_process, release_freed_memory
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Model
from standgale.settings import Settings


def load_for_pictures(settings: Settings) -> Model:
    """Load the model of ``settings`` without measuring which engine is fastest."""
    configure_process(spare_memory=True)
    # One picture is not worth the seconds of measuring; what a worker or `standgale model measure` measured is used.
    model = load_model(replace(LoadRequest.of(settings.detector, settings.engines_folder), measure_s=0.0))
    release_freed_memory()
    return model
