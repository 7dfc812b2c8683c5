"""What is kept of the options of a job is what was asked, and only that."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from console.http.errors import InvalidConfigError
from console.jobs.config import JobConfig, KeptConfig
from console.jobs.faults import config_error
from console.jobs.models import ModelFields, require_model
from console.jobs.options import detect_options
from console.jobs.rules import rules_of
from console.ports import AnyModel, NoRules
from schemas.event_base import ModelRef
from schemas.events import DetectOptions
from schemas.job_events import JobRules


class Library(NoRules):
    """Knows one set of rules, and finds a fault in texts with ``wrong``."""

    async def find(self, name: str) -> str | None:
        return "drop(X) :- small(X)." if name == "small-ones" else None

    async def fault(self, text: str) -> str | None:
        return "Line 2: a bracket is missing" if "wrong" in text else None


FIELDS = ModelFields("config.model", "config.prompt")
SMALL, GROUNDED = (ModelRef(name=name, version="1.0.0") for name in ("small", "grounded"))


class Store(AnyModel):
    """Has two versions of a model; ``serving`` are those that detectors use."""

    def __init__(self, *serving: ModelRef) -> None:
        self.serving = serving

    async def active(self) -> Sequence[ModelRef]:
        return self.serving

    async def takes_prompt(self, model: ModelRef) -> bool | None:
        return {SMALL: False, GROUNDED: True}.get(model)

    async def versions(self) -> list[ModelRef] | None:
        return [ModelRef(name="small", version=version) for version in ("1.0.0", "1.1.0")]


def asked(**fields: object) -> JobConfig:
    return JobConfig.model_validate(fields)


def test_options_left_out_are_left_to_the_card() -> None:
    assert detect_options(JobConfig()) == DetectOptions()
    assert KeptConfig().to_json() == "{}"
    assert detect_options(asked(sahi={"enabled": False})).mode == "whole"
    assert detect_options(asked(sahi={"enabled": True})) == DetectOptions()
    assert detect_options(asked(sahi={"slice_height": 300})).tile_width == 300


def test_kept_options_are_read_back() -> None:
    kept = KeptConfig(asked=asked(confidence_threshold=0.3, prompt="bird ü"), rules=JobRules(name="a", text="b(c)."))
    text = kept.to_json()
    assert text.isascii()
    assert KeptConfig.model_validate_json(text) == kept


async def test_rules_are_found_by_name_or_taken_as_they_are() -> None:
    named = await rules_of(asked(symbolic_reasoning={"rules_file": "small-ones"}), Library())
    assert named == JobRules(name="small-ones", text="drop(X) :- small(X).")
    text = await rules_of(asked(symbolic_reasoning={"rules_file": "keep(x)."}), Library())
    assert text == JobRules(name="job", text="keep(x).")
    assert await rules_of(asked(symbolic_reasoning={"enabled": False, "rules_file": "small-ones"}), Library()) is None
    for wrong in ("/a/rules.pl", "none", "wrong(x)\n"):
        with pytest.raises(InvalidConfigError):
            await rules_of(asked(symbolic_reasoning={"rules_file": wrong}), Library())


async def test_a_model_that_the_store_does_not_have_is_refused() -> None:
    for name, version, field in (("small", "2", "config.model.version"), ("large", "1.0.0", "config.model.name")):
        with pytest.raises(InvalidConfigError) as caught:
            await require_model(ModelRef(name=name, version=version), None, Store(), FIELDS)
        assert caught.value.field == field
    await require_model(ModelRef(name="small", version="1.1.0"), None, Store(), FIELDS)
    await require_model(ModelRef(name="small", version="9"), None, AnyModel(), FIELDS)


@pytest.mark.parametrize(
    ("model", "serving"), [(SMALL, ()), (None, (SMALL,)), (None, (SMALL, ModelRef(name="small", version="1.0.0")))]
)
async def test_a_prompt_for_a_model_without_text_is_refused(
    model: ModelRef | None, serving: tuple[ModelRef, ...]
) -> None:
    """Each file of the job failed, with the reason of the model's loading."""
    with pytest.raises(InvalidConfigError, match=r"small 1\.0\.0.* takes no text; name a model") as caught:
        await require_model(model, "bird", Store(*serving), FIELDS)
    assert caught.value.field == "config.prompt"


@pytest.mark.parametrize("serving", [(), (SMALL, GROUNDED), (ModelRef(name="unknown", version="1"),)])
async def test_a_prompt_is_left_to_the_detector_where_a_model_may_take_it(serving: tuple[ModelRef, ...]) -> None:
    await require_model(None, "bird", Store(*serving), FIELDS)


def test_errors_of_checks_keep_their_capital_letters() -> None:
    about = {"error": ValueError("it takes model:NAME@VERSION")}
    error = config_error([{"loc": ("body", "path"), "type": "value_error", "msg": "", "ctx": about}])
    assert str(error) == "Invalid configuration: path: It takes model:NAME@VERSION"
