"""Defines `standgale migrate up | down`: migrates the database schema to a revision."""

from __future__ import annotations

from typing import Annotated

import typer

from standgale.commands.context import context_of, run_async

app = typer.Typer(no_args_is_help=True, help="Migrate the database schema to a revision.")


@app.command()
def up(
    context: typer.Context,
    revision: Annotated[str, typer.Argument(help="The target revision; head is the newest.")] = "head",
) -> None:
    """Migrate up to a revision."""
    run_async(_migrate(context, revision, down=False))


@app.command()
def down(
    context: typer.Context,
    revision: Annotated[str, typer.Argument(help="The target revision; base is empty, -1 is one step down.")],
) -> None:
    """Migrate down to a revision. Data in tables and columns that are removed is lost."""
    run_async(_migrate(context, revision, down=True))


async def _migrate(context: typer.Context, revision: str, *, down: bool) -> None:
    import asyncio

    from infra.database.migrate import current_revision, migrate_down, migrate_up
    from standgale.opening import open_database

    settings = context_of(context).settings()
    async with open_database(settings, migrate=False) as database:
        url = await database.dsn()
        await asyncio.to_thread(migrate_down if down else migrate_up, url, revision)
        context_of(context).out.print(f"the schema is at {await asyncio.to_thread(current_revision, url) or 'base'}")
