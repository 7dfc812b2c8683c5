"""Checks activations, canaries and roll-backs, and how far workers are with them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from detectors.worker.rollout.activation import (
    OWN_MODEL,
    ActivationRequest,
    activate_model,
    describe_activation,
    roll_back_activation,
    rollout_progress,
    start_canary,
)
from detectors.worker.rollout.models_topic import ModelsState, activation_record, availability_record, deletion_record
from infra.broker.port import InRecord, OutRecord
from infra.errors import SettingsError
from schemas.event_base import ModelRef
from schemas.model_events import AvailabilityState, Canary, ModelActivated, ModelAvailability, WorkerAvailability
from schemas.timestamps import utc_now

ORDER = ActivationRequest("default", "ana", "why")
V1, V2, V3 = (ModelRef(name="m", version=str(number)) for number in (1, 2, 3))


def test_roll_back_returns_to_previous_version_and_forward_again() -> None:
    first = activate_model(ORDER, None, V1, "a" * 64)
    second = activate_model(ORDER, first, V2, "b" * 64)
    assert (second.stable, second.previous, second.previous_sha256) == (V2, V1, "a" * 64)
    back = roll_back_activation(ORDER, second)
    assert (back.stable, back.sha256, back.previous) == (V1, "a" * 64, V2)
    assert roll_back_activation(ORDER, back).stable == V2
    assert len({first.id, second.id, back.id}) == 3
    assert (back.lane, back.by, back.comment) == ("default", "ana", "why")


def test_roll_back_of_first_activation_returns_to_the_setting() -> None:
    back = roll_back_activation(ORDER, activate_model(ORDER, None, V1, None))
    assert (back.stable, back.previous) == (None, V1)
    assert describe_activation(back) == OWN_MODEL


def test_activating_the_same_version_keeps_the_previous_one() -> None:
    second = activate_model(ORDER, activate_model(ORDER, None, V1, None), V2, None)
    again = activate_model(ORDER, second, V2, None)
    assert (again.stable, again.previous) == (V2, V1)
    assert again.id != second.id


def test_canary_keeps_stable_version_until_promoted_or_ended() -> None:
    first = activate_model(ORDER, activate_model(ORDER, None, V1, None), V2, None)
    trial = start_canary(ORDER, first, Canary(model=V3, share=0.1, devices=["d"]))
    assert (trial.stable, trial.previous) == (V2, V1)
    assert describe_activation(trial) == "m 2; canary m 3 with 10% of all frames and the frames of d"
    small = start_canary(ORDER, first, Canary(model=V3, share=0.00125))
    assert describe_activation(small) == "m 2; canary m 3 with 0.125% of all frames"
    promoted = activate_model(ORDER, trial, V3, None)
    assert (promoted.stable, promoted.canary, promoted.previous) == (V3, None, V2)
    ended = roll_back_activation(ORDER, trial)
    assert (ended.stable, ended.canary, ended.previous) == (V2, None, V1)
    before_anything = start_canary(ORDER, None, Canary(model=V3, share=0.1))
    assert before_anything.stable is None


def test_activations_that_make_no_sense_raise_settings_error() -> None:
    first = activate_model(ORDER, None, V1, None)
    with pytest.raises(SettingsError, match="gets all frames of lane default already"):
        start_canary(ORDER, first, Canary(model=V1, share=0.1))
    with pytest.raises(SettingsError, match="gives no frame"):
        start_canary(ORDER, first, Canary(model=V2))
    with pytest.raises(SettingsError, match="nothing was activated"):
        roll_back_activation(ORDER, None)
    ended = roll_back_activation(ORDER, start_canary(ORDER, None, Canary(model=V3, share=0.1)))
    with pytest.raises(SettingsError, match="nothing to return to"):
        roll_back_activation(ORDER, ended)


def report(
    worker: str, activation: ModelActivated | None, state: AvailabilityState = "enabled", settled: bool = True
) -> WorkerAvailability:
    one = ModelAvailability(model=V1, role="stable", state=state, serving=True, detail="why", since=utc_now())
    known = None if activation is None else activation.id
    return WorkerAvailability(
        lane="default",
        worker=worker,
        activation=known,
        settled=settled,
        state=state,
        models=[one],
        reported_at=utc_now(),
        valid_s=10,
    )


def state_of(*records: OutRecord) -> ModelsState:
    state = ModelsState()
    for offset, one in enumerate(records):
        state.apply_record(InRecord(one.topic, 0, offset, 0, one.key, one.value, one.headers))
    assert state.offset == len(records)
    return state


def test_rollout_progress_is_done_when_every_live_worker_finished() -> None:
    wanted, older = activate_model(ORDER, None, V1, None), activate_model(ORDER, None, V1, None)

    def outcome(*reports: WorkerAvailability, later_s: float = 0) -> str:
        state = state_of(activation_record(wanted), *map(availability_record, reports))
        return rollout_progress(state, wanted, utc_now() + timedelta(seconds=later_s)).outcome

    assert outcome() == "done"
    assert outcome(report("a", wanted), report("b", wanted)) == "done"
    assert outcome(report("a", wanted), report("b", older)) == "waiting"
    assert outcome(report("a", wanted), report("b", None)) == "waiting"
    assert outcome(report("a", wanted), report("b", wanted, settled=False)) == "waiting"
    assert outcome(report("a", wanted), report("b", wanted, "warning")) == "refused"
    assert outcome(report("a", older, "warning")) == "waiting", "it may refuse an older one, and take this one"
    assert outcome(report("a", older), later_s=11) == "done", "a worker that has ended is not waited for"


def test_models_state_keeps_newest_record_of_a_key_until_tombstone() -> None:
    first, second = activate_model(ORDER, None, V1, None), activate_model(ORDER, None, V2, None)
    state = state_of(
        activation_record(first),
        availability_record(report("a", first)),
        activation_record(second),
        availability_record(report("a", second)),
        OutRecord("models", "default", b"nonsense"),
        deletion_record("default/b"),
    )
    assert state.activations == {"default": second}
    assert state.workers["default/a"].activation == second.id
    deleted = state_of(availability_record(report("a", first)), deletion_record("default/a"))
    assert deleted.workers == {}
