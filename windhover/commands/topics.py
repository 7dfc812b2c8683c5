"""`windhover topics apply | check`: brings a broker's topics in line with topics.yaml."""

from __future__ import annotations

import typer
from rich.table import Table

from infra.broker.port import TopicDifference
from windhover.commands.context import JsonOption, context_of, print_json, run_async

app = typer.Typer(no_args_is_help=True, help="Bring the broker's topics in line with topics.yaml, or compare.")


@app.command()
def apply(context: typer.Context, as_json: JsonOption = False) -> None:
    """Create and alter topics as declared; what would lose data is refused and told."""
    _show(context, run_async(_differences(context, mend=True)), as_json, "mended")


@app.command()
def check(context: typer.Context, as_json: JsonOption = False) -> None:
    """Compare; exits with 1 when anything differs."""
    found = run_async(_differences(context, mend=False))
    _show(context, found, as_json, "differs")
    raise typer.Exit(1 if found else 0)


async def _differences(context: typer.Context, *, mend: bool) -> list[TopicDifference]:
    from schemas.topics import load_topics
    from windhover.composition import opened_broker

    settings = context_of(context).settings()
    specs = load_topics(settings.topics_file)
    async with opened_broker(settings) as broker:
        admin = await broker.admin()
        try:
            return await (admin.apply(specs.values()) if mend else admin.check(specs.values()))
        finally:
            await admin.close()


def _show(context: typer.Context, found: list[TopicDifference], as_json: bool, word: str) -> None:
    if as_json:
        print_json([{"topic": d.topic, "what": d.what, "declared": d.declared, "found": d.found} for d in found])
    elif not found:
        context_of(context).out.print("all topics are as declared")
    else:
        table = Table("topic", word, "declared", "found")
        for each in found:
            table.add_row(each.topic, each.what, each.declared, each.found)
        context_of(context).out.print(table)
