"""Defines `standgale model measure`: measures how fast each engine runs a model here, and saves it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from standgale.commands.context import Context, JsonOption, context_of, print_json

if TYPE_CHECKING:
    from detectors.engines.measuring.measurements import EngineMeasurements, WayMeasurement


def register(app: typer.Typer) -> None:
    """Add the verb to the group `model`."""
    app.command()(measure)


def measure(
    context: typer.Context,
    card: Annotated[Path | None, typer.Argument(help="A model.yaml; default is the one of detector.model.")] = None,
    seconds: Annotated[
        float, typer.Option(min=0.5, help="About how long it may take; longer is more accurate.")
    ] = 10.0,
    engine: Annotated[
        str | None, typer.Option(help="Only this engine; default is the setting detector.engine.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, f32, bf16 or f16; default is the value of the settings or the card.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure which engine runs a model fastest here, and save it for the next load; the machine should be idle."""
    from detectors.model.loading import LoadRequest, measure_model
    from standgale.folders import require_writable

    here = context_of(context)
    settings = here.settings(detector__model=card, detector__engine=engine, detector__precision=precision)
    require_writable("data_dir (STANDGALE_DATA_DIR)", settings.engines_folder)
    found = measure_model(replace(LoadRequest.of(settings.detector, settings.engines_folder), measure_s=seconds))
    if as_json:
        rows = [_fields(one, found) for one in found.ways]
        print_json({"chosen": str(found.way), "sentence": found.sentence(), "measured": rows})
    else:
        _print(here, found, settings.engines_folder)


def _fields(one: WayMeasurement, found: EngineMeasurements) -> dict[str, object]:
    way = one.way
    return {
        "engine": way.engine,
        "precision": way.precision,
        "streams": way.streams or None,
        "batch": way.batch or None,
        "tiles_per_s": None if one.tiles_per_s is None else round(one.tiles_per_s, 1),
        "note": one.note,
        "chosen": way == found.way,
    }


def _print(here: Context, found: EngineMeasurements, folder: Path) -> None:
    table = Table("way", "tiles/s", "")
    for one in sorted(found.ways, key=lambda one: -(one.tiles_per_s or 0.0)):
        rate = "" if one.tiles_per_s is None else f"{one.tiles_per_s:.1f}"
        table.add_row(str(one.way), rate, "chosen" if one.way == found.way else one.note)
    here.out.print(table)
    here.notes.print(found.sentence(), markup=False, highlight=False)
    here.notes.print(f"saved in {folder}", markup=False, highlight=False, soft_wrap=True)
