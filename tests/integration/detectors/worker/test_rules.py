"""Runs a worker with rules: rulings are in the events, and rules that fail cost no frame anything."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from detectors.errors import ModelLoadError
from detectors.model.loading import LoadRequest, load_model
from detectors.rules.engines.port import RulesEngine, RulesLimits
from detectors.rules.rules_file import RulesFile, parse_rules
from detectors.worker.frames.frame_rules import RulesParts, UsualRules
from infra.errors import SettingsError
from schemas.job_events import JobRules
from standgale.testing.graphs import write_model
from tests.harnesses.rules import open_engine
from tests.harnesses.worker_site import WorkerSite, picture

pytestmark = pytest.mark.integration


def rules_parts(rules: RulesFile | None, engine: str = "swi", seconds: float = 10.0) -> RulesParts:
    return RulesParts(UsualRules(rules), partial(open_engine, engine), RulesLimits(seconds=seconds))


def rules_of(text: str) -> RulesFile:
    return parse_rules(text.encode(), "colours.pl")


@pytest.mark.parametrize("engine", ["trealla", "swi"])
async def test_rulings_are_in_the_events_of_a_worker(site: WorkerSite, engine: str) -> None:
    rules = rules_of(
        "rule(left, D, drop) :- centre(D, X, _), X < 0.2.\n"
        "rule(right, D, relabel(wine)) :- label(D, red), centre(D, X, _), X > 0.5, device('drone').\n"
        "rule(all, _, confirm).\n"
    )
    open_engine(engine).close()
    frames = [await site.frame("drone", n, picture(x)) for n, x in enumerate((20, 120, 300))]
    counted = partial(REGISTRY.get_sample_value, "standgale_rulings_total", {"ruling": "drop"})
    before = counted() or 0.0
    await site.publish(*frames)
    async with site.run_workers(site.parts(rules=rules_parts(rules, engine))):
        await site.wait_for(site.detections, 3)
    left, middle, right = await site.detections()
    assert left.detections == []
    assert left.rules is not None
    assert (left.rules.dropped_by_rule, left.rules.dropped[0].label) == ({"left": 1}, "red")
    assert left.rules.engine.startswith(engine)
    assert [(one.label, one.rule and one.rule.name) for one in middle.detections] == [("red", "all")]
    assert [(one.label, one.rule and one.rule.former_label) for one in right.detections] == [("wine", "red")]
    assert (counted() or 0.0) - before == 1


async def test_rules_that_loop_leave_every_frame_its_detections(site: WorkerSite) -> None:
    open_engine("trealla").close()
    rules = rules_of("\nrule(round, D, drop) :- label(D, red), again.\nagain :- again.\n")
    await site.publish(*[await site.frame("drone", n) for n in range(6)])
    async with site.run_workers(site.parts(rules=rules_parts(rules, "trealla", 0.2))):
        await site.wait_for(site.detections, 6)
    events = await site.detections()
    assert [len(event.detections) for event in events] == [1] * 6
    assert all(event.rules and "line 2, rule round" in str(event.rules.problem) for event in events)


async def test_without_an_engine_frames_are_processed_and_report_why(site: WorkerSite) -> None:
    def no_engine() -> RulesEngine:
        raise SettingsError("no engine for rules is installed")

    parts = RulesParts(UsualRules(rules_of("rule(all, _, drop).")), no_engine, RulesLimits())
    await site.publish(await site.frame("drone", 1))
    async with site.run_workers(site.parts(rules=parts)):
        await site.wait_for(site.detections, 1)
    (event,) = await site.detections()
    assert len(event.detections) == 1
    assert event.rules is not None
    assert event.rules.problem == "no engine for rules is installed"


def model_with(folder: Path, rules: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "colours.pl").write_text(rules)
    return write_model(folder, rules="colours.pl", files={"colours.pl": sha256(rules.encode()).hexdigest()})


async def test_a_model_brings_its_rules_and_the_operator_replaces_them(site: WorkerSite, tmp_path: Path) -> None:
    open_engine("swi").close()
    site.card = model_with(tmp_path / "ruled", "rule(of_model, D, relabel(rot)) :- label(D, red).")
    await site.publish(await site.frame("drone", 1))
    async with site.run_workers(site.parts(rules=rules_parts(None))):
        await site.wait_for(site.detections, 1)
    await site.publish(await site.frame("drone", 2))
    async with site.run_workers(site.parts(rules=rules_parts(rules_of("rule(of_operator, _, confirm).")))):
        await site.wait_for(site.detections, 2)
    found = [event.detections[0] for event in await site.detections()]
    assert [(one.label, one.rule and one.rule.name) for one in found] == [("rot", "of_model"), ("red", "of_operator")]


def test_a_model_with_wrong_rules_is_not_loaded_and_the_line_is_named(tmp_path: Path) -> None:
    card = model_with(tmp_path / "ruled", "rule(a, D, drop) :- lable(D, red).")
    with pytest.raises(ModelLoadError, match=r"colours\.pl: line 1, column 21: there is no lable/2"):
        load_model(LoadRequest(card, "onnxruntime", 1))


def test_a_card_whose_rules_have_no_checksum_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ruled").mkdir()
    (tmp_path / "ruled" / "colours.pl").write_text("rule(all, _, drop).")
    with pytest.raises(ModelLoadError, match=r"rules: colours\.pl has no checksum"):
        load_model(LoadRequest(write_model(tmp_path / "ruled", rules="colours.pl"), "onnxruntime", 1))


async def test_frames_of_a_job_get_its_rules_before_those_of_the_operator(site: WorkerSite) -> None:
    open_engine("swi").close()
    text = "rule(of_job, D, drop) :- label(D, red).\n"
    frames = [await site.frame("drone", n) for n in range(3)]
    rules = (JobRules(name="job", text=text), None, JobRules(name="job", text="rule(a, D, drop) :- shell(D)."))
    asking = [frame.model_copy(update={"rules": one}) for frame, one in zip(frames, rules, strict=True)]
    await site.publish(*asking, (await site.frame("drone", 3)).model_copy(update={"use_rules": False}))
    async with site.run_workers(site.parts(rules=rules_parts(rules_of("rule(of_operator, _, confirm).")))):
        await site.wait_for(site.detections, 4)
    of_job, plain, wrong, raw = await site.detections()
    assert of_job.rules is not None
    assert (of_job.detections, of_job.rules.dropped_by_rule, of_job.rules.file) == ([], {"of_job": 1}, "job")
    assert of_job.rules.sha256 == sha256(text.encode()).hexdigest()
    assert [one.rule and one.rule.name for one in plain.detections] == ["of_operator"]
    assert raw.rules is None
    assert (len(raw.detections), raw.detections[0].rule) == (1, None)
    assert wrong.rules is not None
    assert (len(wrong.detections), wrong.detections[0].rule) == (1, None)
    assert "line 1, column 21: shell/1 is not available" in str(wrong.rules.problem)
