"""Defines `standgale model activate | rollback | status`: chooses which model version running workers use."""

from __future__ import annotations

import getpass
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from infra.errors import SettingsError, TransientError
from infra.texts import counted
from schemas.timestamps import utc_now
from standgale.commands.context import Context, JsonOption, context_of, print_json, run_async
from standgale.commands.model.rollout_status import fields_of, refusals, show

if TYPE_CHECKING:
    from detectors.worker.rollout.activation import ActivationRequest, RolloutProgress
    from detectors.worker.rollout.models_topic import ModelsState
    from infra.broker.port import Publisher, Reader
    from schemas.event_base import ModelRef
    from schemas.model_events import ModelActivated
    from standgale.settings import Settings

_LOOK_S = 1.0
_GONE_AFTER = timedelta(hours=1)

ShareOption = Annotated[
    float | None, typer.Option(min=0, max=1, help="Only for a share of the frames, for example 0.1.")
]
DeviceOption = Annotated[list[str] | None, typer.Option(help="Only for frames of this device; may be repeated.")]
LaneOption = Annotated[
    str | None,
    typer.Option(help="The roll-out lane: workers with this detector.lane; default is this process's setting."),
]
CommentOption = Annotated[str | None, typer.Option(help="The reason, for people who read the status later.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait until every worker uses it, or one refuses it.")]
TimeoutOption = Annotated[float, typer.Option(min=1, help="With --wait: at most this many seconds.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the group `model`."""
    app.command()(activate)
    app.command()(rollback)
    app.command()(status)


@dataclass(frozen=True, slots=True)
class _RolloutCommand:
    """Holds what a verb works with: the state of the topic, a reader and a publisher."""

    here: Context
    settings: Settings
    reader: Reader
    publisher: Publisher
    state: ModelsState


def activate(  # noqa: PLR0913, PLR0917 (what people may say on the command line)
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The model's name, as in its card.")],
    version: Annotated[str, typer.Argument(help="Its version, as in its card.")],
    canary_share: ShareOption = None,
    canary_device: DeviceOption = None,
    lane: LaneOption = None,
    comment: CommentOption = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = 600,
    force: Annotated[bool, typer.Option("--force", help="Do not check that the model store has it.")] = False,
) -> None:
    """Use a model version in all workers of a roll-out lane from now on; no frame is lost or doubled.

    With --canary-share or --canary-device only some frames use it, as a canary; without them all frames do.
    """
    from detectors.store.names import ref_of

    model = ref_of(name, version)

    async def work() -> int:
        from detectors.worker.rollout.activation import activate_model as activation_of
        from detectors.worker.rollout.activation import start_canary
        from schemas.model_events import Canary

        async with _open_command(context_of(context)) as command:
            sha256 = None if force else await _sha256_in_store(command, model)
            order = _order(command, lane, comment)
            current = command.state.activations.get(order.lane)
            with _translate_errors():
                if canary_share is None and not canary_device:
                    wanted = activation_of(order, current, model, sha256)
                else:
                    canary = Canary(model=model, sha256=sha256, share=canary_share or 0, devices=canary_device or [])
                    wanted = start_canary(order, current, canary)
            return await _publish(command, wanted, timeout if wait else None)

    raise typer.Exit(run_async(work()))


def rollback(
    context: typer.Context,
    lane: LaneOption = None,
    comment: CommentOption = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = 600,
) -> None:
    """End a canary; without one, return to the version before. A second rollback undoes the first."""

    async def work() -> int:
        from detectors.worker.rollout.activation import roll_back_activation

        async with _open_command(context_of(context)) as command:
            order = _order(command, lane, comment)
            with _translate_errors():
                wanted = roll_back_activation(order, command.state.activations.get(order.lane))
            return await _publish(command, wanted, timeout if wait else None)

    raise typer.Exit(run_async(work()))


def status(
    context: typer.Context,
    lane: Annotated[str | None, typer.Option(help="Only this roll-out lane.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print which model version each roll-out lane should use, and which ones every worker has."""
    here = context_of(context)

    async def work() -> ModelsState:
        async with _open_command(here) as command:
            return command.state

    state = run_async(work())
    recent = [one for one in state.workers.values() if utc_now() - one.reported_at < _GONE_AFTER]
    lanes = sorted({*state.activations, *(one.lane for one in recent)} if lane is None else {lane})
    found = [(each, state.activations.get(each), [one for one in recent if one.lane == each]) for each in lanes]
    if as_json:
        print_json([fields_of(*one) for one in found])
        return
    if not found:
        here.out.print("nothing was activated and no worker has reported yet", highlight=False)
    for one in found:
        show(here, *one)


@asynccontextmanager
async def _open_command(here: Context) -> AsyncIterator[_RolloutCommand]:
    from detectors.worker.rollout.models_topic import read_models
    from standgale.opening import open_command_broker

    settings = here.settings()
    async with open_command_broker(settings) as broker:
        reader, publisher = await broker.reader(), await broker.publisher()
        try:
            yield _RolloutCommand(here, settings, reader, publisher, await read_models(reader))
        finally:
            await publisher.close()
            await reader.close()


def _order(command: _RolloutCommand, lane: str | None, comment: str | None) -> ActivationRequest:
    from detectors.worker.rollout.activation import ActivationRequest

    try:
        user: str | None = getpass.getuser()
    except (OSError, KeyError):
        # A container may run under a number that has no name.
        user = None
    return ActivationRequest(lane or command.settings.detector.lane, user, comment)


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Turn an invalid lane, device or comment of an activation into an error that names it."""
    from pydantic import ValidationError

    try:
        yield
    except ValidationError as error:
        problems = "; ".join(f"{one['loc'][0]}: received {one['input']!r}, {one['msg']}" for one in error.errors())
        raise SettingsError(f"not activated: {problems}") from error


async def _sha256_in_store(command: _RolloutCommand, model: ModelRef) -> str:
    """Fetch and check ``model`` from the model store; return its checksum. Raises SettingsError if it is not there."""
    from detectors.card.card import read_card
    from detectors.errors import ModelLoadError
    from detectors.store.open import open_model_store

    store = open_model_store(command.settings.models, command.settings.data_dir)
    try:
        card = read_card(await store.fetch(model, command.settings.model_cache))
    except ModelLoadError as error:
        raise SettingsError(f"not activated: {error}") from error
    except TransientError as error:
        raise SettingsError(
            f"not activated, because the model store is unavailable: {error}; --force activates without checking"
        ) from error
    finally:
        await store.close()
    return card.sha256


async def _publish(command: _RolloutCommand, wanted: ModelActivated, wait_s: float | None) -> int:
    from detectors.worker.rollout.activation import describe_activation
    from detectors.worker.rollout.models_topic import activation_record

    former = command.state.activations.get(wanted.lane)
    say = command.here.notes.print
    say(f"lane {wanted.lane}, before: {describe_activation(former)}", markup=False, highlight=False, soft_wrap=True)
    await command.publisher.publish([activation_record(wanted)])
    say(f"lane {wanted.lane}, now:    {describe_activation(wanted)}", markup=False, highlight=False, soft_wrap=True)
    if not command.state.live_workers(wanted.lane, utc_now()):
        say(f"no worker runs in lane {wanted.lane}; workers that start later will use it", highlight=False)
        return 0
    return 0 if wait_s is None else await _wait_for_workers(command, wanted, wait_s)


async def _wait_for_workers(command: _RolloutCommand, wanted: ModelActivated, wait_s: float) -> int:
    """Return 0 when every live worker uses ``wanted``; 1 if one refuses it, time is up, or a newer activation came."""
    from detectors.worker.rollout.activation import rollout_progress
    from detectors.worker.rollout.models_topic import read_new_records

    deadline = time.monotonic() + wait_s
    say = command.here.notes.print
    former = command.state.activations.get(wanted.lane)
    printed = ""
    while True:
        await read_new_records(command.reader, command.state, _LOOK_S)
        newest = command.state.activations.get(wanted.lane)
        if newest not in (former, wanted) and newest is not None:
            say(f"overtaken: {newest.by or 'another user'} activated a different version", highlight=False)
            return 1
        now = rollout_progress(command.state, wanted, utc_now())
        workers = len(now.ready) + len(now.waiting) + len(now.refused)
        text = f"{len(now.ready)} of {counted(workers, 'worker')} ready"
        if text != printed:
            say(text, highlight=False)
            printed = text
        if now.outcome == "done":
            return 0
        if now.outcome == "refused":
            _say_refused(command.here, now)
            return 1
        if time.monotonic() > deadline:
            say(f"not done after {wait_s:g} s; waiting for {', '.join(now.waiting)}", highlight=False, soft_wrap=True)
            return 1


def _say_refused(here: Context, now: RolloutProgress) -> None:
    for line in refusals(now.refused):
        here.notes.print(line, markup=False, highlight=False, soft_wrap=True)
    here.notes.print(
        "these workers continue with the version before; `standgale model rollback` returns all workers to it",
        highlight=False,
    )
