"""What is fastest is found by measuring, kept only when it answers as f32 does, and remembered per machine."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import openvino
import orjson
import pytest
from typer.testing import CliRunner

from detectors.card.card import InputCard, default_card_path
from detectors.engines.measuring.measurement_cache import MachineKey, Memory, processor_of
from detectors.engines.measuring.measurements import Measured, Tuned
from detectors.engines.measuring.measuring import Tuner, clearly_faster
from detectors.engines.measuring.sample_tiles import sample_tiles
from detectors.engines.port import Engine, EngineRequest, Way
from detectors.engines.registry import ENGINES
from detectors.errors import InferenceError, ModelLoadError
from detectors.geometry.arrays import ImageArray, Outputs
from detectors.heads.yolov8 import YoloV8Head
from detectors.model.loading import LoadRequest, load_model, measure_model
from detectors.model.precision_check import disagreement
from infra.errors import SettingsError
from standgale.cli import app
from tests.support_graphs import GraphSpec, write_model

TILES = sample_tiles(64, 64, 3)
PREFERRED, FAST, WRONG, BROKEN = (
    Way("one", "f32"),
    Way("one", "bf16"),
    Way("one", "f16"),
    Way("two", "f32"),
)
RELATIVE = Way("one", "bf16", 1)


@dataclass
class Clock:
    """Time that passes only when something says that it takes some: these tests are about decisions, not machines."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Paced:
    """An engine that takes a known time for a tile; ``shift`` is added to its answers, ``noise`` slows its runs.

    noise: by what factor each run is slower, in order; runs after these are not slowed. works: runs until it fails.
    """

    seconds_per_tile: float
    shift: float = 0.0
    fails: bool = False
    name: str = "paced"
    reason: str = "for a test"
    batch_size: int = 2
    parallel: int = 1
    closed: bool = False
    noise: list[float] = field(default_factory=list)
    works: int | None = None
    clock: Clock = field(default_factory=Clock)
    runs: int = 0

    def run(self, tiles: ImageArray) -> Outputs:
        self.runs += 1
        if self.fails or (self.works is not None and self.runs > self.works):
            raise InferenceError("it always fails")
        slower = self.noise.pop(0) if self.noise else 1.0
        self.clock.now += self.seconds_per_tile * slower * len(tiles)
        return (np.full((len(tiles), 1), 0.5 + self.shift, np.float32),)

    def close(self) -> None:
        self.closed = True


def differs(exact: Outputs, other: Outputs) -> str | None:
    return "too far" if np.abs(exact[0] - other[0]).max() > 0.1 else None


def tuned_over(engines: dict[Way, Paced], seconds: float = 1.0, load_s: float = 0.0) -> tuple[Engine, Tuned]:
    """``load_s``: how long each engine takes to be loaded."""
    clock = Clock()

    def load(way: Way) -> Engine:
        clock.now += load_s
        engines[way].clock = clock
        return engines[way]

    return Tuner(load, TILES, differs, seconds, clock).tune(list(engines))


def test_a_clear_win_leaves_the_preferred_way_and_the_others_are_closed() -> None:
    engines = {PREFERRED: Paced(0.01), FAST: Paced(0.004)}
    engine, tuned = tuned_over(engines)
    assert (engine, tuned.way) == (engines[FAST], FAST)
    assert (engines[PREFERRED].closed, engines[FAST].closed) == (True, False)
    rates = {one.way: one.tiles_per_s or 0 for one in tuned.measured}
    assert rates == pytest.approx({PREFERRED: 100, FAST: 250})
    assert tuned.sentence() == "fastest of 2 measured: 250.0 tiles/s; next one f32 100.0"


def test_where_loading_takes_longer_than_all_of_the_time_everything_that_matters_is_measured() -> None:
    engines = {PREFERRED: Paced(0.01), FAST: Paced(0.006), BROKEN: Paced(0.01), RELATIVE: Paced(0.001)}
    _, tuned = tuned_over(engines, seconds=1.0, load_s=20.0)
    assert tuned.way == FAST
    assert tuned.sentence().endswith("; 1 more not measured, the time was up")
    assert engines[RELATIVE].runs == 0
    # One run that is compared, then a first round and turns of 13 or more runs each, enough to be trusted.
    assert engines[FAST].runs > 1 + 4 * 13


def test_turns_have_their_share_of_the_time_however_long_loading_took() -> None:
    engines = {PREFERRED: Paced(0.01), FAST: Paced(0.009)}
    _, tuned = tuned_over(engines, seconds=10.0, load_s=20.0)
    assert tuned.way == FAST
    # Four tenths of the time are 12 turns of both, each of 9 runs or more.
    assert engines[FAST].runs > 100


def test_a_first_round_that_met_noise_does_not_put_the_fastest_out() -> None:
    engines = {PREFERRED: Paced(0.01), FAST: Paced(0.005, noise=[4.0] * 7)}
    _, tuned = tuned_over(engines, load_s=5.0)
    assert tuned.way == FAST


def test_an_engine_that_fails_when_its_turn_comes_is_out_and_the_others_go_on() -> None:
    engines = {PREFERRED: Paced(0.01), FAST: Paced(0.004, works=40)}
    _, tuned = tuned_over(engines)
    assert tuned.way == PREFERRED
    assert engines[FAST].closed
    assert tuned.sentence() == "one f32 measured: 100.0 tiles/s; one bf16 cannot run the model: it always fails"


def test_what_is_out_is_closed_while_the_others_are_still_measured() -> None:
    """Every engine holds the weights once more."""
    open_at_the_end: list[bool] = []
    slow = Paced(0.05)

    class Watching(Paced):
        def run(self, tiles: ImageArray) -> Outputs:
            open_at_the_end.append(not slow.closed)
            return super().run(tiles)

    tuned_over({PREFERRED: Watching(0.005), FAST: Paced(0.005), BROKEN: slow})
    assert open_at_the_end[0]
    assert not open_at_the_end[-1]


@pytest.mark.parametrize(
    ("ours", "theirs", "wins"),
    [
        ([103.0, 104.0, 103.0], [100.0, 100.0, 100.0], False),
        ([106.0, 107.0, 106.0], [100.0, 100.0, 100.0], True),
        # While the machine was busy both were slow; the order of the turns tells them apart.
        ([106.0, 53.0, 106.0, 54.0], [100.0, 50.0, 100.0, 50.0], True),
        ([103.0, 51.0, 103.0, 180.0], [100.0, 50.0, 100.0, 50.0], False),
        ([180.0, 110.0, 90.0, 80.0, 150.0], [100.0] * 5, False),
    ],
)
def test_what_is_hardly_faster_or_not_always_is_no_win(ours: list[float], theirs: list[float], wins: bool) -> None:
    assert clearly_faster(ours, theirs) is wins


def test_fast_but_different_answers_and_engines_that_fail_are_not_used() -> None:
    engines = {PREFERRED: Paced(0.01), WRONG: Paced(0.001, shift=0.3), BROKEN: Paced(0.001, fails=True)}
    _, tuned = tuned_over(engines)
    notes = {one.way: one.note for one in tuned.measured}
    assert tuned.way == PREFERRED
    assert notes[WRONG] == "not used: too far"
    assert "it always fails" in notes[BROKEN]
    assert engines[WRONG].closed
    assert engines[BROKEN].closed


def test_relatives_of_what_is_far_behind_are_not_tried() -> None:
    slow, relative = Way("two", "f32"), Way("two", "f32", 1)
    engines = {PREFERRED: Paced(0.002), slow: Paced(0.02), relative: Paced(0.0001)}
    _, tuned = tuned_over(engines)
    assert tuned.way == PREFERRED
    assert "two f32 is far behind" in {one.way: one.note for one in tuned.measured}[relative]


def test_when_nothing_runs_every_reason_is_told() -> None:
    with pytest.raises(ModelLoadError, match=r"one f32: .*it always fails; two f32: .*it always fails"):
        tuned_over({PREFERRED: Paced(0.01, fails=True), BROKEN: Paced(0.01, fails=True)})


def test_a_very_slow_model_is_not_measured_for_ever() -> None:
    engines = {PREFERRED: Paced(2.0), BROKEN: Paced(2.0), FAST: Paced(2.0), RELATIVE: Paced(1.0)}
    engine, tuned = tuned_over(engines, 4.0)
    assert tuned.way == PREFERRED
    assert "; two f32 not measured, the time was up; one bf16 not measured, the time was up" in tuned.sentence()
    assert isinstance(engine, Paced)
    assert engine.clock.now < 20


def yolov8(rows: list[tuple[float, float, float]]) -> Outputs:
    """One tile with boxes of 20 pixels at (x, y) with a score, of one class."""
    return (np.array([[[x, y, 20, 20, score] for x, y, score in rows]], np.float32).transpose(0, 2, 1),)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ([(100, 100, 0.9), (300, 300, 0.4)], None),
        ([(100.2, 100, 0.91), (300, 300, 0.38)], None),
        ([(300, 300, 0.4), (100, 100, 0.9)], None),
        ([(100, 100, 0.85), (300, 300, 0.35)], "in the mean"),
        ([(100, 100, 0.9)], "in the mean"),
        ([(103, 100, 0.9), (300, 300, 0.4)], "boxes overlap"),
        ([(100, 100, 0.9), (300, 300, 0.4), (500, 500, 0.8)], "in the mean"),
        ([(100, 100, float("nan"))], "not numbers"),
    ],
)
def test_answers_agree_within_limits_in_any_order(other: list[tuple[float, float, float]], says: str | None) -> None:
    head = YoloV8Head(640, 640, 1)
    found = disagreement(head, yolov8([(100, 100, 0.9), (300, 300, 0.4)]), yolov8(other), 0.5)
    assert found is None if says is None else says in (found or "")


def test_one_answer_lost_among_many_is_too_much() -> None:
    head = YoloV8Head(640, 640, 1)
    many = [(30.0 * n, 30.0 * m, 0.9) for n in range(1, 20) for m in range(1, 6)]
    assert disagreement(head, yolov8(many), yolov8(many), 0.5) is None
    assert "a score differs from f32 by 0.90" in (disagreement(head, yolov8(many), yolov8(many[1:]), 0.5) or "")


def key(**changes: object) -> MachineKey:
    request = EngineRequest(Path("model.onnx"), InputCard(width=64, height=64), 2, "auto")
    return MachineKey.of("m", "00" * 32, "auto", replace(request, **changes), [ENGINES["openvino"]])  # type: ignore[arg-type]  # fields by name


TUNED = Tuned(FAST, (Measured(PREFERRED, 10.0), Measured(FAST, 20.0), Measured(WRONG, None, "not used: too far")))


def test_what_was_measured_is_remembered_for_this_key_only(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "not-there-yet")
    assert memory.recall(key()) is None
    memory.remember(key(), TUNED)
    assert memory.recall(key()) == TUNED
    assert memory.recall(key(threads=3)) is None
    assert memory.recall(key(precision="f32")) is None
    Memory(None).remember(key(), TUNED)
    assert Memory(None).recall(key()) is None


def test_a_model_whose_name_begins_alike_is_no_other_version(tmp_path: Path) -> None:
    def other(name: str, sha256: str) -> MachineKey:
        request = EngineRequest(Path("model.onnx"), InputCard(width=64, height=64), 2, "auto")
        return MachineKey.of(name, sha256, "auto", request, [ENGINES["openvino"]])

    memory = Memory(tmp_path)
    memory.remember(other("m-nano", "11" * 32), TUNED)
    assert memory.recall_other_version(key()) is None
    memory.remember(other("m", "22" * 32), TUNED)
    assert memory.recall_other_version(key()) == TUNED


def spoil_key(text: str) -> str:
    found = json.loads(text)
    found["key"]["threads"] = 64
    return json.dumps(found)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda text: text[:-20], "cannot be read"),
        (lambda text: "{}", "cannot be read"),
        (lambda text: text.replace('"f32"', '"f31"'), "cannot be read"),
        (spoil_key, "not of this model and machine"),
    ],
)
def test_damaged_and_foreign_files_are_ignored_with_a_warning(
    tmp_path: Path, spoil: Callable[[str], str], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    memory = Memory(tmp_path)
    memory.remember(key(), TUNED)
    (path,) = tmp_path.iterdir()
    path.write_text(spoil(path.read_text()))
    with caplog.at_level(logging.WARNING):
        assert memory.recall(key()) is None
    assert says in caplog.text
    memory.remember(key(), TUNED)
    assert memory.recall(key()) == TUNED


def test_many_workers_remember_at_once_and_nobody_reads_half(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.remember(key(), TUNED)

    def both(_: int) -> Tuned | None:
        memory.remember(key(), TUNED)
        return memory.recall(key())

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(both, range(200))) == {TUNED}
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_a_folder_that_cannot_be_written_to_is_no_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    Memory(tmp_path / "file").remember(key(), TUNED)
    assert "cannot be kept" in caplog.text


def test_the_processor_is_told_by_name_and_abilities(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    first = "processor\t: 0\nmodel name\t: Quick 9000\nflags\t\t: fpu avx2 avx512_bf16 sse\n"
    cpuinfo.write_text(f"{first}\nprocessor\t: 1\nflags\t: amx_tile\n")
    assert processor_of(cpuinfo) == ("Quick 9000", ["avx2", "avx512_bf16"])
    assert processor_of(tmp_path / "none")[1] == []


def test_sample_tiles_show_the_shipped_model_something() -> None:
    model = load_model(LoadRequest(None, "onnxruntime"))
    card = model.card.input
    tiles = sample_tiles(card.width, card.height, 3)
    assert (tiles.shape, tiles.dtype) == ((3, card.height, card.width, 3), np.uint8)
    assert (tiles == sample_tiles(card.width, card.height, 3)).all()
    best = model.infer(tiles)[0][:, 4:].max(axis=(1, 2))
    model.close()
    assert (best > 0.5).all()


def test_a_model_is_measured_once_and_then_remembered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "detectors.engines.registry.ENGINES", {name: ENGINES[name] for name in ("openvino", "onnxruntime")}
    )
    card = write_model(tmp_path / "model", GraphSpec())
    wanted = LoadRequest(card, threads=2, measure_s=0.5, memory=tmp_path / "memory")
    with caplog.at_level(logging.INFO, "detectors.model.loading"):
        first = load_model(wanted)
    assert "measured how rectangles 1.0.0 runs fastest" in caplog.text
    assert " measured" in first.engine.reason
    caplog.clear()
    with caplog.at_level(logging.INFO, "detectors.model.loading"):
        again = load_model(wanted)
    assert "measured how" not in caplog.text
    assert "measured earlier" in again.engine.reason
    assert again.engine.name == first.engine.name
    assert (again.infer(TILES_128)[0] == first.infer(TILES_128)[0]).all()
    for model in (first, again):
        model.close()


TILES_128 = sample_tiles(128, 128, 2)


def test_what_does_not_run_any_more_is_measured_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    card = write_model(tmp_path / "model", GraphSpec())
    wanted = LoadRequest(card, "onnxruntime", threads=2, measure_s=0.3, memory=tmp_path / "memory")
    load_model(wanted).close()
    (path,) = (tmp_path / "memory").glob("*.json")
    found = json.loads(path.read_text())
    found["tuned"]["way"] = {"engine": "onnxruntime", "precision": "bf16", "streams": 0, "batch": 0}
    path.write_text(json.dumps(found))
    load_model(wanted).close()
    assert "does not run any more" in caplog.text
    assert json.loads(path.read_text())["tuned"]["way"]["precision"] == "f32"


def test_of_several_workers_that_start_at_once_one_measures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wanted = LoadRequest(
        write_model(tmp_path / "model"), "onnxruntime", threads=2, measure_s=0.5, memory=tmp_path / "memory"
    )
    with caplog.at_level(logging.INFO, "detectors.model.loading"), ThreadPoolExecutor(3) as workers:
        models = list(workers.map(load_model, [wanted] * 3))
    assert sum("measured how" in record.message for record in caplog.records) == 1
    assert sorted("measured earlier" in model.engine.reason for model in models) == [False, True, True]
    for model in models:
        model.close()


def test_another_version_is_run_as_the_one_that_was_measured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = write_model(tmp_path / "1", GraphSpec())
    second = write_model(tmp_path / "2", GraphSpec(metadata={"version": "2"}), version="2.0.0")
    memory = tmp_path / "memory"
    load_model(LoadRequest(first, "onnxruntime", threads=2, measure_s=0.3, memory=memory)).close()
    (path,) = memory.glob("*.json")
    found = json.loads(path.read_text())
    found["tuned"]["way"] = {"engine": "onnxruntime", "precision": "f32", "streams": 1, "batch": 0}
    path.write_text(json.dumps(found))
    model = load_model(LoadRequest(second, "onnxruntime", threads=2, memory=memory))
    assert "another version was" in model.engine.reason
    assert "1 session(s) of 2 thread(s)" in model.engine.reason
    model.close()
    (memory / "rectangles-of-someone-else.json").write_text("{}")
    other_request = load_model(LoadRequest(second, "onnxruntime", threads=1, memory=memory))
    assert "another version" not in other_request.engine.reason
    other_request.close()
    found["tuned"]["way"]["precision"] = "bf16"
    path.write_text(json.dumps(found))
    model = load_model(LoadRequest(second, "onnxruntime", threads=2, memory=memory))
    assert "does not run this one" in caplog.text
    assert "2 session(s) of 1 thread(s)" in model.engine.reason
    model.close()
    assert len(list(memory.glob("*.json"))) == 2


def test_another_version_that_answers_otherwise_stays_with_the_preferred_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = write_model(tmp_path / "1", GraphSpec())
    second = write_model(tmp_path / "2", GraphSpec(metadata={"version": "2"}), version="2.0.0")
    memory = tmp_path / "memory"
    load_model(LoadRequest(first, "onnxruntime", threads=2, measure_s=0.3, memory=memory)).close()
    monkeypatch.setattr("detectors.model.engine_check.disagreement", lambda *_: "it says something else")
    model = load_model(LoadRequest(second, "onnxruntime", threads=2, memory=memory))
    assert "it says something else" in caplog.text
    assert "the preferred engine" in model.engine.reason or "asked for" in model.engine.reason
    model.close()


def test_the_verb_measures_prints_and_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDGALE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("STANDGALE_DETECTOR__THREADS", "2")
    card = str(write_model(tmp_path / "model", GraphSpec()))
    arguments = ["model", "measure", card, "--seconds", "0.5", "--engine", "onnxruntime"]
    printed = CliRunner().invoke(app, [*arguments, "--json"])
    assert printed.exit_code == 0, printed.output
    fields = orjson.loads(printed.stdout)
    assert [row["engine"] for row in fields["measured"]] == ["onnxruntime", "onnxruntime"]
    assert [row["chosen"] for row in fields["measured"]].count(True) == 1
    assert len(list((tmp_path / "data" / "engines").glob("*.json"))) == 1
    text = CliRunner().invoke(app, arguments)
    assert text.exit_code == 0, text.output
    assert "chosen" in text.output
    assert "onnxruntime f32" in text.output
    wrong = CliRunner().invoke(app, [*arguments[:3], "--precision", "f99"])
    assert isinstance(wrong.exception, SettingsError)


def test_nothing_is_measured_unless_asked(tmp_path: Path) -> None:
    model = load_model(LoadRequest(write_model(tmp_path / "model"), memory=tmp_path / "memory"))
    assert "computes in f32" in model.engine.reason
    assert not (tmp_path / "memory").exists()
    model.close()


@pytest.mark.skipif(
    "avx512_bf16" not in processor_of(Path("/proc/cpuinfo"))[1], reason="this processor does not compute in bf16"
)
def test_the_shipped_model_may_be_computed_in_bf16(tmp_path: Path) -> None:
    """Of speed nothing is said here (the machine may be busy), but its answers in bf16 are within the limits."""
    tuned = measure_model(LoadRequest(default_card_path(), "openvino", threads=2, measure_s=1.0, memory=tmp_path))
    rows = {(one.way.precision, one.way.streams, one.way.batch): one for one in tuned.measured}
    assert "not used" not in rows["bf16", 0, 0].note
    assert rows["f32", 0, 0].tiles_per_s
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_a_precision_the_processor_does_not_have_is_refused(tmp_path: Path) -> None:
    if "FP16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor computes in f16")
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("nothing is less exact than f16 here")
    with pytest.raises(
        ModelLoadError, match="precision f16: OpenVINO computes in bf16 on this CPU, which is less exact"
    ):
        load_model(LoadRequest(write_model(tmp_path), "openvino", precision="f16"))


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_every_way_of_running_gives_the_same_answers(tmp_path: Path, name: str, streams: int, batch: int) -> None:
    card = write_model(tmp_path, GraphSpec())
    request = EngineRequest(card.with_name("model.onnx"), InputCard(width=128, height=128), 2, "f32")
    tiles = sample_tiles(128, 128, 7)
    usual = ENGINES[name].open(request)
    (expected,) = usual.run(tiles)
    usual.close()
    engine = ENGINES[name].open(request.run_as(Way(name, "f32", streams, batch), "a test"))
    assert engine.batch_size % max(batch, 1) == 0
    assert np.abs(engine.run(tiles)[0] - expected).max() < 1e-4
    engine.close()
