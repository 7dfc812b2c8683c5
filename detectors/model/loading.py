"""Loading a model: on the engine that is known to be fastest here, or is measured to be, with another behind it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

from detectors.card.card import ModelCard, default_card_path
from detectors.engines.fallback import FallbackEngine
from detectors.engines.measuring.measurement_cache import MachineKey, MeasurementCache
from detectors.engines.measuring.measurements import EngineMeasurements
from detectors.engines.measuring.measuring import WayMeasurer
from detectors.engines.port import Engine, EngineRequest, Way
from detectors.engines.registry import check_or_close, load_other, usable_engines
from detectors.errors import ModelLoadError
from detectors.model.engine_check import EngineChecker
from detectors.model.predict import Model
from detectors.settings import DetectorSettings, EngineKind, Precision

logger = logging.getLogger(__name__)


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

    @classmethod
    def of(cls, settings: DetectorSettings, engines_folder: Path | None = None) -> LoadRequest:
        """Make the request that ``settings`` describe; fields of the same name are taken over."""
        return cls(card=settings.model, engines_folder=engines_folder, **settings.model_dump(include=_SHARED))


_SHARED = {one.name for one in fields(LoadRequest)} & set(DetectorSettings.model_fields)
"""The fields that a request and the settings have in common."""


def load_model(wanted: LoadRequest) -> Model:
    """The model asked for, checked with a first run, run in the way that is fastest here as far as that is known.

    Raises ModelLoadError when card, file, engine and outputs do not fit together.
    """
    loader = _ModelLoader(wanted)
    engine, why = loader.choose_engine()
    return loader.make_model(engine, why)


def read_request(wanted: LoadRequest) -> tuple[ModelCard, EngineRequest]:
    """The card of the model asked for, and what an engine is asked to load. Raises ModelLoadError as the card does."""
    loader = _ModelLoader(wanted)
    return loader.checker.card, loader.checker.request


def load_on_engine(wanted: LoadRequest, open_engine: Callable[[], Engine]) -> Model:
    """The model asked for on the engine ``open_engine`` loads, checked with a first run, whatever ``wanted`` names.

    Raises ModelLoadError when it cannot be loaded, its outputs do not fit, or its answers are too far from those of f32
    where precision auto asks for such that are not.
    """
    loader = _ModelLoader(wanted)
    engine = check_or_close(open_engine(), loader.checker.check)
    return loader.make_model(check_or_close(engine, loader.checker.require_exact), None)


def measure_model(wanted: LoadRequest) -> EngineMeasurements:
    """What is measured now of the ways to run the model asked for; it is remembered for its next load.

    Raises ModelLoadError as ``load_model`` does.
    """
    loader = _ModelLoader(wanted)
    preferred = loader.checker.open_preferred()
    preferred.close()
    return loader.measure_and_save(loader.checker.ways(preferred.name))


class _ModelLoader:
    """One model on its way to the engine that is fastest here."""

    def __init__(self, wanted: LoadRequest) -> None:
        """Raises ModelLoadError when card, file or words are wrong."""
        path = wanted.card or default_card_path()
        self._wanted = wanted
        self.checker = EngineChecker(path, wanted.engine, wanted.threads, wanted.precision, wanted.engines_folder)
        self._cache = MeasurementCache(wanted.engines_folder)

    def choose_engine(self) -> tuple[Engine, str | None]:
        """The engine to run the model on; why it was chosen, where the engine itself does not say it."""
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
        return engine, measurements.sentence()

    def _open_measured(self) -> tuple[Engine, str] | None:
        known = self._cache.load(self._key)
        if known is None:
            return None
        try:
            return self.checker.open_way(known.way), f"{known.sentence()} (measured earlier)"
        except ModelLoadError as error:
            logger.warning("%s was fastest but does not run any more, measuring again: %s", known.way, error)
            return None

    def _open_as_other_version(self, preferred: Engine) -> tuple[Engine, str | None]:
        """The engine for a model that is not measured: as another version of it was measured to be fastest.

        The ``preferred`` one when no version was, or when the answers are too far from the preferred one's, in f32.
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
        against = None if named else self.checker.why_different(engine, preferred)
        if against is not None:
            logger.warning("%s was fastest for another version but is not used for this one: %s", known.way, against)
            engine.close()
            return preferred, None
        preferred.close()
        return engine, f"another version was {known.sentence()}"

    def measure_and_save(self, ways: Sequence[Way]) -> EngineMeasurements:
        """What is measured of ``ways`` now, whatever is remembered."""
        with self._cache.measuring_lock():
            engine, measurements = self.measure(self._wanted.measure_s, ways)
        engine.close()
        return measurements

    def measure(self, seconds: float, ways: Sequence[Way]) -> tuple[Engine, EngineMeasurements]:
        """The fastest of ``ways``, measured now in about so many ``seconds``, loaded; it is remembered."""
        start = time.perf_counter()
        engine, measurements = WayMeasurer(
            self.checker.open_way, self.checker.samples(), self.checker.why_outputs_differ, seconds
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

    def make_model(self, engine: Engine, why: str | None) -> Model:
        """The model on ``engine``, which was chosen for the reason ``why``, with the next one behind it."""
        return Model(self.checker.card, FallbackEngine(engine, self.make_fallback(engine.name), why), self.checker.head)

    def make_fallback(self, name: str) -> Callable[[], Engine]:
        """How to load the engine that takes over when engine ``name`` fails."""

        def load() -> Engine:
            if not self._wanted.fallback:
                raise ModelLoadError("detector.fallback is off")
            return load_other(name, replace(self.checker.request, precision="f32"), self.checker.check)

        return load

    @cached_property
    def _key(self) -> MachineKey:
        card, kind = self.checker.card, self._wanted.engine
        return MachineKey.of(card.name, card.sha256, kind, self.checker.request, usable_engines(kind))
