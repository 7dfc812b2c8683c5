"""The contract of engines: inherit :class:`EngineContract` and give it a fixture ``entry``.

::

    class TestMyEngine(EngineContract):
        @pytest.fixture
        def entry(self) -> EngineEntry:
            return my_package.ENTRY

The tests load small real detectors (:mod:`standgale.testing.graphs`) and compare with ONNX Runtime on the CPU.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detectors.card.card import read_card, verified_model_file
from detectors.card.onnx_file import read_onnx_file
from detectors.engines.inputs import constant_inputs
from detectors.engines.port import Engine, EngineRequest
from detectors.engines.registry import EngineEntry
from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import Outputs
from infra.extras import install_extra
from standgale.testing.graphs import GraphSpec, tiles_that_differ, write_model

SPEC = GraphSpec(width=64, height=32, mean=0.4, std=0.3)
"""The model of most tests; its mean and deviation make a wrong conversion of the pixels show."""


class EngineContract:
    """All that :mod:`detectors.engines.port` promises; a subclass gives the fixture ``entry``."""

    tolerance = 1e-4
    """How far an output may be from that of ONNX Runtime in f32."""
    threads = 2

    @pytest.fixture
    def entry(self) -> EngineEntry:
        """Gives what the author registers under the entry point group ``standgale.engines``."""
        raise NotImplementedError(f"{type(self).__name__} must have a fixture `entry` that gives an EngineEntry")

    def request_for(self, folder: Path, spec: GraphSpec) -> EngineRequest:
        """Write the model of ``spec`` into ``folder``; return the request to load it, in any precision."""
        card_path = write_model(folder, spec)
        card = read_card(card_path)
        file = verified_model_file(card, card_path)
        constants = constant_inputs(read_onnx_file(file), card.input, file)
        return EngineRequest(file, card.input, self.threads, "auto", constants=constants)

    def load(self, entry: EngineEntry, folder: Path, spec: GraphSpec = SPEC) -> Engine:
        """Load the model of ``spec`` in the engine's most exact way: f32 where it can compute in that."""
        request = self.request_for(folder, spec)
        ways = entry.ways(request, spec.batch is None)
        way = next((one for one in ways if one.precision == "f32"), ways[0])
        return entry.open(request.run_as(way, "a test"))

    def test_entry_is_usable_here_and_has_an_identity(self, entry: EngineEntry) -> None:
        assert entry.why_not() is None, "the contract needs a machine on which the engine can be used"
        assert entry.identity(), "the library's version, for the key under which measurements are kept"

    def test_ways_name_the_engine_and_obey_the_precision(self, entry: EngineEntry, tmp_path: Path) -> None:
        request = self.request_for(tmp_path, SPEC)
        ways = entry.ways(request, True)
        assert ways, "precision auto allows all, so that there must be a way"
        assert {way.engine for way in ways} == {entry.name}
        for precision in ("f32", "bf16", "f16"):
            allowed = entry.ways(replace(request, precision=precision), True)
            assert {way.precision for way in allowed} <= {precision}

    def test_engine_has_name_reason_and_batch_size(self, entry: EngineEntry, tmp_path: Path) -> None:
        request = self.request_for(tmp_path, SPEC)
        way = entry.ways(request, True)[0]
        engine = entry.open(request.run_as(way, "a test"))
        assert engine.name == entry.name
        assert way.precision in engine.reason
        assert engine.batch_size >= 1
        assert engine.parallel >= 1
        engine.close()

    @pytest.mark.parametrize("batch", [None, 1, 3])
    def test_run_keeps_the_order_of_any_number_of_tiles(
        self, entry: EngineEntry, tmp_path: Path, batch: int | None
    ) -> None:
        engine = self.load(entry, tmp_path, replace(SPEC, batch=batch))
        tiles = tiles_that_differ(11)
        one_by_one = np.concatenate([engine.run(tiles[at : at + 1])[0] for at in range(11)])
        (together,) = engine.run(tiles)
        assert together.dtype == np.float32
        assert together.shape == one_by_one.shape
        assert np.abs(together - one_by_one).max() < self.tolerance
        # The rectangles of each tile lie one pixel further to the right.
        assert np.diff(together[:, 0].max(axis=1)).tolist() == pytest.approx([1.0] * 10, abs=1e-3)
        engine.close()

    @pytest.mark.parametrize(
        "spec",
        [
            SPEC,
            replace(SPEC, channels="bgr", scale=1.0, mean=0.0, std=1.0),
            replace(SPEC, layout="rtdetr"),
            replace(SPEC, layout="rfdetr"),
        ],
        ids=["rgb", "bgr", "two-inputs", "two-outputs"],
    )
    def test_run_gives_the_outputs_of_onnx_runtime(self, entry: EngineEntry, tmp_path: Path, spec: GraphSpec) -> None:
        engine = self.load(entry, tmp_path, spec)
        tiles = tiles_that_differ(5)
        found, expected = engine.run(tiles), self._reference(tmp_path, spec, len(tiles))
        assert [output.shape for output in found] == [output.shape for output in expected]
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == np.float32
            assert np.abs(one - other).max() < self.tolerance
        engine.close()

    def _reference(self, folder: Path, spec: GraphSpec, count: int) -> Outputs:
        # Imported here: most of the contract runs without the extra.
        try:
            from detectors.engines.cpu.onnxruntime import OnnxRuntimeEngine
        except ImportError:
            pytest.fail(f"the contract compares with ONNX Runtime, which is not installed; {install_extra('cpu')}")
        engine = OnnxRuntimeEngine(replace(self.request_for(folder, spec), precision="f32"))
        outputs: Outputs = engine.run(tiles_that_differ(count))
        engine.close()
        return outputs

    def test_many_threads_share_an_engine(self, entry: EngineEntry, tmp_path: Path) -> None:
        engine = self.load(entry, tmp_path)
        (expected,) = engine.run(tiles_that_differ(7))
        with ThreadPoolExecutor(8) as pool:
            for (found,) in pool.map(lambda _: engine.run(tiles_that_differ(7)), range(40)):
                assert np.abs(found - expected).max() < self.tolerance
        engine.close()

    def test_a_failing_run_raises_inference_error_and_the_engine_lives_on(
        self, entry: EngineEntry, tmp_path: Path
    ) -> None:
        engine = self.load(entry, tmp_path)
        for _ in range(5):
            with pytest.raises(InferenceError):
                engine.run(np.zeros((2, 16, 16, 3), np.uint8))
        assert engine.run(tiles_that_differ(3))[0].shape[0] == 3
        engine.close()

    def test_a_damaged_file_raises_model_load_error(self, entry: EngineEntry, tmp_path: Path) -> None:
        request = self.request_for(tmp_path, SPEC)
        way = entry.ways(request, True)[0]
        request.path.write_bytes(b"this is no ONNX file")
        with pytest.raises(ModelLoadError):
            entry.open(request.run_as(way, "a test"))

    def test_an_engine_can_be_loaded_again_after_close(self, entry: EngineEntry, tmp_path: Path) -> None:
        for _ in range(3):
            engine = self.load(entry, tmp_path)
            assert len(engine.run(tiles_that_differ(2))[0]) == 2
            engine.close()
