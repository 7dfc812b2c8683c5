"""Makes the next activation from an operator's request and the present one, and checks how far the workers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import uuid4

from detectors.worker.rollout.models_topic import ModelsState
from infra.errors import SettingsError
from schemas.event_base import ModelRef
from schemas.model_events import Canary, ModelActivated, ModelAvailability
from schemas.timestamps import utc_now

OWN_MODEL = "the model of each worker's own setting (detector.model)"


@dataclass(frozen=True, slots=True)
class ActivationRequest:
    """Describes who asks for an activation, for which roll-out lane, and why."""

    lane: str
    by: str | None = None
    comment: str | None = None


def activate_model(
    request: ActivationRequest, current: ModelActivated | None, model: ModelRef, sha256: str | None
) -> ModelActivated:
    """Return the activation of ``model`` for all frames; the version that was stable becomes the previous one.

    Activating the stable version again keeps the previous one.
    """
    again = current is not None and current.stable == model
    before = (current.previous, current.previous_sha256) if again and current is not None else _stable(current)
    return _new(request, (model, sha256), before, None)


def start_canary(request: ActivationRequest, current: ModelActivated | None, canary: Canary) -> ModelActivated:
    """Return the activation with ``canary`` next to the stable version.

    Raises SettingsError when no frame would go to it, or when it is the stable version.
    """
    if current is not None and current.stable == canary.model:
        raise SettingsError(
            f"{canary.model.name} {canary.model.version} gets all frames of lane {request.lane} already; "
            "leave out --canary-share and --canary-device, or choose another version as canary"
        )
    if not canary.share and not canary.devices:
        raise SettingsError("--canary-share 0 without --canary-device gives no frame to the canary; give more than 0")
    before = (current.previous, current.previous_sha256) if current is not None else (None, None)
    return _new(request, _stable(current), before, canary)


def roll_back_activation(request: ActivationRequest, current: ModelActivated | None) -> ModelActivated:
    """Return the activation that ends the canary, or without one makes the previous version stable.

    Raises SettingsError when nothing was activated yet, or there is no other previous version.
    """
    if current is None:
        raise SettingsError(f"nothing was activated in lane {request.lane} yet, so there is nothing to roll back")
    before = (current.previous, current.previous_sha256)
    if current.canary is not None:
        return _new(request, _stable(current), before, None)
    if current.stable == current.previous:
        raise SettingsError(
            f"lane {request.lane} has nothing to return to; activate the version you want: `standgale model activate`"
        )
    return _new(request, before, _stable(current), None)


def _stable(current: ModelActivated | None) -> tuple[ModelRef | None, str | None]:
    return (None, None) if current is None else (current.stable, current.sha256)


def _new(
    request: ActivationRequest,
    stable: tuple[ModelRef | None, str | None],
    previous: tuple[ModelRef | None, str | None],
    canary: Canary | None,
) -> ModelActivated:
    return ModelActivated(
        id=uuid4(),
        lane=request.lane,
        stable=stable[0],
        sha256=stable[1],
        canary=canary,
        previous=previous[0],
        previous_sha256=previous[1],
        activated_at=utc_now(),
        by=request.by,
        comment=request.comment,
    )


def describe_activation(activation: ModelActivated | None) -> str:
    """Return what ``activation`` asks for, as text for people."""
    if activation is None:
        return OWN_MODEL
    stable = _name(activation.stable)
    canary = activation.canary
    if canary is None:
        return stable
    frames = [f"{canary.share * 100:g}% of all frames"] if canary.share else []
    frames += [f"the frames of {', '.join(canary.devices)}"] if canary.devices else []
    return f"{stable}; canary {_name(canary.model)} with {' and '.join(frames)}"


def _name(model: ModelRef | None) -> str:
    return OWN_MODEL if model is None else f"{model.name} {model.version}"


@dataclass(frozen=True, slots=True)
class RolloutProgress:
    """Describes how far the live workers of a roll-out lane are with an activation."""

    ready: Sequence[str]
    """Workers that use all versions of the activation."""
    refused: dict[str, Sequence[ModelAvailability]]
    """The versions that workers refused, by worker."""
    waiting: Sequence[str]
    """Workers that have not finished."""

    @property
    def outcome(self) -> Literal["done", "refused", "waiting"]:
        """``refused`` when any worker refused a version; ``done`` when all are ready, also without any worker."""
        if self.refused:
            return "refused"
        return "waiting" if self.waiting else "done"


def rollout_progress(state: ModelsState, activation: ModelActivated, now: datetime) -> RolloutProgress:
    """Return how far the workers are that are live at ``now``; one that knows only an older activation is waiting."""
    ready: list[str] = []
    refused: dict[str, Sequence[ModelAvailability]] = {}
    waiting: list[str] = []
    for report in state.live_workers(activation.lane, now):
        problems = [one for one in report.models if one.state in ("warning", "error")]
        if report.activation != activation.id:
            waiting.append(report.worker)
        elif problems:
            refused[report.worker] = problems
        elif report.settled:
            ready.append(report.worker)
        else:
            waiting.append(report.worker)
    return RolloutProgress(ready, refused, waiting)
