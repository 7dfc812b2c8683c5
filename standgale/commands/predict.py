"""Defines `standgale predict`: does one inference job, described by variables of the environment."""

from __future__ import annotations

import typer

from standgale.commands.context import context_of, run_async


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(predict)


def predict(
    context: typer.Context,
    with_input: bool = typer.Option(
        False, "--stop-at-end-of-input", hidden=True, help="Stop when the standard input ends."
    ),
) -> None:
    """Do the inference job of INFERENCE_JOB_ID, IMAGE_PATHS, CHECKPOINT_PATH, OUTPUT_PATH and CALLBACK_URL.

    Exits with 0 when the results are written and the call-back was taken, with 2 after an error. For pictures as
    arguments there is `standgale detect`.
    """
    import os

    from infra.secrets import secrets_of
    from infra.telemetry.logs import configure_logging
    from standgale.inference.run import run_job

    if with_input:
        from infra.process.stopping import stop_at_end_of_input

        stop_at_end_of_input()
    settings = context_of(context).settings()
    configure_logging(settings.telemetry, service="predict", secrets=secrets_of(settings))
    run_async(run_job(settings, os.environ))
