"""Defines `standgale sink NAME` and `standgale sink rebuild NAME`: runs one sink, and lets it write all again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from infra.errors import SettingsError
from infra.texts import counted
from standgale.commands.context import JsonOption, context_of, print_json, run_async
from standgale.commands.services import run_until_stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.consuming.rebuild import GroupReset
    from standgale.settings import Settings

_RUN = "run"


class _SinkVerbs(TyperGroup):
    """Takes the name of a sink for the verb `run` with that name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [_RUN, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_SinkVerbs,
    no_args_is_help=True,
    help="Run one sink (`standgale sink NAME` is short for `standgale sink run NAME`), or let it write all again.",
)

NameArgument = Annotated[str, typer.Argument(help="A sink that ships, for example postgres, or an installed plug-in.")]


@app.command(name=_RUN)
def run(
    context: typer.Context,
    name: NameArgument,
    instance_id: Annotated[str | None, typer.Option(help="A stable name for quick restarts.")] = None,
) -> None:
    """Run one sink; each sink is a separate consumer group."""
    from standgale.services.preflight import Part, require_startable
    from standgale.services.run import run_sink

    _require_sink(name)
    settings = context_of(context).settings()
    known: dict[str, Part] = {
        "postgres": "postgres",
        "sse": "sse",
        "webhooks": "webhooks",
        "statistics": "statistics",
        "annotations": "annotations",
        "mqtt": "mqtt",
        "lakefs": "archive",
        "retention": "retention",
    }
    require_startable(settings, (known.get(name, "sink"),))
    run_until_stopped(lambda: run_sink(settings, name, instance_id))


@app.command()
def rebuild(
    context: typer.Context,
    name: NameArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Set a stopped sink back to the oldest events that are there, so that it writes them all again.

    No other sink is touched. Refused while a process of the sink runs.
    """
    _require_sink(name)
    settings = context_of(context).settings()
    resets = run_async(_rebuild(settings, name, dry_run))
    if as_json:
        print_json({"sink": name, "dry_run": dry_run, "groups": [_reset_json(one) for one in resets]})
        return
    for line in _describe(name, resets, dry_run):
        context_of(context).out.print(line, highlight=False)


async def _rebuild(settings: Settings, name: str, dry_run: bool) -> list[GroupReset]:
    from infra.consuming.rebuild import plan_resets, reset_groups
    from schemas.topics import load_topics
    from standgale.opening import open_command_broker
    from standgale.services.sinks import sink_groups

    groups = sink_groups(name, settings, load_topics(settings.topics_file))
    if not groups:
        raise SettingsError(f"the sink {name} reads without a consumer group, so there is nothing to rebuild")
    async with open_command_broker(settings, make=False, as_it_is=True) as broker:
        resets = await plan_resets(broker, groups)
        if not dry_run:
            admin = await broker.admin()
            try:
                await reset_groups(admin, resets)
            finally:
                await admin.close()
    return resets


def _describe(name: str, resets: list[GroupReset], dry_run: bool) -> Iterator[str]:
    would = "would read" if dry_run else "reads"
    for one in resets:
        records = f"{counted(one.records, 'record')} of {', '.join(one.topics)}"
        if one.has_read:
            yield f"{one.group} {would} {records} again, from the oldest on"
        else:
            yield f"{one.group} is at the start already: it reads {records}"
        if one.members and dry_run:
            yield f"{one.group} has {counted(one.members, 'member')} now: the sink must be stopped first"
    if not dry_run:
        yield f"start it with `standgale sink {name}`; what it wrote before it finds by id, or sends again with the id"


def _reset_json(one: GroupReset) -> dict[str, object]:
    return {
        "group": one.group,
        "topics": list(one.topics),
        "records": one.records,
        "members": one.members,
        "was_at_start": not one.has_read,
    }


def _require_sink(name: str) -> None:
    from standgale.services.sinks import sink_names

    if name not in sink_names():
        raise SettingsError(f"there is no sink {name!r}; choose one of {', '.join(sink_names())}")
