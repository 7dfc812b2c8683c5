"""Opens engines for a model file, checks each with a first run, and compares its outputs with f32."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from detectors.card.card import BoxesCard, exported_program, read_card, verified_model_file
from detectors.card.onnx_file import read_onnx_file
from detectors.engines.inputs import constant_inputs, image_input_of
from detectors.engines.lone_tiles import MOST_THREADS
from detectors.engines.measuring.sample_tiles import sample_tiles
from detectors.engines.memory_fit import weights_bytes
from detectors.engines.port import Engine, EngineRequest, Way
from detectors.engines.registry import ENGINES, available_threads, load_engine, open_and_check, usable_engines
from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import ImageArray, Outputs
from detectors.heads.choice import choose_head
from detectors.heads.classes import ClassNumbers
from detectors.heads.first_run import first_tiles, why_implausible
from detectors.heads.port import Head, HeadRequest
from detectors.heads.text import read_prompt, with_prompt
from detectors.model.least_confidence import least_confidence
from detectors.model.precision_check import why_different, why_unmeasured
from detectors.settings import EngineKind, Precision

_SAMPLE_TILES = 12
# Larger weights are not in memory twice, only to have a single tile sooner.
_MOST_WEIGHTS_TWICE_BYTES = 64 << 20
# Opsets that every engine supports completely; of others, engines may not support some operators.
_OPSETS = range(11, 23)


class EngineChecker:
    """Opens and checks engines for one model. All methods raise ModelLoadError when something does not fit."""

    head: Head
    """The head of the engine that was checked last; all engines of one model have the same."""

    def __init__(
        self,
        path: Path,
        kind: EngineKind,
        threads: int,
        precision: Precision | None,
        engines_folder: Path | None,
        prompt: str | None = None,
    ) -> None:
        """Reads and checks everything except the graph. ``path``: the card; the rest as in LoadRequest.

        Raises ModelLoadError when card, file or text are wrong.
        """
        self.kind = kind
        card = read_card(path)
        self.card = card if prompt is None else with_prompt(card, prompt)
        file = verified_model_file(self.card, path)
        self._about = read_onnx_file(file)
        self._prompt = read_prompt(self.card, path)
        self._dynamic = image_input_of(self._about.inputs, file).shape[:1] == (None,)
        self.request = EngineRequest(
            file,
            self.card.input,
            threads or available_threads(),
            precision or self.card.precision,
            constants=constant_inputs(self._about, self.card.input, file, self._prompt),
            engines_folder=engines_folder,
            exported=exported_program(self.card, path),
        )

    @property
    def least_confidence(self) -> float | None:
        """The score below which the NMS inside the model leaves boxes out, where it is known."""
        return least_confidence(self._about)

    def open_preferred(self) -> Engine:
        """Open the preferred engine that runs the model, and check it."""
        try:
            return load_engine(self.kind, self.request, self.check)
        except ModelLoadError as error:
            opset = self._about.opset
            if self._about.graph.custom_operators:
                raise ModelLoadError(f"{error}{self._about.graph.custom_text}") from error
            if opset in _OPSETS:
                raise
            raise ModelLoadError(
                f"{self.request.path} is of opset {opset or 'unknown'}, engines support {_OPSETS[0]} to {_OPSETS[-1]} "
                f"completely: export it again with one of these ({' '.join(str(error).split())})"
            ) from error

    def open_way(self, way: Way) -> Engine:
        """Open the engine of ``way`` and check it. Raises ModelLoadError when it cannot be used."""
        entry = next((one for one in usable_engines(self.kind) if one.name == way.engine), None)
        if entry is None:
            raise ModelLoadError(f"engine {way.engine} is not requested, or cannot be used")
        return open_and_check(entry, self.request.run_as(way, str(way)), self.check)

    def open_lone(self, name: str, way: Way | None) -> Engine | None:
        """Open engine ``name`` for one tile at a time on many threads; None where that is no other way to run it.

        ``way``: how it runs otherwise; None: in its preferred way. Raises ModelLoadError when it cannot be opened, also
        where the weights do not fit into memory a second time.
        """
        entry = next((one for one in usable_engines(self.kind) if one.name == name), None)
        if entry is None or entry.gpu or name not in ENGINES or self.request.threads < 2:
            return None
        way = way or next(iter(entry.ways(self.request, False)), None)
        if way is None or way.streams == 1 or weights_bytes(self.request.path) > _MOST_WEIGHTS_TWICE_BYTES:
            return None
        alone = replace(way, streams=1, batch=0)
        request = replace(self.request.run_as(alone, str(alone)), threads=min(self.request.threads, MOST_THREADS))
        return open_and_check(entry, request, self.check)

    def ways(self, preferred: str) -> list[Way]:
        """Return the ways to measure, the preferred first; ``preferred``: the engine that is used unmeasured."""
        usable = usable_engines(self.kind)
        if any(entry.gpu for entry in usable if entry.name == preferred):
            usable = [entry for entry in usable if entry.gpu]
        return [way for entry in usable for way in entry.ways(self.request, self._dynamic)]

    def require_exact(self, engine: Engine) -> None:
        """Compare ``engine`` with the preferred one in f32, unless a precision is requested by name.

        Raises ModelLoadError when it is too far from it.
        """
        if self.request.precision != "auto":
            return
        exact = load_engine("auto", replace(self.request, precision="f32"), self.check)
        try:
            against = self.why_different(engine, exact, exact=False)
        finally:
            exact.close()
        if against is not None:
            raise ModelLoadError(
                f"engine {engine.name} is not used: {against}; name a precision in the card or in "
                "detector.precision to use it anyway"
            )

    def why_different(self, engine: Engine, reference: Engine, exact: bool) -> str | None:
        """Return why ``engine`` may not replace ``reference``, which is in f32, or None.

        ``exact``: whether it computes in f32, too; then it may replace it where there is too little to compare.
        """
        try:
            tiles = self.samples()
            outputs = reference.run(tiles)
            against = self.why_outputs_differ(outputs, engine.run(tiles))
        except InferenceError as error:
            return str(error)
        return against or (None if exact else self.why_unmeasured(outputs))

    def why_outputs_differ(self, exact: Outputs, other: Outputs) -> str | None:
        """Return why outputs ``other`` are too far from ``exact``, or None."""
        return why_different(self.head, exact, other, min(self.card.confidences))

    def why_unmeasured(self, exact: Outputs) -> str | None:
        """Return why ``exact``, in f32, has too little to compare a lower precision with, or None."""
        return why_unmeasured(self.head, exact, min(self.card.confidences))

    def samples(self) -> ImageArray:
        """Return tiles of the model's input size, for measuring and comparing engines."""
        return sample_tiles(self.card.input.width, self.card.input.height, _SAMPLE_TILES)

    def check(self, engine: Engine) -> None:
        """Find the head that reads ``engine``'s outputs, with a run on a blank and a noise tile.

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
        tokens = None if prompt is None else prompt.tokens
        request = HeadRequest(*size, classes, names, tokens, card.boxes or BoxesCard())
        head = choose_head(card.layout, request, [output.shape for output in outputs], self._about.metadata)
        against = why_implausible(head, outputs, size)
        if against is not None:
            raise ModelLoadError(f"{card.name} {card.version} failed its first run: {against}")
        self.head = head
