"""Defines `standgale dead list | show | redrive`: lists dead letters and sends their originals again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

import typer

from infra.errors import SettingsError
from infra.texts import counted
from standgale.commands.context import JsonOption, context_of, print_json, run_async, table
from standgale.commands.times import parse_time

if TYPE_CHECKING:
    from infra.broker.port import Broker
    from infra.failure.dead_letters import DeadLetterFilter
    from infra.failure.redrive import RedriveResult, RedriveRules
    from schemas.events import DeadLetter

app = typer.Typer(
    no_args_is_help=True, help="Dead letters: list records that no consumer could process, and send them again."
)

Source = Literal["frames", "sinks", "all"]
SourceOption = Annotated[Source, typer.Option("--from", help="Which dead-letter topic.")]
ReasonOption = Annotated[str | None, typer.Option(help="Only with this code, for example IMAGE_MISSING.")]
DeviceOption = Annotated[str | None, typer.Option(help="Only of this device.")]
GroupOption = Annotated[str | None, typer.Option(help="Only from this consumer group, for example sink.postgres.")]
SinceOption = Annotated[str | None, typer.Option(help="Only from this time on (UTC).")]
IdArgument = Annotated[UUID, typer.Argument(help="The dead letter's id, from `standgale dead list`.")]


@app.command(name="list")
def list_(
    context: typer.Context,
    source: SourceOption = "all",
    reason: ReasonOption = None,
    device: DeviceOption = None,
    group: GroupOption = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(min=1, help="The largest number to list.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, the oldest of each topic first."""
    wanted = _filter(reason, device, group, since)

    async def work() -> list[DeadLetter]:
        async with _broker(context) as broker:
            return [letter async for letter in _letters(broker, source, wanted, limit)]

    found = run_async(work())
    if as_json:
        print_json([letter.model_dump(mode="json", exclude={"original": {"value", "headers"}}) for letter in found])
        return
    shown = table("id, failed at", "group, device, reason, message", whole=["id, failed at"])
    for letter in found:
        about = f"{letter.group}, {letter.device_id}, {letter.reason}\n{letter.message}"
        shown.add_row(f"{letter.id}\n{letter.failed_at:%Y-%m-%d %H:%M:%S}", about, end_section=True)
    context_of(context).out.print(shown if found else "no dead letters")


@app.command()
def show(context: typer.Context, id: IdArgument) -> None:  # noqa: A002 (the name people see)
    """Print one dead letter with its original, as JSON."""

    async def work() -> DeadLetter:
        async with _broker(context) as broker:
            return await _find_letter(broker, id)

    print_json(run_async(work()).model_dump(mode="json"))


@app.command(name="redrive")
def redrive_(  # noqa: PLR0913, PLR0917 (one per option of the verb)
    context: typer.Context,
    id: Annotated[UUID | None, typer.Argument(help="One dead letter; leave it out and give --all.")] = None,  # noqa: A002
    everything: Annotated[bool, typer.Option("--all", help="All that match the other options.")] = False,
    source: SourceOption = "all",
    reason: ReasonOption = None,
    device: DeviceOption = None,
    group: GroupOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print how many would be sent.")] = False,
    rate: Annotated[float | None, typer.Option(min=0.001, help="The largest number of records per second.")] = None,
    max_tries: Annotated[int, typer.Option(min=1, help="Leave out records that were sent again this many times.")] = 3,
    again: Annotated[bool, typer.Option("--again", help="Also send letters that were sent again before.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Send originals again, each only to the group that failed on it; a second run sends none twice."""
    from infra.failure.redrive import RedriveRules

    if (id is None) != everything:
        raise SettingsError("give either the id of one dead letter, or --all with options that select some")
    wanted = _filter(reason, device, group, None)
    rules = RedriveRules(max_tries=max_tries, rate=rate, dry_run=dry_run, again=again)

    async def work() -> RedriveResult:
        async with _broker(context) as broker:
            letters = _letters(broker, source, wanted, None) if id is None else _one(broker, id)
            return await _redrive(context, broker, letters, rules)

    result = run_async(work())
    if as_json:
        counts = asdict(result)
        print_json({"redriven": counts.pop("sent"), **counts, "dry_run": dry_run})
    else:
        for line in _describe(result, rules):
            context_of(context).out.print(line)
    if id is not None and not result.sent:
        raise typer.Exit(1)


def _describe(result: RedriveResult, rules: RedriveRules) -> Iterator[str]:
    yield f"{counted(result.sent, 'record')} {'would be sent' if rules.dry_run else 'sent'} again"
    for left, why in (
        (result.already, "were sent again before (--again sends them another time)"),
        (result.exhausted, f"were sent again {rules.max_tries} times already (--max-tries)"),
        (result.gone, "were too large for the dead letter and are no longer in their topic"),
        (result.lost, "are about records that retention deleted: there is nothing to send"),
    ):
        if left:
            yield f"{left} left: they {why}"


async def _redrive(
    context: typer.Context, broker: Broker, letters: AsyncIterator[DeadLetter], rules: RedriveRules
) -> RedriveResult:
    from rich.progress import Progress, SpinnerColumn, TextColumn

    from infra.failure.dead_letters import redrive

    reader, publisher = await broker.reader(), await broker.publisher()
    columns = (SpinnerColumn(), TextColumn("{task.completed} sent again"))
    try:
        with Progress(*columns, console=context_of(context).notes, transient=True) as progress:
            task = progress.add_task("redrive", total=None)

            def show(sent: int) -> None:
                progress.update(task, completed=sent)

            return await redrive(reader, publisher, letters, rules, progress=show)
    finally:
        await publisher.close()
        await reader.close()


def _filter(reason: str | None, device: str | None, group: str | None, since: str | None) -> DeadLetterFilter:
    from infra.failure.dead_letters import DeadLetterFilter

    return DeadLetterFilter(reason=reason, device_id=device, group=group, since=parse_time("--since", since))


async def _letters(
    broker: Broker, source: Source, wanted: DeadLetterFilter, limit: int | None
) -> AsyncIterator[DeadLetter]:
    from infra.failure.dead_letters import list_dead
    from schemas.topics import FRAMES_DEAD, SINKS_DEAD

    reader = await broker.reader()
    left = limit
    try:
        for topic in {"frames": (FRAMES_DEAD,), "sinks": (SINKS_DEAD,), "all": (FRAMES_DEAD, SINKS_DEAD)}[source]:
            async for letter in list_dead(reader, topic, wanted=wanted, limit=left):
                left = None if left is None else left - 1
                yield letter
    finally:
        await reader.close()


async def _one(broker: Broker, id: UUID) -> AsyncIterator[DeadLetter]:  # noqa: A002
    yield await _find_letter(broker, id)


async def _find_letter(broker: Broker, id: UUID) -> DeadLetter:  # noqa: A002
    from infra.failure.dead_letters import find_dead_letter
    from schemas.topics import FRAMES_DEAD, SINKS_DEAD

    reader = await broker.reader()
    try:
        letter = await find_dead_letter(reader, (FRAMES_DEAD, SINKS_DEAD), id)
    finally:
        await reader.close()
    if letter is None:
        raise SettingsError(f"there is no dead letter {id}; `standgale dead list` shows all")
    return letter


@asynccontextmanager
async def _broker(context: typer.Context) -> AsyncIterator[Broker]:
    from standgale.opening import open_command_broker

    async with open_command_broker(context_of(context).settings(), make=False, as_it_is=True) as broker:
        yield broker
