"""Defines `standgale topics apply | check | groups | forget-group`: manages topics and consumer groups."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from standgale.commands.context import JsonOption, context_of, print_json, run_async, table

if TYPE_CHECKING:
    from rich.table import Table

    from infra.broker.port import Admin, GroupState, TopicDifference
    from standgale.settings import Settings

_GROUP = "group\n  its topics"
_GROUP_HEADERS = (_GROUP, "members", "not read", "oldest\nnot read", "last\nseen")

app = typer.Typer(
    no_args_is_help=True, help="Compare the broker's topics with topics.yaml, change them, and manage consumer groups."
)


@app.command()
def apply(context: typer.Context, as_json: JsonOption = False) -> None:
    """Create, alter and grow topics as declared; change nothing when any change would lose data or order."""
    _show(context, run_async(_differences(context, apply=True)), as_json, "changed")


@app.command()
def check(context: typer.Context, as_json: JsonOption = False) -> None:
    """Compare the broker with topics.yaml; exits with 1 when anything differs."""
    found = run_async(_differences(context, apply=False))
    _show(context, found, as_json, "differs")
    raise typer.Exit(1 if found else 0)


@app.command()
def groups(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the consumer groups with their lag and their number of members."""

    async def work() -> list[GroupState]:
        async with _admin(context_of(context).settings()) as admin:
            return list(await admin.groups())

    found = run_async(work())
    if as_json:
        print_json([_group_json(group) for group in found])
        return
    context_of(context).out.print(_groups_table(found) if found else "no groups yet: nothing has read from this broker")


@app.command()
def forget_group(
    context: typer.Context, name: Annotated[str, typer.Argument(help="The group, from `standgale topics groups`.")]
) -> None:
    """Delete a group that is no longer used, and its offsets; refused while it has members."""

    async def work() -> None:
        async with _admin(context_of(context).settings()) as admin:
            await admin.forget_group(name)

    run_async(work())
    context_of(context).notes.print(
        f"group {name} is deleted; a new group of this name begins at the start of its topics"
    )


async def _differences(context: typer.Context, *, apply: bool) -> list[TopicDifference]:
    from schemas.topics import load_topics

    settings = context_of(context).settings()
    specs = load_topics(settings.topics_file)
    async with _admin(settings, make=apply) as admin:
        return await (admin.apply(specs.values()) if apply else admin.check(specs.values()))


@asynccontextmanager
async def _admin(settings: Settings, *, make: bool = False) -> AsyncIterator[Admin]:
    from standgale.opening import open_command_broker

    async with open_command_broker(settings, make=make, as_it_is=True) as broker:
        admin = await broker.admin()
        try:
            yield admin
        finally:
            await admin.close()


def _show(context: typer.Context, found: list[TopicDifference], as_json: bool, word: str) -> None:
    if as_json:
        print_json(
            [
                {"topic": d.topic, "what": d.what, "declared": d.declared, "found": d.found, "advice": d.advice}
                for d in found
            ]
        )
    elif not found:
        context_of(context).out.print("all topics are as declared")
    else:
        shown = table("topic", word, "declared", "found")
        for each in found:
            shown.add_row(each.topic, each.what, each.declared, each.found)
        context_of(context).out.print(shown)
        for each in found:
            if each.advice is not None:
                context_of(context).notes.print(f"{each.what}: {each.advice}")


def _groups_table(found: Sequence[GroupState]) -> Table:
    shown = table(*_GROUP_HEADERS, whole=set(_GROUP_HEADERS) - {_GROUP})
    for group in found:
        # Five columns fit in 80 characters only when a time has two lines.
        times = [(_time(at) or "").replace("T", "\n") for at in (group.oldest_unread_ms, group.seen_ms)]
        name = "\n  ".join((group.name, *group.topics))
        shown.add_row(name, str(group.members), str(group.lag), times[0], times[1] or "unknown")
    return shown


def _group_json(group: GroupState) -> dict[str, object]:
    return {
        "name": group.name,
        "members": group.members,
        "lag": group.lag,
        "oldest_unread": _time(group.oldest_unread_ms),
        "seen": _time(group.seen_ms),
        "topics": list(group.topics),
    }


def _time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
