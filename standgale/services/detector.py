"""Builds the detector worker of a process from its settings."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from detectors.card.card import default_card_path
from detectors.engines.host import configure_process
from detectors.model.artefact_model import load_artefact_model
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Model
from detectors.rules.engines.choice import open_rules_engine
from detectors.rules.engines.port import RulesLimits
from detectors.rules.rules_file import RulesError, read_rules
from detectors.worker.frames.frame_rules import RulesParts, UsualRules
from detectors.worker.rollout.model_loader import ModelSource, OnState
from detectors.worker.worker import DetectorWorker, QuarantineParts, WorkerParts
from infra.errors import SettingsError
from infra.process.components import Component
from schemas import topics
from standgale.services.composition import Composition


def make_detector(process: Composition, instance_id: str | None) -> Component:
    """Make the component that detects objects in frames; it configures this process for its engines."""
    configure_process()
    settings = process.settings.detector
    wanted = replace(LoadRequest.of(settings, process.settings.engines_folder), lone_tiles=True)
    return DetectorWorker(
        WorkerParts(
            broker=process.broker(),
            store=process.store(),
            load_model=partial(load_model, wanted),
            settings=settings,
            retry=process.settings.retry,
            max_event_bytes=process.topics[topics.DETECTIONS].max_message_bytes,
            instance_id=instance_id,
            former_counts=process.topics[topics.DETECTIONS].former_counts,
            quarantine=QuarantineParts(process.settings.data_dir / "detectors", wanted),
            models=_model_source(process, wanted),
            rules=_rules(process),
        )
    )


def _rules(process: Composition) -> RulesParts:
    """Read the operator's rules. Raises SettingsError when they have errors."""
    settings = process.settings.detector
    try:
        of_operator = None if settings.rules is None else read_rules(settings.rules)
    except RulesError as error:
        raise SettingsError(f"detector.rules (STANDGALE_DETECTOR__RULES): {error}") from error
    return RulesParts(
        UsualRules(of_operator, settings.use_model_rules),
        partial(open_rules_engine, settings.rules_engine, process.settings.engines_folder),
        RulesLimits(seconds=settings.max_rules_s),
    )


def _model_source(process: Composition, wanted: LoadRequest) -> ModelSource:
    store, cache = process.model_store(), process.settings.model_cache

    async def load_artefact(card: Path | None, on_state: OnState) -> Model | None:
        request = replace(wanted, card=card or wanted.card)
        return await load_artefact_model(request, store, cache, lambda state: on_state(state, None))

    def load_prompted(card: Path, prompt: str) -> Model:
        return load_model(replace(wanted, card=card, prompt=prompt, measure_s=0.0))

    own_card = wanted.card or default_card_path()
    return ModelSource(store, cache, partial(_load_version, wanted), load_artefact, load_prompted, own_card)


def _load_version(wanted: LoadRequest, card: Path, busy: bool) -> Model:
    """Load the model of ``card``; nothing is measured while another model is ``busy``, because that would be wrong."""
    return load_model(replace(wanted, card=card, measure_s=0.0 if busy else wanted.measure_s))
