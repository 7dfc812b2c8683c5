"""Checks what all benchmarks share: ratios, goals, tables and where they are written. No figure is asserted."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from bench.__main__ import NAMES, main
from bench.measure import Compared, percentile, take_turns
from bench.pictures import numbered
from bench.report import Machine, MarkersError, between_markers, markdown, show, show_goal, write_document, write_json
from bench.result import RATIO, Figure, Goal, Result
from detectors.images.decode import decode_image
from tests.paths import ROOT

MACHINE = Machine(
    measured_at="2026-05-01T12:30:00.000000Z",
    processor="a processor",
    cores=2,
    memory_gb=8.0,
    system="Linux 6",
    python="3.11",
    versions={"numpy": "2"},
    load=0.1,
)


def result(name: str = "gateway", ratio: float = 0.8) -> Result:
    return Result(
        name,
        "A title",
        (
            Figure("bare", 1_000.4, "frames/s"),
            Figure("ours over bare", ratio, RATIO, Goal(0.7)),
            Figure("p95", 90.0, "ms", Goal(500.0, "below")),
        ),
        ("A note.",),
    )


def test_a_ratio_is_the_median_of_pairs_not_the_ratio_of_medians() -> None:
    # The machine was twice as slow in the second round, and something hit ours alone in the third.
    found = Compared(ours=(90.0, 45.0, 10.0), bare=(100.0, 50.0, 100.0))
    assert found.ratio == pytest.approx(0.9)
    assert found.our_rate == 45.0
    assert found.bare_rate == 100.0


async def test_runs_take_turns_and_the_first_of_each_does_not_count() -> None:
    order: list[str] = []

    async def ours() -> float:
        order.append("ours")
        return float(order.count("ours"))

    async def bare() -> float:
        order.append("bare")
        return 10.0

    found = await take_turns(ours, bare, 2)
    assert order == ["bare", "ours", "bare", "ours", "ours", "bare"]
    assert found.ours == (2.0, 3.0)


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (Goal(0.7), 0.7, True),
        (Goal(0.7), 0.699, False),
        (Goal(500.0, "below"), 499.0, True),
        (Goal(500.0, "below"), 500.0, False),
    ],
)
def test_goals_are_met_by_values_beyond_them(goal: Goal, value: float, met: bool) -> None:
    assert Figure("x", value, "ms", goal).passed is met


def test_a_result_passes_when_no_goal_is_missed() -> None:
    assert result().passed
    assert not result(ratio=0.5).passed
    assert result().ratios == {"ours over bare": 0.8}
    assert Figure("x", 1.0, "ms").passed is None


def test_a_percentile_of_nothing_is_an_error() -> None:
    assert percentile([1.0, 2.0, 3.0], 50) == 2.0
    with pytest.raises(ValueError, match="nothing was measured"):
        percentile([], 95)


def test_figures_are_shown_with_their_unit() -> None:
    assert show(Figure("x", 0.8049, RATIO)) == "0.80 ×"
    assert show(Figure("x", 12_345.6, "rows/s")) == "12,346 rows/s"
    assert show_goal(Figure("x", 1.0, "ms", Goal(500.0, "below"))) == "< 500 ms"
    assert show_goal(Figure("x", 1.0, RATIO, Goal(0.9))) == "≥ 0.90 ×"
    assert show_goal(Figure("x", 1.0, "ms")) == ""


def test_a_table_goes_between_its_markers_and_nothing_else_changes() -> None:
    text = (
        "before\n<!-- bench:a -->\nold\n<!-- /bench:a -->\nbetween\n<!-- bench:b -->\nkept\n<!-- /bench:b -->\nafter\n"
    )
    once = between_markers(text, "a", "new\n")
    assert once == text.replace("old", "new")
    assert between_markers(once, "a", "new") == once


@pytest.mark.parametrize("text", ["", "<!-- bench:a -->", "<!-- /bench:a --> <!-- bench:a -->"])
def test_a_document_without_markers_is_an_error(text: str) -> None:
    with pytest.raises(MarkersError, match="bench:a"):
        between_markers(text, "a", "new")


def test_missed_and_met_goals_are_marked_in_the_document(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    markers = "".join(f"<!-- bench:{name} --><!-- /bench:{name} -->\n" for name in ("machine", "gateway"))
    document.write_text(markers, encoding="utf-8")
    write_document(document, MACHINE, [result(ratio=0.5)])
    text = document.read_text(encoding="utf-8")
    assert "| ours over bare | 0.50 × | ≥ 0.70 × ✗ |" in text
    assert "| p95 | 90.0 ms | < 500 ms ✓ |" in text
    assert "| bare | 1,000 frames/s |  |" in text
    assert "a processor" in text
    assert "`python -m bench gateway`, 2026-05-01" in markdown(result(), MACHINE)


def test_the_documentation_has_a_place_for_every_benchmark() -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    for name in (*NAMES, "machine"):
        assert between_markers(text, name, "x") != text


def test_results_are_written_as_json(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "result.json"
    write_json(path, MACHINE, [result()])
    found = orjson.loads(path.read_bytes())
    assert found["machine"]["cores"] == 2
    assert found["results"][0]["ratios"] == {"ours over bare": 0.8}
    assert [figure["passed"] for figure in found["results"][0]["figures"]] == [None, True, True]


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nothing"])
    assert "there is no benchmark nothing" in capsys.readouterr().err


def test_this_machine_can_be_described() -> None:
    assert Machine.now().cores >= 1
    assert "Python 3.11" in MACHINE.as_markdown()


def test_numbered_pictures_differ_in_bytes_only() -> None:
    import cv2
    import numpy as np

    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    data = cv2.imencode(".jpg", image)[1].tobytes()
    one, two = (b"".join(numbered(data, number)) for number in (1, 2))
    assert len({data, one, two}) == 3
    pixels = decode_image(data, max_pixels=10_000)
    assert np.array_equal(decode_image(one, max_pixels=10_000), pixels)
    assert np.array_equal(decode_image(two, max_pixels=10_000), pixels)
