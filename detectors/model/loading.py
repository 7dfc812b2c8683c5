"""Loads a model on the engine that is known or measured to be fastest here, with a second engine for failures."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

from detectors.card.card import ModelCard, default_card_path
from detectors.engines.fallback import FallbackEngine
from detectors.engines.lone_tiles import LoneTileEngine, have_same_outputs
from detectors.engines.measuring.measurement_cache import MachineKey, MeasurementCache
from detectors.engines.measuring.measurements import EngineMeasurements
from detectors.engines.measuring.measuring import WayMeasurer
from detectors.engines.port import Engine, EngineRequest, Way
from detectors.engines.registry import check_or_close, load_other, usable_engines
from detectors.errors import InferenceError, ModelLoadError
from detectors.model.engine_check import EngineChecker
from detectors.model.least_confidence import why_less_finds_nothing
from detectors.model.predict import Model
from detectors.rules.rules_file import RulesError, RulesFile, read_rules
from detectors.settings import DetectorSettings, EngineKind, Precision

logger = logging.getLogger(__name__)

_LONE_SAMPLES = 3


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """Says which model to load, and how to run it."""

    card: Path | None = None
    """The model's ``model.yaml``; None for the model that ships."""
    engine: EngineKind = "auto"
    """``auto`` takes the best engine that can be used."""
    threads: int = 0
    """CPU threads of the engine; 0 takes all that this process may use."""
    precision: Precision | None = None
    """None takes the precision of the card."""
    measure_s: float = 0.0
    """About how many seconds to measure which way is fastest, where that is not known yet; 0 measures nothing."""
    engines_folder: Path | None = None
    """Where measurements are kept; None keeps none."""
    fallback: bool = True
    """Whether batches on which the engine fails are given to the next engine."""
    prompt: str | None = None
    """What a model that takes text looks for, in place of the classes of its card: names with full stops between."""
    lone_tiles: bool = False
    """Whether a tile that comes alone runs on many cores: its frame is ready sooner, weights are in memory twice."""

    @classmethod
    def of(cls, settings: DetectorSettings, engines_folder: Path | None = None) -> LoadRequest:
        """Make the request that ``settings`` describe; fields of the same name are taken over."""
        return cls(card=settings.model, engines_folder=engines_folder, **settings.model_dump(include=_SHARED))


_SHARED = {one.name for one in fields(LoadRequest)} & set(DetectorSettings.model_fields)
"""The fields that a request and the settings have in common."""


def load_model(wanted: LoadRequest) -> Model:
    """Load the requested model in the fastest way known or measured here, and check it with a first run.

    Raises ModelLoadError when card, file, engine and outputs do not fit together.
    """
    loader = _ModelLoader(wanted)
    engine, why = loader.choose_engine()
    return loader.make_model(loader.with_lone_tiles(engine) if wanted.lone_tiles else engine, why)


def read_request(wanted: LoadRequest) -> tuple[ModelCard, EngineRequest]:
    """Return the card of the requested model, and the request to an engine. Raises ModelLoadError as ``read_card``."""
    loader = _ModelLoader(wanted)
    return loader.checker.card, loader.checker.request


def load_on_engine(wanted: LoadRequest, open_engine: Callable[[], Engine]) -> Model:
    """Load the requested model on the engine that ``open_engine`` returns, and check it with a first run.

    The engine in ``wanted`` is ignored. Raises ModelLoadError when the engine cannot be loaded, its outputs do not fit,
    or, with precision ``auto``, are too far from those in f32.
    """
    loader = _ModelLoader(wanted)
    engine = check_or_close(open_engine(), loader.checker.check)
    return loader.make_model(check_or_close(engine, loader.checker.require_exact), None)


def measure_model(wanted: LoadRequest) -> EngineMeasurements:
    """Measure the ways to run the requested model, and save the result for its next load.

    Raises ModelLoadError as ``load_model`` does.
    """
    loader = _ModelLoader(wanted)
    preferred = loader.checker.open_preferred()
    preferred.close()
    return loader.measure_and_save(loader.checker.ways(preferred.name))


def rules_in(card: ModelCard, path: Path) -> RulesFile | None:
    """Return the rules that ``card``, the one at ``path``, names; None for none. Raises ModelLoadError."""
    if card.rules is None:
        return None
    try:
        return read_rules(path.parent / card.rules, [one.name for one in card.classes])
    except RulesError as error:
        raise ModelLoadError(f"model card {path}: {error}") from error


class _ModelLoader:
    """Chooses an engine for one model, and loads the model on it."""

    def __init__(self, wanted: LoadRequest) -> None:
        """Raises ModelLoadError when card, file or text are wrong."""
        path = wanted.card or default_card_path()
        self._wanted = wanted
        self.checker = EngineChecker(
            path, wanted.engine, wanted.threads, wanted.precision, wanted.engines_folder, wanted.prompt
        )
        self._cache = MeasurementCache(wanted.engines_folder)
        self._way: Way | None = None
        """How the engine that was chosen runs; None: in its preferred way"""
        self._rules = rules_in(self.checker.card, path)

    def choose_engine(self) -> tuple[Engine, str | None]:
        """Open the engine for the model; return it with the reason, where the engine itself does not have it."""
        if (found := self._open_measured()) is not None:
            return found
        preferred = self.checker.open_preferred()
        ways = self.checker.ways(preferred.name)
        if self._wanted.measure_s <= 0 or len(ways) < 2:
            return self._open_as_other_version(preferred)
        preferred.close()
        with self._cache.measuring_lock():
            # Another worker of this machine may have measured while this one waited.
            if (found := self._open_measured()) is not None:
                return found
            engine, measurements = self.measure(self._wanted.measure_s, ways)
        self._way = measurements.way
        return engine, measurements.sentence()

    def _open_measured(self) -> tuple[Engine, str] | None:
        known = self._cache.load(self._key)
        if known is None:
            return None
        try:
            engine = self.checker.open_way(known.way)
        except ModelLoadError as error:
            logger.warning(
                "%s was fastest but does not run any longer, so ways are measured again: %s", known.way, error
            )
            return None
        self._way = known.way
        return engine, f"{known.sentence()} (measured earlier)"

    def _open_as_other_version(self, preferred: Engine) -> tuple[Engine, str | None]:
        """Open the engine for a model that is not measured, in the way that was fastest for another version of it.

        Returns the ``preferred`` engine when no version was measured, or when the outputs are too far from those of the
        preferred one, in f32.
        """
        known = self._cache.load_from_other_version(self._key)
        if known is None:
            return preferred, None
        try:
            engine = self.checker.open_way(known.way)
        except ModelLoadError as error:
            logger.warning("%s was fastest for another version but does not run this one: %s", known.way, error)
            return preferred, None
        named = known.way.precision == self.checker.request.precision
        exact = known.way.precision == "f32"
        against = None if named else self.checker.why_different(engine, preferred, exact)
        if against is not None:
            logger.warning("%s was fastest for another version but is not used for this one: %s", known.way, against)
            engine.close()
            return preferred, None
        preferred.close()
        self._way = known.way
        return engine, f"{known.sentence()} (measured with another version)"

    def measure_and_save(self, ways: Sequence[Way]) -> EngineMeasurements:
        """Measure ``ways`` now, also when measurements exist, and save the result."""
        with self._cache.measuring_lock():
            engine, measurements = self.measure(self._wanted.measure_s, ways)
        engine.close()
        return measurements

    def measure(self, seconds: float, ways: Sequence[Way]) -> tuple[Engine, EngineMeasurements]:
        """Measure ``ways`` for about ``seconds`` and save the result; return the fastest engine, loaded."""
        start = time.perf_counter()
        engine, measurements = WayMeasurer(
            self.checker.open_way,
            self.checker.samples(),
            self.checker.why_outputs_differ,
            seconds,
            unmeasured=self.checker.why_unmeasured,
        ).measure(ways)
        self._cache.save(self._key, measurements)
        logger.info(
            "measured how %s %s runs fastest: %s",
            self.checker.card.name,
            self.checker.card.version,
            measurements.sentence(),
            extra={"seconds": round(time.perf_counter() - start, 1), "measured": measurements.table()},
        )
        return engine, measurements

    def with_lone_tiles(self, engine: Engine) -> Engine:
        """Return ``engine``, together with one that runs single tiles on many cores."""
        try:
            lone = self.checker.open_lone(engine.name, self._way)
        except ModelLoadError as error:
            logger.debug("single tiles run on some of the cores: %s", error)
            return engine
        if lone is None:
            return engine
        try:
            if have_same_outputs(engine, lone, self.checker.samples()[:_LONE_SAMPLES]):
                return LoneTileEngine(engine, lone)
            logger.debug("single tiles run on some of the cores: the outputs of all together are not the very same")
        except InferenceError as error:
            logger.debug("single tiles run on some of the cores: %s", error)
        lone.close()
        return engine

    def make_model(self, engine: Engine, why: str | None) -> Model:
        """Return the model on ``engine``, which was chosen for the reason ``why``, with a second one for failures."""
        card, least = self.checker.card, self.checker.least_confidence
        why_less = why_less_finds_nothing(min(card.confidences), least)
        if why_less is not None:
            logger.warning("%s %s: %s", card.name, card.version, why_less)
        fallback = FallbackEngine(engine, self.make_fallback(engine.name), why)
        return Model(card, fallback, self.checker.head, least, self._rules)

    def make_fallback(self, name: str) -> Callable[[], Engine]:
        """Return what loads the engine for batches on which engine ``name`` fails."""

        def load() -> Engine:
            if not self._wanted.fallback:
                raise ModelLoadError("detector.fallback is off")
            return load_other(name, replace(self.checker.request, precision="f32"), self.checker.check)

        return load

    @cached_property
    def _key(self) -> MachineKey:
        card, kind = self.checker.card, self._wanted.engine
        return MachineKey.of(
            card.name, card.sha256, kind, self.checker.request, usable_engines(kind), min(card.confidences)
        )
