"""What an operator chooses: the activation that follows from the one before, and how far the workers are with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import uuid4

from detectors.worker.rollout.models_topic import ModelsState
from infra.errors import SettingsError
from schemas.events import Canary, ModelActivated, ModelAvailability, ModelRef
from schemas.timestamps import utc_now

OWN_MODEL = "the model of each worker's own setting (detector.model)"


@dataclass(frozen=True, slots=True)
class ActivationRequest:
    """Who wants something in which lane, and why."""

    lane: str
    by: str | None = None
    comment: str | None = None


def activate_model(
    order: ActivationRequest, current: ModelActivated | None, model: ModelRef, sha256: str | None
) -> ModelActivated:
    """``model`` for all frames. What was stable can be returned to; activating the same again changes none of that."""
    again = current is not None and current.stable == model
    before = (current.previous, current.previous_sha256) if again and current is not None else _stable(current)
    return _new(order, (model, sha256), before, None)


def start_canary(order: ActivationRequest, current: ModelActivated | None, canary: Canary) -> ModelActivated:
    """``canary`` on trial beside what is stable now. Raises SettingsError when it could answer no frame, or all do."""
    if current is not None and current.stable == canary.model:
        raise SettingsError(
            f"{canary.model.name} {canary.model.version} answers all frames of lane {order.lane} already; "
            "leave out --canary-share and --canary-device, or try out another version"
        )
    if not canary.share and not canary.devices:
        raise SettingsError("--canary-share 0 without --canary-device tries nothing out; give more than 0")
    before = (current.previous, current.previous_sha256) if current is not None else (None, None)
    return _new(order, _stable(current), before, canary)


def roll_back_activation(order: ActivationRequest, current: ModelActivated | None) -> ModelActivated:
    """Back to what was before: the trial ends, or without one the previous version becomes the stable one.

    Raises SettingsError when nothing was activated yet, or there is nothing before it.
    """
    if current is None:
        raise SettingsError(f"nothing was activated in lane {order.lane} yet, so there is nothing to roll back")
    before = (current.previous, current.previous_sha256)
    if current.canary is not None:
        return _new(order, _stable(current), before, None)
    if current.stable == current.previous:
        raise SettingsError(
            f"lane {order.lane} has nothing to return to; activate the version you want with `standgale model activate`"
        )
    return _new(order, before, _stable(current), None)


def _stable(current: ModelActivated | None) -> tuple[ModelRef | None, str | None]:
    return (None, None) if current is None else (current.stable, current.sha256)


def _new(
    order: ActivationRequest,
    stable: tuple[ModelRef | None, str | None],
    previous: tuple[ModelRef | None, str | None],
    canary: Canary | None,
) -> ModelActivated:
    return ModelActivated(
        id=uuid4(),
        lane=order.lane,
        stable=stable[0],
        sha256=stable[1],
        canary=canary,
        previous=previous[0],
        previous_sha256=previous[1],
        activated_at=utc_now(),
        by=order.by,
        comment=order.comment,
    )


def describe_activation(activation: ModelActivated | None) -> str:
    """What ``activation`` asks for, in one sentence."""
    if activation is None:
        return OWN_MODEL
    stable = _name(activation.stable)
    canary = activation.canary
    if canary is None:
        return stable
    whose = [f"{canary.share:.3%} of all frames"] if canary.share else []
    whose += [f"the frames of {', '.join(canary.devices)}"] if canary.devices else []
    return f"{stable}; on trial {_name(canary.model)} with {' and '.join(whose)}"


def _name(model: ModelRef | None) -> str:
    return OWN_MODEL if model is None else f"{model.name} {model.version}"


@dataclass(frozen=True, slots=True)
class RolloutProgress:
    """How far the live workers of a lane are with an activation.

    ready: they serve all of it; refused: what they refused of it, by worker; waiting: they are not through yet.
    """

    ready: Sequence[str]
    refused: dict[str, Sequence[ModelAvailability]]
    waiting: Sequence[str]

    @property
    def outcome(self) -> Literal["done", "refused", "waiting"]:
        """refused as soon as one has refused anything; done when all are ready, also when there are none."""
        if self.refused:
            return "refused"
        return "waiting" if self.waiting else "done"


def rollout_progress(state: ModelsState, activation: ModelActivated, now: datetime) -> RolloutProgress:
    """How far those are that live at ``now``; who knows only an older activation is waited for."""
    ready: list[str] = []
    refused: dict[str, Sequence[ModelAvailability]] = {}
    waiting: list[str] = []
    for report in state.live_workers(activation.lane, now):
        faults = [one for one in report.models if one.state in ("warning", "error")]
        if report.activation != activation.id:
            waiting.append(report.worker)
        elif faults:
            refused[report.worker] = faults
        elif report.settled:
            ready.append(report.worker)
        else:
            waiting.append(report.worker)
    return RolloutProgress(ready, refused, waiting)
