"""Where there is no GPU the benchmark of the torch engine says so, and neither fails nor makes figures up."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bench import torch_engine
from bench.report import Machine, markdown, print_result


def test_without_a_gpu_nothing_is_measured_and_the_table_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detectors.engines.gpu.cuda.LIBRARY", "libnothing.so.1")
    result = torch_engine.run(quick=True)
    assert {figure.value for figure in result.figures} == {None}
    assert (result.passed, result.ratios) == (True, {})
    page = markdown(result, Machine.now())
    assert page.count("not measured") == len(result.figures)
    assert "No GPU at hand, so nothing was measured: no NVIDIA driver (libnothing.so.1" in page
    shown = Console(file=io.StringIO(), width=200)
    print_result(shown, result)
    assert "No GPU at hand" in shown.file.getvalue()  # type: ignore[attr-defined]
