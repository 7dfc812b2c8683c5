"""Makes an INT8 version of a model, and keeps it only if it finds what the f32 model finds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path

import numpy as np
import yaml

from detectors.card.card import ModelCard, read_card, verified_model_file
from detectors.card.onnx_file import read_onnx_file
from detectors.engines.cpu.onnxruntime import to_input
from detectors.engines.inputs import constant_inputs, image_input_of, require_colour_image
from detectors.engines.port import repeat_for_batch
from detectors.engines.registry import usable_engines
from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import Candidates, ImageArray
from detectors.heads.text import read_prompt
from detectors.model.loading import LoadRequest, load_model
from detectors.model.predict import Model
from detectors.settings import EngineKind
from infra.extras import install_extra
from training.quantize.comparing import agreement, boxes_of, is_sure, tiles_per_second
from training.quantize.errors import QuantizeError
from training.quantize.graph import Feed, Plan, outside_weights, plans, prepare_graph, write_quantized
from training.quantize.plan_result import EngineFigures, PlanResult, Quantized, QuantizeRequest
from training.quantize.tiles import Samples, read_samples

LEAST_BOXES = 20
"""The f32 model has to find so many things on the held-out tiles, or a loss says nothing."""

_ENGINES: tuple[EngineKind, ...] = ("openvino", "onnxruntime")
_SPEED_S = 1.0
_CARD, _FILE, _SOURCE = "model.yaml", "model.onnx", "f32.onnx"


def quantize(wanted: QuantizeRequest, note: Callable[[str], None] = lambda text: None) -> Quantized:
    """Calibrate, measure, and write the new version if the loss is within the limit; ``note`` is called at each step.

    Raises QuantizeError or ModelLoadError when model, frames or output folder cannot be used; nothing is left behind
    then, nor when the loss is too large.
    """
    card = read_card(wanted.card)
    version = _version(card.version)
    output = wanted.output or wanted.card.absolute().parent.parent / version
    if output.exists():
        raise QuantizeError(f"{output} is there already and stays as it is; move it away, or give another --output")
    try:
        work = tempfile.TemporaryDirectory(dir=output.parent, prefix=".quantize-")
    except OSError as error:
        raise QuantizeError(f"{output.parent} cannot be written ({error.strerror}); give another --output") from error
    with work as folder:
        return _Quantization(wanted, card, version, output, Path(folder), note).run()


def _version(version: str) -> str:
    """Return the INT8 version of ``version``: text after a plus sign does not order versions."""
    return f"{version}{'.' if '+' in version else '+'}int8"


class _Quantization:
    """Runs one quantization in a temporary folder."""

    def __init__(
        self,
        wanted: QuantizeRequest,
        card: ModelCard,
        version: str,
        output: Path,
        folder: Path,
        note: Callable[[str], None],
    ) -> None:
        self._wanted = wanted
        self._card = card
        self._version = version
        self._output = output
        self._folder = folder
        self._note = note
        self._outside: set[str] = set()
        self._engines = [each for each in _ENGINES if any(one.name == each for one in usable_engines("auto"))]

    def run(self) -> Quantized:
        """Run all steps, from frames to the new version."""
        if not self._engines:
            raise QuantizeError(f"none of {', '.join(_ENGINES)} is installed to measure with; {install_extra('cpu')}")
        source, original = self._folder / _SOURCE, verified_model_file(self._card, self._wanted.card)
        proto = prepare_graph(original, source)
        self._outside = outside_weights(original)
        with closing(self._load(self._wanted.card, self._engines[-1])) as model:
            samples = read_samples(self._wanted.frames, model, self._wanted.max_pixels)
        self._note(
            f"{len(samples.calibration)} tiles to calibrate and {len(samples.held_out)} others to measure with, "
            f"from {samples.frames} frames"
        )
        exact = {engine: self._run_f32(engine, samples.held_out) for engine in self._engines}
        tried = []
        for number, plan in enumerate(plans(proto, self._wanted.target)):
            version = self._folder / str(number)
            outcome = self._try(plan, source, version, samples, exact)
            self._note(f"{plan.words}: " + (outcome.failed or f"loss {outcome.loss:.4f}"))
            tried.append((outcome, version))
        outcomes = tuple(outcome for outcome, _ in tried)
        best, version = min(tried, key=lambda each: each[0].loss)
        if best.failed is None:
            best = self._measure_speed(best, version, samples.held_out)
        result = Quantized(
            name=self._card.name,
            version=self._version,
            target=self._wanted.target,
            max_loss=self._wanted.max_loss,
            frames=samples.frames,
            calibration_tiles=len(samples.calibration),
            held_out_tiles=len(samples.held_out),
            outcomes=outcomes,
            best=best,
        )
        if best.failed is None and best.loss <= self._wanted.max_loss:
            return replace(result, card=self._keep(version, result))
        return result

    def _load(self, card: Path, engine: EngineKind) -> Model:
        return load_model(LoadRequest(card, engine, self._wanted.threads, precision="f32", fallback=False))

    def _run_f32(self, engine: EngineKind, tiles: ImageArray) -> Candidates:
        """Return the boxes of the f32 model. Raises QuantizeError if they are too few to measure a loss."""
        with closing(self._load(self._wanted.card, engine)) as model:
            found = boxes_of(model, tiles)
        if (count := self._count_boxes(found)) < LEAST_BOXES:
            raise QuantizeError(
                f"the f32 model finds {count} things on the {len(tiles)} tiles it is measured with, {LEAST_BOXES} "
                "are the least to measure a loss by; give more frames, ones that show what the model is for"
            )
        return found

    def _try(
        self, plan: Plan, source: Path, version: Path, samples: Samples, exact: dict[EngineKind, Candidates]
    ) -> PlanResult:
        """Quantize by ``plan`` into the folder ``version``, and measure."""
        version.mkdir()
        try:
            write_quantized(
                source, version / _FILE, self._feeds(source, samples.calibration), self._wanted.target, plan.kept
            )
            card = self._write_card(version, {})
            figures = tuple(self._figures(card, engine, samples.held_out, exact[engine]) for engine in self._engines)
        except (QuantizeError, ModelLoadError, InferenceError) as error:
            return PlanResult(plan.words, 1.0, failed=str(error))
        return PlanResult(plan.words, max(each.loss for each in figures), figures)

    def _feeds(self, source: Path, tiles: ImageArray) -> Iterator[Feed]:
        """Yield the model's inputs for all ``tiles``, a batch at a time."""
        about = read_onnx_file(source)
        picture = image_input_of(about.inputs, source)
        batch, channels_last = picture.shape[0] or 1, require_colour_image(picture.shape, source)
        prompt = read_prompt(self._card, self._wanted.card)
        constants = {
            name: repeat_for_batch(value, batch)
            for name, value in constant_inputs(about, self._card.input, source, prompt).items()
        }
        for at in range(0, len(tiles), batch):
            # The last batch is filled up with tiles from the start: calibrating on them twice changes nothing.
            wanted = np.take(tiles, range(at, at + batch), axis=0, mode="wrap")
            values = to_input(wanted, self._card.input).astype(picture.type, copy=False)
            if channels_last:
                values = np.ascontiguousarray(values.transpose(0, 2, 3, 1))
            yield {picture.name: values, **constants}

    def _figures(self, card: Path, engine: EngineKind, tiles: ImageArray, exact: Candidates) -> EngineFigures:
        with closing(self._load(card, engine)) as model:
            found = boxes_of(model, tiles)
        loss = 1.0 - agreement(exact, found, self._card.confidences)
        return EngineFigures(engine, self._count_boxes(exact), self._count_boxes(found), loss)

    def _count_boxes(self, found: Candidates) -> int:
        """Return how many boxes reach the confidence that the card requires of their class."""
        return int(is_sure(found, self._card.confidences).sum())

    def _measure_speed(self, best: PlanResult, version: Path, tiles: ImageArray) -> PlanResult:
        """Return ``best`` with the speed of both models in each engine."""
        timed = []
        for figures, engine in zip(best.engines, self._engines, strict=True):
            with (
                closing(self._load(self._wanted.card, engine)) as exact,
                closing(self._load(version / _CARD, engine)) as quick,
            ):
                slow, fast = tiles_per_second((exact, quick), tiles, _SPEED_S)
            timed.append(replace(figures, tiles_per_s_f32=round(slow, 1), tiles_per_s_int8=round(fast, 1)))
        return replace(best, engines=tuple(timed))

    def _write_card(self, version: Path, measured: dict[str, object]) -> Path:
        """Write the card of the model into the folder ``version``, with the other files that the card names."""
        fields = yaml.safe_load(self._wanted.card.read_text(encoding="utf-8"))
        # The new file has all weights inside.
        files = {name: sha256 for name, sha256 in self._card.files.items() if name not in self._outside}
        for name in {*files, *([self._card.text.tokenizer] if self._card.text else [])}:
            (version / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._wanted.card.parent / name, version / name)
        with (version / _FILE).open("rb") as file:
            checksum = file_digest(file, "sha256").hexdigest()
        training = {key: value for key, value in self._card.training.items() if key != "evaluated"}
        training["quantized_from"] = {"version": self._card.version, "sha256": self._card.sha256}
        fields |= {"version": self._version, "file": _FILE, "sha256": checksum}
        if "files" in fields:
            fields["files"] = files
        fields["training"] = {**training, **({"int8": measured} if measured else {})}
        path = version / _CARD
        path.write_text(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8")
        return path

    def _keep(self, version: Path, result: Quantized) -> Path:
        """Make the folder ``version`` the new version, with the measurements in its card; returns the card's path."""
        best = result.best
        self._write_card(
            version,
            {
                "target": result.target,
                "loss": round(best.loss, 4),
                "max_loss": result.max_loss,
                "layers": best.words,
                "calibration_tiles": result.calibration_tiles,
                "held_out_tiles": result.held_out_tiles,
                "loss_by_engine": {each.engine: round(each.loss, 4) for each in best.engines},
                "made": datetime.now(UTC).date().isoformat(),
            },
        )
        try:
            version.rename(self._output)
        except OSError as error:
            raise QuantizeError(
                f"{self._output} cannot be written ({error.strerror}); give another --output"
            ) from error
        return self._output / _CARD
