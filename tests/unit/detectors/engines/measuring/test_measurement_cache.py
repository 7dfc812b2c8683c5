"""Checks that measurements are kept per model, machine and request, also when files are damaged."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from detectors.card.card import InputCard
from detectors.engines.measuring.measurement_cache import MachineKey, MeasurementCache, processor_of
from detectors.engines.measuring.measurements import EngineMeasurements, WayMeasurement
from detectors.engines.port import EngineRequest, Way
from detectors.engines.registry import ENGINES


def key(**changes: object) -> MachineKey:
    request = EngineRequest(Path("model.onnx"), InputCard(width=64, height=64), 2, "auto")
    return MachineKey.of("m", "00" * 32, "auto", replace(request, **changes), [ENGINES["openvino"]])  # type: ignore[arg-type]  # fields by name


PREFERRED, FAST, WRONG = Way("one", "f32"), Way("one", "bf16"), Way("one", "f16")
TUNED = EngineMeasurements(
    FAST,
    (WayMeasurement(PREFERRED, 10.0), WayMeasurement(FAST, 20.0), WayMeasurement(WRONG, None, "not used: too far")),
)


def test_measurement_cache_loads_only_the_saved_key(tmp_path: Path) -> None:
    memory = MeasurementCache(tmp_path / "not-there-yet")
    assert memory.load(key()) is None
    memory.save(key(), TUNED)
    assert memory.load(key()) == TUNED
    assert memory.load(key(threads=3)) is None
    assert memory.load(key(precision="f32")) is None
    MeasurementCache(None).save(key(), TUNED)
    assert MeasurementCache(None).load(key()) is None


def test_a_model_whose_name_begins_alike_is_no_other_version(tmp_path: Path) -> None:
    def other(name: str, sha256: str) -> MachineKey:
        request = EngineRequest(Path("model.onnx"), InputCard(width=64, height=64), 2, "auto")
        return MachineKey.of(name, sha256, "auto", request, [ENGINES["openvino"]])

    memory = MeasurementCache(tmp_path)
    memory.save(other("m-nano", "11" * 32), TUNED)
    assert memory.load_from_other_version(key()) is None
    memory.save(other("m", "22" * 32), TUNED)
    assert memory.load_from_other_version(key()) == TUNED


def spoil_key(text: str) -> str:
    found = json.loads(text)
    found["key"]["threads"] = 64
    return json.dumps(found)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-20], "cannot be read"),
        (lambda text: "{}", "cannot be read"),
        (lambda text: text.replace('"f32"', '"f31"'), "cannot be read"),
        (spoil_key, "of another model or machine"),
    ],
)
def test_damaged_and_foreign_files_are_ignored_with_a_warning(
    tmp_path: Path, damage: Callable[[str], str], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    memory = MeasurementCache(tmp_path)
    memory.save(key(), TUNED)
    (path,) = tmp_path.iterdir()
    path.write_text(damage(path.read_text()))
    with caplog.at_level(logging.WARNING):
        assert memory.load(key()) is None
    assert message in caplog.text
    memory.save(key(), TUNED)
    assert memory.load(key()) == TUNED


def test_measurement_cache_concurrent_saves_are_never_read_half_written(tmp_path: Path) -> None:
    memory = MeasurementCache(tmp_path)
    memory.save(key(), TUNED)

    def both(_: int) -> EngineMeasurements | None:
        memory.save(key(), TUNED)
        return memory.load(key())

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(both, range(200))) == {TUNED}
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_a_folder_that_cannot_be_written_to_is_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    MeasurementCache(tmp_path / "file").save(key(), TUNED)
    assert "cannot be saved" in caplog.text


def test_processor_of_reads_name_and_instruction_sets(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    first = "processor\t: 0\nmodel name\t: Quick 9000\nflags\t\t: fpu avx2 avx512_bf16 sse\n"
    cpuinfo.write_text(f"{first}\nprocessor\t: 1\nflags\t: amx_tile\n")
    assert processor_of(cpuinfo) == ("Quick 9000", ["avx2", "avx512_bf16"])
    assert processor_of(tmp_path / "none")[1] == []
