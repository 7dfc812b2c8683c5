"""`standgale model activate | rollback | status`: which version a running fleet answers with, and how far it is."""

from __future__ import annotations

import getpass
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from infra.errors import SettingsError, TransientError
from schemas.events import Canary, ModelActivated
from schemas.timestamps import utc_now
from standgale.commands.context import Context, JsonOption, context_of, print_json, run_async
from standgale.commands.model.rollout_status import fields_of, show

if TYPE_CHECKING:
    from detectors.worker.rollout.activation import ActivationRequest, RolloutProgress
    from detectors.worker.rollout.models_topic import ModelsState
    from infra.broker.port import Publisher, Reader
    from schemas.events import ModelRef
    from standgale.settings import Settings

_LOOK_S = 1.0
_GONE_AFTER = timedelta(hours=1)

LaneOption = Annotated[str | None, typer.Option(help="Workers with this detector.lane; default the setting's own.")]
CommentOption = Annotated[str | None, typer.Option(help="Why, for whoever looks at it later.")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait until every worker serves it, or one refuses it.")]
TimeoutOption = Annotated[float, typer.Option(min=1, help="With --wait: for so many seconds.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the group `model`."""
    app.command()(activate)
    app.command()(rollback)
    app.command()(status)


@dataclass(frozen=True, slots=True)
class _RolloutCommand:
    """What a verb works with: the topic as it stands, and the ways to read on and to write."""

    here: Context
    settings: Settings
    reader: Reader
    publisher: Publisher
    state: ModelsState


def activate(  # noqa: PLR0913, PLR0917 (what people may say on the command line)
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The model's name, as in its card.")],
    version: Annotated[str, typer.Argument(help="Its version, as in its card.")],
    canary_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Only a share of the frames, 0.1 say; the rest stays.")
    ] = None,
    canary_device: Annotated[
        list[str] | None, typer.Option(help="Only the frames of this device; may be given several times.")
    ] = None,
    lane: LaneOption = None,
    comment: CommentOption = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = 600,
    force: Annotated[bool, typer.Option("--force", help="Do not look whether the model store has it.")] = False,
) -> None:
    """Answer frames with a version of a model from now on, with all workers of a lane; no frame is lost or doubled.

    With --canary-share or --canary-device it is tried out first; the same without them makes it the one for all.
    """
    from detectors.store.names import ref_of

    model = ref_of(name, version)

    async def work() -> int:
        from detectors.worker.rollout.activation import activate_model as activation_of
        from detectors.worker.rollout.activation import start_canary

        async with _open_command(context_of(context)) as desk:
            sha256 = None if force else await _sha256_in_store(desk, model)
            order = _order(desk, lane, comment)
            current = desk.state.activations.get(order.lane)
            with _translate_errors():
                if canary_share is None and not canary_device:
                    wanted = activation_of(order, current, model, sha256)
                else:
                    canary = Canary(model=model, sha256=sha256, share=canary_share or 0, devices=canary_device or [])
                    wanted = start_canary(order, current, canary)
            return await _publish(desk, wanted, timeout if wait else None)

    raise typer.Exit(run_async(work()))


def rollback(
    context: typer.Context,
    lane: LaneOption = None,
    comment: CommentOption = None,
    wait: WaitOption = False,
    timeout: TimeoutOption = 600,
) -> None:
    """End a trial; without one, return to the version before. A second one returns from there again."""

    async def work() -> int:
        from detectors.worker.rollout.activation import roll_back_activation

        async with _open_command(context_of(context)) as desk:
            order = _order(desk, lane, comment)
            with _translate_errors():
                wanted = roll_back_activation(order, desk.state.activations.get(order.lane))
            return await _publish(desk, wanted, timeout if wait else None)

    raise typer.Exit(run_async(work()))


def status(
    context: typer.Context,
    lane: Annotated[str | None, typer.Option(help="Only this lane.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What should answer frames in each lane, and which models every worker has."""
    here = context_of(context)

    async def work() -> ModelsState:
        async with _open_command(here) as desk:
            return desk.state

    state = run_async(work())
    recent = [one for one in state.workers.values() if utc_now() - one.reported_at < _GONE_AFTER]
    lanes = sorted({*state.activations, *(one.lane for one in recent)} if lane is None else {lane})
    found = [(each, state.activations.get(each), [one for one in recent if one.lane == each]) for each in lanes]
    if as_json:
        print_json([fields_of(*one) for one in found])
        return
    if not found:
        here.out.print("nothing was activated and no worker has told anything yet", highlight=False)
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


def _order(desk: _RolloutCommand, lane: str | None, comment: str | None) -> ActivationRequest:
    from detectors.worker.rollout.activation import ActivationRequest

    try:
        user: str | None = getpass.getuser()
    except (OSError, KeyError):
        # A container may run under a number that has no name.
        user = None
    return ActivationRequest(lane or desk.settings.detector.lane, user, comment)


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Make of what an activation cannot hold (a lane, a device or a comment that is none) an error that names it."""
    try:
        yield
    except ValidationError as error:
        faults = "; ".join(f"{one['loc'][0]}: received {one['input']!r}, {one['msg']}" for one in error.errors())
        raise SettingsError(f"not activated: {faults}") from error


async def _sha256_in_store(desk: _RolloutCommand, model: ModelRef) -> str:
    """The checksum of ``model`` in the model store, whole and as its card says. Raises SettingsError when it is not."""
    from detectors.card.card import read_card
    from detectors.errors import ModelLoadError
    from detectors.store.open import open_model_store

    store = open_model_store(desk.settings.models, desk.settings.data_dir)
    try:
        card = read_card(await store.fetch(model, desk.settings.model_cache))
    except ModelLoadError as error:
        raise SettingsError(f"not activated: {error}") from error
    except TransientError as error:
        raise SettingsError(
            f"not activated, for the model store cannot be asked: {error}; --force activates without asking"
        ) from error
    finally:
        await store.close()
    return card.sha256


async def _publish(desk: _RolloutCommand, wanted: ModelActivated, wait_s: float | None) -> int:
    from detectors.worker.rollout.activation import describe_activation
    from detectors.worker.rollout.models_topic import activation_record

    former = desk.state.activations.get(wanted.lane)
    say = desk.here.notes.print
    say(f"lane {wanted.lane}, before: {describe_activation(former)}", markup=False, highlight=False, soft_wrap=True)
    await desk.publisher.publish([activation_record(wanted)])
    say(f"lane {wanted.lane}, now:    {describe_activation(wanted)}", markup=False, highlight=False, soft_wrap=True)
    if not desk.state.live_workers(wanted.lane, utc_now()):
        say(f"no worker runs in lane {wanted.lane}; those that start will take it", highlight=False)
        return 0
    return 0 if wait_s is None else await _wait_for_workers(desk, wanted, wait_s)


async def _wait_for_workers(desk: _RolloutCommand, wanted: ModelActivated, wait_s: float) -> int:
    """0 when every live worker serves ``wanted``, 1 when one refuses it, it took too long, or another one came."""
    from detectors.worker.rollout.activation import rollout_progress
    from detectors.worker.rollout.models_topic import read_new_records

    deadline = time.monotonic() + wait_s
    say = desk.here.notes.print
    former = desk.state.activations.get(wanted.lane)
    told = ""
    while True:
        await read_new_records(desk.reader, desk.state, _LOOK_S)
        newest = desk.state.activations.get(wanted.lane)
        if newest not in (former, wanted) and newest is not None:
            say(f"overtaken: {newest.by or 'somebody'} activated something else meanwhile", highlight=False)
            return 1
        now = rollout_progress(desk.state, wanted, utc_now())
        text = f"{len(now.ready)} of {len(now.ready) + len(now.waiting) + len(now.refused)} workers are ready"
        if text != told:
            say(text, highlight=False)
            told = text
        if now.outcome == "done":
            return 0
        if now.outcome == "refused":
            _say_refused(desk.here, now)
            return 1
        if time.monotonic() > deadline:
            say(f"not done after {wait_s:g} s; waiting for {', '.join(now.waiting)}", highlight=False, soft_wrap=True)
            return 1


def _say_refused(here: Context, now: RolloutProgress) -> None:
    for worker, faults in now.refused.items():
        for fault in faults:
            text = f"{worker} refuses {fault.model.name} {fault.model.version}: {fault.detail}"
            here.notes.print(text, markup=False, highlight=False, soft_wrap=True)
    here.notes.print(
        "what served before goes on there; `standgale model rollback` returns all workers to it", highlight=False
    )
