"""Defines `standgale up | gateway | console | sources | detector`: runs services, alone or together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from standgale.commands.context import context_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(up)
    app.command()(gateway)
    app.command()(console)
    app.command()(sources)
    app.command()(detector)


def up(
    context: typer.Context,
    data_dir: Annotated[
        str | None, typer.Option(help="The folder where broker, frames and database keep their files.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="The port of the gateway and of the live stream.")] = None,
    with_input: Annotated[
        bool, typer.Option("--stop-at-end-of-input", hidden=True, help="Stop when the standard input ends.")
    ] = False,
) -> None:
    """Run gateway, console, detector, PostgreSQL and live stream in one process; embedded unless settings differ."""
    from standgale.services.preflight import Part, require_startable
    from standgale.services.run import run_up

    settings = context_of(context).settings(data_dir=data_dir, gateway__port=port)
    mqtt: tuple[Part, ...] = () if settings.mqtt.url is None else ("mqtt",)
    require_startable(settings, ("gateway", "detector", "postgres", "archive", "retention", *mqtt))
    if with_input:
        from infra.process.stopping import stop_at_end_of_input

        stop_at_end_of_input()
    run_until_stopped(lambda: run_up(settings))


def gateway(context: typer.Context) -> None:
    """Run the HTTP service that receives frames from devices."""
    from standgale.services.preflight import require_startable
    from standgale.services.run import run_gateway

    settings = context_of(context).settings()
    require_startable(settings, ("gateway",))
    run_until_stopped(lambda: run_gateway(settings))


def console(context: typer.Context) -> None:
    """Run the HTTP service for people and programs: uploads, jobs and their results."""
    from standgale.services.preflight import require_startable
    from standgale.services.run import run_console

    settings = context_of(context).settings()
    require_startable(settings, ("console",))
    run_until_stopped(lambda: run_console(settings))


def sources(context: typer.Context) -> None:
    """Pull the cameras that `standgale source add` added; several such processes share them."""
    from standgale.services.preflight import require_startable
    from standgale.services.run import run_sources

    settings = context_of(context).settings()
    require_startable(settings, ("sources",))
    run_until_stopped(lambda: run_sources(settings))


def detector(
    context: typer.Context,
    instance_id: Annotated[
        str | None, typer.Option(help="A stable name: after a restart this worker takes its partitions back at once.")
    ] = None,
) -> None:
    """Run a detector worker; more workers than partitions do not help."""
    from standgale.services.preflight import require_startable
    from standgale.services.run import run_detector

    settings = context_of(context).settings()
    require_startable(settings, ("detector",))
    run_until_stopped(lambda: run_detector(settings, instance_id))


def run_until_stopped(main: Callable[[], Coroutine[None, None, int]]) -> None:
    """Run the service ``main`` and exit with its status."""
    from infra.process.service import run_service

    raise typer.Exit(run_service(main))
