"""Defines `standgale device …` and `standgale key …`: manages devices with tokens, and clients with API keys."""

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
    from collections.abc import Sequence

    from infra.auth.tokens import ApiKeys, TokenInfo, Tokens
    from infra.database.pool import Database

device_app = typer.Typer(no_args_is_help=True, help="Manage the devices that may send frames, and their tokens.")
key_app = typer.Typer(no_args_is_help=True, help="Manage the clients that may upload pictures and ask for jobs.")

_DeviceArgument = Annotated[str, typer.Argument(help="The device id, for example drone-7.")]
_ClientArgument = Annotated[str, typer.Argument(help="The name of the client: a person or a program, such as desktop.")]
_NameOption = Annotated[str | None, typer.Option(help="A name for people.")]


@device_app.command(name="add")
def add_device(
    context: typer.Context, device_id: _DeviceArgument, name: _NameOption = None, as_json: JsonOption = False
) -> None:
    """Register a device and print its token once; only a hash of it is kept."""
    _add(context, "device", device_id, name, as_json)


@device_app.command(name="rotate")
def rotate_device(context: typer.Context, device_id: _DeviceArgument, as_json: JsonOption = False) -> None:
    """Print a second token; the first stays valid until it is revoked. A third is refused."""
    _rotate(context, "device", device_id, as_json)


@device_app.command(name="revoke")
def revoke_device(
    context: typer.Context,
    device_id: _DeviceArgument,
    token_id: Annotated[str | None, typer.Option("--token", help="Only this token, by its public id.")] = None,
) -> None:
    """Make a device's tokens invalid; running gateways follow within seconds."""
    _revoke(context, "device", device_id, token_id)


@device_app.command(name="list")
def list_devices(context: typer.Context, as_json: JsonOption = False) -> None:
    """List devices and the public ids of their tokens; only the device has the token itself."""
    _list(context, "device", as_json)


@key_app.command(name="add")
def add_key(
    context: typer.Context,
    client_id: _ClientArgument,
    name: _NameOption = None,
    device: Annotated[
        list[str] | None,
        typer.Option("--device", help="A device whose detections it may see, or drone-* for many; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Register a client and print its API key once; only a hash of it is kept."""
    if not device:
        _add(context, "key", client_id, name, as_json)
        return

    async def work() -> None:
        async with _opened_keys(context) as keys:
            _show(context, keys, client_id, await keys.add_for(client_id, device, name), as_json)

    run_async(work())


@key_app.command(name="devices")
def set_devices(
    context: typer.Context,
    client_id: _ClientArgument,
    devices: Annotated[
        list[str] | None, typer.Argument(help="Ids of devices, or beginnings of them with a star, such as 'drone-*'.")
    ] = None,
    all_devices: Annotated[bool, typer.Option("--all", help="It may see all devices.")] = False,
) -> None:
    """Change of which devices a client may see detections; running servers follow within seconds."""
    if bool(devices) == all_devices:
        raise typer.BadParameter("name devices, or give --all; `standgale key list` shows which ones a client may see")

    async def work() -> None:
        async with _opened_keys(context) as keys:
            await keys.set_devices(client_id, devices or None)

    run_async(work())
    what = ", ".join(devices or ["all devices"])
    context_of(context).out.print(f"{client_id} may see {what}", highlight=False)


@key_app.command(name="rotate")
def rotate_key(context: typer.Context, client_id: _ClientArgument, as_json: JsonOption = False) -> None:
    """Print a second key; the first stays valid until it is revoked. A third is refused."""
    _rotate(context, "key", client_id, as_json)


@key_app.command(name="revoke")
def revoke_key(
    context: typer.Context,
    client_id: _ClientArgument,
    key_id: Annotated[str | None, typer.Option("--key", help="Only this key, by its public id.")] = None,
) -> None:
    """Make a client's keys invalid; running consoles follow within seconds. Its jobs stay."""
    _revoke(context, "key", client_id, key_id)


@key_app.command(name="list")
def list_keys(context: typer.Context, as_json: JsonOption = False) -> None:
    """List clients and the public ids of their keys; only the client has the key itself."""
    _list(context, "key", as_json)


@asynccontextmanager
async def _opened(context: typer.Context, command: str) -> AsyncIterator[Tokens]:
    from infra.auth.tokens import ApiKeys, DeviceTokens

    async with _opened_database(context) as database:
        yield DeviceTokens(database) if command == "device" else ApiKeys(database)


@asynccontextmanager
async def _opened_keys(context: typer.Context) -> AsyncIterator[ApiKeys]:
    from infra.auth.tokens import ApiKeys

    async with _opened_database(context) as database:
        yield ApiKeys(database)


@asynccontextmanager
async def _opened_database(context: typer.Context) -> AsyncIterator[Database]:
    from standgale.opening import open_database

    settings = context_of(context).settings()
    context_of(context).note_new_database(settings)
    async with open_database(settings) as database:
        yield database


def _add(context: typer.Context, command: str, holder_id: str, name: str | None, as_json: bool) -> None:
    async def work() -> None:
        async with _opened(context, command) as tokens:
            _show(context, tokens, holder_id, await tokens.add(holder_id, name), as_json)

    run_async(work())


def _rotate(context: typer.Context, command: str, holder_id: str, as_json: bool) -> None:
    async def work() -> None:
        async with _opened(context, command) as tokens:
            _show(context, tokens, holder_id, await tokens.rotate(holder_id), as_json)

    run_async(work())


def _revoke(context: typer.Context, command: str, holder_id: str, token_id: str | None) -> None:
    async def work() -> None:
        async with _opened(context, command) as tokens:
            done = counted(await tokens.revoke(holder_id, token_id), tokens.kind.token)
            context_of(context).out.print(f"{done} of {holder_id} revoked", highlight=False)

    run_async(work())


def _list(context: typer.Context, command: str, as_json: bool) -> None:
    async def work() -> tuple[Tokens, Sequence[TokenInfo]]:
        async with _opened(context, command) as tokens:
            return tokens, await tokens.list()

    tokens, found = run_async(work())
    kind = tokens.kind
    if as_json:
        print_json([{kind.holder_id: each.holder_id, **_without_holder(each, kind.is_scoped)} for each in found])
        return
    scoped = ("devices",) if kind.is_scoped else ()
    table = Table(kind.holder, kind.token, "created", "valid", *scoped)
    for token in found:
        created, valid = f"{token.created_at:%Y-%m-%d %H:%M:%S}", "yes" if token.valid else "no"
        devices = ("all" if token.devices is None else ", ".join(token.devices),) if scoped else ()
        table.add_row(token.holder_id, token.token_id, created, valid, *devices)
    context_of(context).out.print(table)


def _show(context: typer.Context, tokens: Tokens, holder_id: str, text: str, as_json: bool) -> None:
    kind = tokens.kind
    if as_json:
        print_json({kind.holder_id: holder_id, kind.token: text})
        return
    # The token alone on stdout, so that `TOKEN=$(standgale device add …)` works.
    context_of(context).notes.print(f"{kind.token} of {holder_id}, shown this once:")
    typer.echo(text)


def _without_holder(token: TokenInfo, scoped: bool) -> dict[str, object]:
    hidden = {"holder_id"} if scoped else {"holder_id", "devices"}
    return {key: value for key, value in asdict(token).items() if key not in hidden}
