"""`standgale rules` as people use it: a file is checked, and tried on a picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import orjson
import pytest
from typer.testing import CliRunner, Result

from standgale.cli import app
from standgale.testing.graphs import write_model
from tests.harnesses.rules import open_engine
from tests.harnesses.worker_site import picture

pytestmark = pytest.mark.integration

WRONG = "rule(a, D, drop) :- label(D, rde).\nrule(b, D, drop) :- open('/etc/passwd', read, _), label(D, red).\n"


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("STANDGALE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("STANDGALE_DETECTOR__RULES_ENGINE", "swi")
    monkeypatch.setenv("STANDGALE_DETECTOR__MAX_RULES_S", "5")
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "a.png").write_bytes(picture(100))
    return str(write_model(tmp_path / "model"))


def run(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(app, ["rules", *arguments])
    assert result.exit_code == status, result.output
    return result


def written(folder: Path, text: str) -> str:
    (folder / "a.pl").write_text(text)
    return str(folder / "a.pl")


def test_check_lists_errors_and_warnings_by_line(tmp_path: Path, card: str) -> None:
    path = written(tmp_path, WRONG)
    output = run("check", path, "--model", card, status=1).output
    assert f"{path}:1:30: warning: the model has no label rde, so this never holds; did you mean red?" in output
    assert f"{path}:2:21: error: open/3 is not available: rules have no files" in output


def test_check_prints_json_with_the_place_of_each_finding(tmp_path: Path, card: str) -> None:
    found = orjson.loads(run("check", written(tmp_path, WRONG), "--model", card, "--json", status=1).output)
    assert found["usable"] is False
    assert [(one["level"], one["line"], one["column"]) for one in found["findings"]] == [
        ("warning", 1, 30),
        ("error", 2, 21),
    ]


def test_check_accepts_right_rules(tmp_path: Path, card: str) -> None:
    path = written(tmp_path, "rule(a, _, drop).\nrule(b, _, drop).")
    assert "2 rules, usable" in run("check", path, "--model", card).output


def test_check_refuses_a_file_that_is_too_large(tmp_path: Path, card: str) -> None:
    output = run("check", written(tmp_path, "%" * 10_000_000), "--model", card, status=1).output
    assert "10,000,000 bytes, at most 262,144" in output


def test_try_shows_before_and_after_and_draws(tmp_path: Path, card: str) -> None:
    open_engine("swi").close()
    path = written(tmp_path, "rule(wide, D, drop) :- size_px(D, W, _), W > 30.\n")
    drawn = tmp_path / "after.png"
    arguments = ("try", path, str(tmp_path / "a.png"), "--model", card, "--out", str(drawn))
    output = run(*arguments).output
    assert "1 detection before, 0 after" in output
    assert "wide dropped 1" in output
    # The box of what was dropped is grey.
    assert [128, 128, 128] in cv2.imread(str(drawn))[96:134, 120].tolist()
    found = orjson.loads(run(*arguments, "--json").stdout)
    assert (found["before"], found["after"], found["rules"]["dropped_by_rule"]) == (1, 0, {"wide": 1})
    (row,) = found["detections"]
    assert (row["label"], row["ruling"], row["rule"], row["label_after"]) == ("red", "dropped", "wide", None)


def test_try_relabels_to_a_label_that_the_model_does_not_have(tmp_path: Path, card: str) -> None:
    open_engine("swi").close()
    path = written(tmp_path, "rule(wine, D, relabel(wine)) :- label(D, red).\n")
    picture_path = str(tmp_path / "a.png")
    found = orjson.loads(
        run("try", path, picture_path, "--model", card, "--out", f"{picture_path}.jpg", "--json").stdout
    )
    assert [one["label_after"] for one in found["detections"]] == ["wine"]


def test_try_exits_with_1_when_rules_give_no_rulings(
    tmp_path: Path, card: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDGALE_DETECTOR__MAX_RULES_S", "0.3")
    open_engine("swi").close()
    path = written(tmp_path, "rule(round, D, drop) :- label(D, red), again.\nagain :- again.\n")
    result = run("try", path, str(tmp_path / "a.png"), "--model", card, status=1)
    assert "1 detection before, 1 after" in result.output
    assert "line 1, rule round" in result.output


def test_try_refuses_rules_with_errors(tmp_path: Path, card: str) -> None:
    result = CliRunner().invoke(
        app, ["rules", "try", written(tmp_path, WRONG), str(tmp_path / "a.png"), "--model", card]
    )
    assert result.exit_code != 0
    assert "line 2, column 21" in str(result.exception)
