"""Formats the output of `standgale model status`: the activation of a lane, and the models of its workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from schemas.timestamps import utc_now
from standgale.commands.context import Context, engine_text

if TYPE_CHECKING:
    from schemas.model_events import ModelActivated, ModelAvailability, WorkerAvailability


def fields_of(lane: str, activation: ModelActivated | None, workers: list[WorkerAvailability]) -> dict[str, object]:
    """Return the state of ``lane`` as JSON values."""
    from detectors.worker.rollout.models_topic import is_report_fresh

    now = utc_now()
    return {
        "lane": lane,
        "activation": None if activation is None else activation.model_dump(mode="json"),
        "workers": [{**one.model_dump(mode="json"), "live": is_report_fresh(one, now)} for one in workers],
    }


def show(here: Context, lane: str, activation: ModelActivated | None, workers: list[WorkerAvailability]) -> None:
    """Print the state of ``lane`` as a sentence and a table."""
    from detectors.worker.rollout.activation import describe_activation
    from detectors.worker.rollout.models_topic import is_report_fresh

    about = ""
    if activation is not None:
        by = f", by {activation.by}" if activation.by else ""
        comment = f": {activation.comment}" if activation.comment else ""
        about = f" (since {activation.activated_at:%Y-%m-%d %H:%M:%S}{by}{comment})"
    here.out.print(
        f"lane {lane}: {describe_activation(activation)}{about}", markup=False, highlight=False, soft_wrap=True
    )
    if not workers:
        here.out.print("  no worker has reported in the last hour", highlight=False)
        return
    table = Table("worker", "model", "role", "state", "engine", "since", "about")
    for report in sorted(workers, key=lambda one: one.worker):
        name = report.worker if is_report_fresh(report, utc_now()) else f"{report.worker} (gone)"
        for one in report.models:
            model = f"{one.model.name} {one.model.version}"
            role = one.role if one.serving or one.role == "former" else f"{one.role}, not yet"
            since = f"{one.since:%Y-%m-%d %H:%M:%S}"
            cells = (name, model, role, one.state, one.engine or "", since, one.detail or "")
            table.add_row(*cells)
            name = ""
    here.out.print(table)
    for line in _engines(workers):
        here.out.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def refusals(refused: Mapping[str, Sequence[ModelAvailability]]) -> list[str]:
    """Return each version in ``refused`` (by worker) with its reason, one line for all workers with the same reason."""
    workers: dict[str, list[str]] = {}
    for worker, versions in refused.items():
        for one in versions:
            workers.setdefault(f"{one.model.name} {one.model.version}: {one.detail}", []).append(worker)
    return [f"{', '.join(names)} refuse{'s' * (len(names) == 1)} {text}" for text, names in workers.items()]


def _engines(workers: list[WorkerAvailability]) -> list[str]:
    """Return why each model runs on its engine, one line for all workers with the same reason."""
    named: dict[str, list[str]] = {}
    for report in sorted(workers, key=lambda one: one.worker):
        for one in report.models:
            if one.engine is not None and one.engine_reason is not None:
                reason_line = f"{one.model.name} {one.model.version} on {engine_text(one.engine, one.engine_reason)}"
                named.setdefault(reason_line, []).append(report.worker)
    return [f"{', '.join(dict.fromkeys(names))}: {reason_line}" for reason_line, names in named.items()]
