"""Defines `standgale device add | rotate | revoke | list`: manages the devices that may send frames."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from infra.texts import counted
from standgale.commands.context import JsonOption, context_of, print_json, run_async

if TYPE_CHECKING:
    from infra.auth.tokens import DeviceTokens, TokenInfo

app = typer.Typer(no_args_is_help=True, help="Manage the devices that may send frames, and their tokens.")

_DeviceArgument = Annotated[str, typer.Argument(help="The device id, for example drone-7.")]


@asynccontextmanager
async def _tokens(context: typer.Context) -> AsyncIterator[DeviceTokens]:
    from infra.auth.tokens import DeviceTokens
    from standgale.opening import open_database

    settings = context_of(context).settings()
    context_of(context).note_new_database(settings)
    async with open_database(settings) as database:
        yield DeviceTokens(database)


@app.command()
def add(
    context: typer.Context,
    device_id: _DeviceArgument,
    name: Annotated[str | None, typer.Option(help="A name for people.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Register a device and print its token once; only a hash of it is kept."""

    async def work() -> str:
        async with _tokens(context) as tokens:
            return await tokens.add(device_id, name)

    _show_token(context, device_id, run_async(work()), as_json)


@app.command()
def rotate(context: typer.Context, device_id: _DeviceArgument, as_json: JsonOption = False) -> None:
    """Print a second token; the first stays valid until it is revoked. A third is refused."""

    async def work() -> str:
        async with _tokens(context) as tokens:
            return await tokens.rotate(device_id)

    _show_token(context, device_id, run_async(work()), as_json)


@app.command()
def revoke(
    context: typer.Context,
    device_id: _DeviceArgument,
    token_id: Annotated[str | None, typer.Option("--token", help="Only this token, by its public id.")] = None,
) -> None:
    """Make a device's tokens invalid; running gateways follow within seconds."""

    async def work() -> int:
        async with _tokens(context) as tokens:
            return await tokens.revoke(device_id, token_id)

    context_of(context).out.print(f"{counted(run_async(work()), 'token')} of {device_id} revoked", highlight=False)


@app.command(name="list")
def list_(context: typer.Context, as_json: JsonOption = False) -> None:
    """List devices and the public ids of their tokens; only the device has the token itself."""

    async def work() -> list[TokenInfo]:
        async with _tokens(context) as tokens:
            return list(await tokens.list())

    found = run_async(work())
    if as_json:
        print_json([asdict(each) for each in found])
        return
    table = Table("device", "token", "created", "valid")
    for token in found:
        created, valid = f"{token.created_at:%Y-%m-%d %H:%M:%S}", "yes" if token.valid else "no"
        table.add_row(token.device_id, token.token_id, created, valid)
    context_of(context).out.print(table)


def _show_token(context: typer.Context, device_id: str, token: str, as_json: bool) -> None:
    if as_json:
        print_json({"device_id": device_id, "token": token})
        return
    # The token alone on stdout, so that `TOKEN=$(standgale device add …)` works.
    context_of(context).notes.print(f"token of {device_id}, shown this once:")
    typer.echo(token)
