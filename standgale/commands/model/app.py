"""Composes the group `standgale model` from its verbs."""

from __future__ import annotations

import typer

from standgale.commands.model import inspect, measure, quantize, rollout, store

app = typer.Typer(no_args_is_help=True, help="Models: inspect, measure, quantize, store, and choose what workers use.")
for _verbs in (inspect, measure, quantize, store, rollout):
    _verbs.register(app)
