"""Loading a model: card, file, engine and head, and the first run that shows whether they fit together."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from detectors.agreement import disagreement
from detectors.arrays import ImageArray, Outputs
from detectors.card import ModelCard, Precision, default_card_path, read_card, verified_model_file
from detectors.engines.choose import (
    EngineKind,
    available_threads,
    load_engine,
    load_other,
    open_checked,
    usable_engines,
)
from detectors.engines.fallback import FallbackEngine
from detectors.engines.port import Engine, EngineRequest, Way
from detectors.engines.remembered import MachineKey, Memory
from detectors.engines.sample_tiles import sample_tiles
from detectors.engines.tuned import Tuned
from detectors.engines.tuning import Tuner
from detectors.errors import InferenceError, ModelLoadError
from detectors.heads import choose_head
from detectors.heads.classes import ClassNumbers
from detectors.heads.first_run import first_tiles, objection
from detectors.heads.port import Head, HeadRequest
from detectors.inputs import constant_inputs, picture_of
from detectors.onnx_file import read_onnx_file
from detectors.predict import Model
from detectors.text import read_prompt

logger = logging.getLogger(__name__)

_SAMPLE_TILES = 6
# Opsets every engine reads without reserve; of others they may know some operators and not know some.
_OPSETS = range(11, 23)


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """Which model, and how it is to run.

    card: its model.yaml, None for the model that ships; engine: auto takes the best one; threads: of the engine, 0
    takes all this process may use; precision: None takes the card's; measure_s: about how long it may be measured how
    the model runs fastest here, where that is not known yet, 0 takes the preferred way unmeasured; memory: the folder
    in which what was measured is remembered; fallback: batches the engine fails on are given to the next one.
    """

    card: Path | None = None
    engine: EngineKind = "auto"
    threads: int = 0
    precision: Precision | None = None
    measure_s: float = 0.0
    memory: Path | None = None
    fallback: bool = True


def load_model(wanted: LoadRequest) -> Model:
    """The model asked for, checked with a first run, run in the way that is fastest here as far as that is known.

    Raises ModelLoadError when card, file, engine and outputs do not fit together.
    """
    loading = _Loading(wanted)
    engine, why = loading.engine()
    load_next = loading.next_after(engine.name)
    return Model(loading.card, FallbackEngine(engine, load_next, why), loading.head)


def request_of(wanted: LoadRequest) -> tuple[ModelCard, EngineRequest]:
    """The card of the model asked for, and what an engine is asked to load. Raises ModelLoadError as the card does."""
    loading = _Loading(wanted)
    return loading.card, loading.request


def load_on(wanted: LoadRequest, open_engine: Callable[[], Engine]) -> Model:
    """The model asked for on the engine ``open_engine`` loads, checked with a first run, whatever ``wanted`` names.

    Raises ModelLoadError when it cannot be loaded, its outputs do not fit, or its answers are too far from those of f32
    where precision auto asks for such that are not.
    """
    loading = _Loading(wanted)
    engine = loading.checked(open_engine())
    loading.require_exact(engine)
    return Model(loading.card, FallbackEngine(engine, loading.next_after(engine.name), None), loading.head)


def measure_model(wanted: LoadRequest) -> Tuned:
    """What is measured now of the ways to run the model asked for; it is remembered for its next load.

    Raises ModelLoadError as ``load_model`` does.
    """
    loading = _Loading(wanted)
    preferred = loading.preferred()
    preferred.close()
    return loading.measured(loading.ways(preferred.name))


class _Loading:
    """One model on its way from card to engine."""

    head: Head
    """Of the engine that was checked last; all engines of one model have the same."""

    def __init__(self, wanted: LoadRequest) -> None:
        """Reads and checks everything but the graph. Raises ModelLoadError when card, file or words are wrong."""
        path = wanted.card or default_card_path()
        self._wanted = wanted
        self.card = read_card(path)
        file = verified_model_file(self.card, path)
        self._about = read_onnx_file(file)
        self._prompt = read_prompt(self.card, path)
        self._dynamic = picture_of(self._about.inputs, file).shape[:1] == (None,)
        self.request = EngineRequest(
            file,
            self.card.input,
            wanted.threads or available_threads(),
            wanted.precision or self.card.precision,
            constants=constant_inputs(self._about, self.card.input, file, self._prompt),
            cache=wanted.memory,
        )
        self._memory = Memory(wanted.memory)

    def checked(self, engine: Engine) -> Engine:
        """``engine``, closed again when it does not fit. Raises ModelLoadError then."""
        try:
            self._check(engine)
        except BaseException:
            engine.close()
            raise
        return engine

    def engine(self) -> tuple[Engine, str | None]:
        """The engine to run the model on; why it was chosen, where the engine itself does not say it."""
        if (found := self._as_remembered()) is not None:
            return found
        preferred = self.preferred()
        ways = self.ways(preferred.name)
        if self._wanted.measure_s <= 0 or len(ways) < 2:
            return self._as_another_version(preferred)
        preferred.close()
        with self._memory.alone():
            # Another worker of this machine may have measured while this one waited.
            if (found := self._as_remembered()) is not None:
                return found
            engine, tuned = self.tuned(self._wanted.measure_s, ways)
        return engine, tuned.sentence()

    def _as_remembered(self) -> tuple[Engine, str] | None:
        known = self._memory.recall(self._key)
        if known is None:
            return None
        try:
            return self._open(known.way), f"{known.sentence()} (measured earlier)"
        except ModelLoadError as error:
            logger.warning("%s was fastest but does not run any more, measuring again: %s", known.way, error)
            return None

    def _as_another_version(self, preferred: Engine) -> tuple[Engine, str | None]:
        """The engine for a model that is not measured: as another version of it was measured to be fastest.

        The ``preferred`` one when no version was, or when the answers are too far from the preferred one's, in f32.
        """
        known = self._memory.recall_other_version(self._key)
        if known is None:
            return preferred, None
        try:
            engine = self._open(known.way)
        except ModelLoadError as error:
            logger.warning("%s was fastest for another version but does not run this one: %s", known.way, error)
            return preferred, None
        against = self._objection_to(engine, preferred) if known.way.precision != self.request.precision else None
        if against is not None:
            logger.warning("%s was fastest for another version but is not used for this one: %s", known.way, against)
            engine.close()
            return preferred, None
        preferred.close()
        return engine, f"another version was {known.sentence()}"

    def _objection_to(self, engine: Engine, exact: Engine) -> str | None:
        """Why ``engine`` may not stand for ``exact``, or None."""
        try:
            return self._differs(exact.run(self._samples), engine.run(self._samples))
        except InferenceError as error:
            return str(error)

    def require_exact(self, engine: Engine) -> None:
        """Compare ``engine``, unless a precision is asked for by name, with the preferred one in f32.

        Raises ModelLoadError when it is too far from it, and closes it then.
        """
        if self.request.precision != "auto":
            return
        try:
            exact = load_engine("auto", replace(self.request, precision="f32"), self._check)
            try:
                against = self._objection_to(engine, exact)
            finally:
                exact.close()
            if against is not None:
                raise ModelLoadError(
                    f"engine {engine.name} is not used: {against}; name a precision in the card or in "
                    "detector.precision to take it all the same"
                )
        except BaseException:
            engine.close()
            raise

    def preferred(self) -> Engine:
        """The preferred engine that runs the model, checked."""
        try:
            return load_engine(self._wanted.engine, self.request, self._check)
        except ModelLoadError as error:
            opset = self._about.opset
            if opset in _OPSETS:
                raise
            raise ModelLoadError(
                f"{self.request.path} is of opset {opset or 'unknown'}, engines read {_OPSETS[0]} to {_OPSETS[-1]} "
                f"without reserve: export it again with one of these ({' '.join(str(error).split())})"
            ) from error

    def ways(self, preferred: str) -> list[Way]:
        """Every way worth measuring, the preferred first, where ``preferred`` is the engine that is used unmeasured."""
        usable = usable_engines(self._wanted.engine)
        if any(entry.gpu for entry in usable if entry.name == preferred):
            usable = [entry for entry in usable if entry.gpu]
        return [way for entry in usable for way in entry.ways(self.request, self._dynamic)]

    def measured(self, ways: Sequence[Way]) -> Tuned:
        """What is measured of ``ways`` now, whatever is remembered."""
        with self._memory.alone():
            engine, tuned = self.tuned(self._wanted.measure_s, ways)
        engine.close()
        return tuned

    def tuned(self, seconds: float, ways: Sequence[Way]) -> tuple[Engine, Tuned]:
        """The fastest of ``ways``, measured now in about so many ``seconds``, loaded; it is remembered."""
        start = time.perf_counter()
        engine, tuned = Tuner(self._open, self._samples, self._differs, seconds).tune(ways)
        self._memory.remember(self._key, tuned)
        logger.info(
            "measured how %s %s runs fastest: %s",
            self.card.name,
            self.card.version,
            tuned.sentence(),
            extra={"seconds": round(time.perf_counter() - start, 1), "measured": tuned.table()},
        )
        return engine, tuned

    def next_after(self, name: str) -> Callable[[], Engine]:
        """How to load the engine that takes over when engine ``name`` fails."""

        def load() -> Engine:
            if not self._wanted.fallback:
                raise ModelLoadError("detector.fallback is off")
            return load_other(name, replace(self.request, precision="f32"), self._check)

        return load

    @cached_property
    def _samples(self) -> ImageArray:
        return sample_tiles(self.card.input.width, self.card.input.height, _SAMPLE_TILES)

    @cached_property
    def _key(self) -> MachineKey:
        usable = usable_engines(self._wanted.engine)
        return MachineKey.of(self.card.name, self.card.sha256, self._wanted.engine, self.request, usable)

    def _open(self, way: Way) -> Engine:
        """The engine of ``way``, checked. Raises ModelLoadError when it cannot be used (any more)."""
        entry = next((one for one in usable_engines(self._wanted.engine) if one.name == way.engine), None)
        if entry is None:
            raise ModelLoadError(f"engine {way.engine} is not asked for, or cannot be used")
        return open_checked(entry, self.request.run_as(way, str(way)), self._check)

    def _check(self, engine: Engine) -> None:
        """Find the head that reads ``engine``'s outputs, by a run on a blank and a noise tile.

        Raises ModelLoadError when shapes, numbers or scores are not those of the card's layout.
        """
        card, prompt = self.card, self._prompt
        size = (card.input.width, card.input.height)
        try:
            outputs = engine.run(first_tiles(*size, card.input.pad))
        except InferenceError as error:
            raise ModelLoadError(f"{card.name} {card.version} failed its first run: {error}") from error
        classes = ClassNumbers(len(card.classes), card.class_ids)
        names = tuple(one.name for one in self._about.outputs)
        request = HeadRequest(*size, classes, names, None if prompt is None else prompt.words)
        head = choose_head(card.layout, request, [output.shape for output in outputs], self._about.metadata)
        against = objection(head, outputs, size)
        if against is not None:
            raise ModelLoadError(f"{card.name} {card.version} failed its first run: {against}")
        self.head = head

    def _differs(self, exact: Outputs, other: Outputs) -> str | None:
        return disagreement(self.head, exact, other, self.card.thresholds.confidence)
