"""Defines `standgale kafka start | stop | status`: runs Kafka on this machine without Docker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from standgale.commands.context import context_of

if TYPE_CHECKING:
    from infra.deploy.kafka.local import LocalNode

app = typer.Typer(no_args_is_help=True, help="Run Kafka on this machine without Docker; needs Java 17 and Maven.")

_HomeOption = Annotated[Path, typer.Option(help="The folder of the broker's data, settings and log.")]
_DEFAULT_HOME = Path(".standgale/kafka")


@app.command()
def start(
    context: typer.Context,
    home: _HomeOption = _DEFAULT_HOME,
    cache: Annotated[
        Path | None, typer.Option(help="The folder of the broker's jars; default is below ~/.cache/standgale.")
    ] = None,
    nodes: Annotated[int | None, typer.Option(min=1, help="How many brokers a new cluster has; default is 1.")] = None,
) -> None:
    """Start the broker or cluster of a folder, and print its address; the first time its jars are fetched."""
    from infra.deploy.kafka.local import start_kafka
    from infra.process.ending import exit_at_signals

    context_of(context).notes.print("starting Kafka (the first time its jars are fetched, which takes a minute) …")
    with exit_at_signals():
        found = start_kafka(home, cache=cache, nodes=nodes)
    _print_running(found)
    raise typer.Exit(0 if all(node.responds for node in found) else 1)


@app.command()
def stop(home: _HomeOption = _DEFAULT_HOME) -> None:
    """Stop the broker or all nodes of the cluster; their data stays."""
    from infra.deploy.kafka.local import stop_kafka

    raise typer.Exit(0 if _print_running(stop_kafka(home), none="Kafka stopped") == 0 else 1)


@app.command()
def status(home: _HomeOption = _DEFAULT_HOME) -> None:
    """Print which nodes run, and their addresses; exits with 1 when one does not run or respond."""
    from infra.deploy.kafka.local import find_kafka

    found = find_kafka(home)
    _print_running(found)
    raise typer.Exit(0 if all(node.responds for node in found) else 1)


def _print_running(nodes: Sequence[LocalNode], none: str = "Kafka does not run") -> int:
    """Print which of ``nodes`` run, or the text ``none``; returns how many."""
    running = [node for node in nodes if node.pid is not None]
    for node in running:
        if node.responds:
            typer.echo(f"Kafka runs as process {node.pid}; clients connect to {node.bootstrap_servers}")
        else:
            typer.echo(
                f"Kafka's process {node.pid} does not respond at {node.bootstrap_servers}; "
                "`standgale kafka start` continues or restarts it"
            )
    if not running:
        typer.echo(none)
    elif len(running) < len(nodes):
        typer.echo(f"{len(nodes) - len(running)} of {len(nodes)} nodes do not run")
    return len(running)
