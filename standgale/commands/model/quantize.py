"""Defines `standgale model quantize`: makes an INT8 version of a model if it finds what the f32 model finds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.table import Table

from infra.errors import SettingsError
from standgale.commands.context import Context, JsonOption, context_of, print_json

if TYPE_CHECKING:
    from training.quantize.graph import Target
    from training.quantize.plan_result import Quantized


def register(app: typer.Typer) -> None:
    """Add the verb to the group `model`."""
    app.command()(quantize)


def quantize(
    context: typer.Context,
    card: Annotated[Path, typer.Argument(help="The model.yaml of an f32 model.")],
    frames: Annotated[Path, typer.Option(help="A folder of typical pictures for the model.")],
    max_loss: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The largest share of boxes that only one of INT8 and f32 finds.")
    ] = 0.02,
    output: Annotated[
        Path | None, typer.Option(help="The new version's folder; default is next to the model's folder.")
    ] = None,
    target: Annotated[
        str,
        typer.Option(help="cpu: for ONNX Runtime and OpenVINO; every: for TensorRT too, slower and coarser on CPUs."),
    ] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Calibrate an INT8 version on your frames; if it loses more than --max-loss, keep nothing and exit with 1."""
    from training.quantize.plan_result import QuantizeRequest
    from training.quantize.quantize import quantize as make

    here = context_of(context)
    settings = here.settings().detector
    wanted = QuantizeRequest(card, frames, max_loss, output, _target(target), settings.threads, settings.max_pixels)
    made = make(wanted, lambda text: here.notes.print(text, markup=False, highlight=False, soft_wrap=True))
    if as_json:
        print_json({**asdict(made), "accepted": made.accepted})
    else:
        _print(here, made)
    if not made.accepted:
        raise typer.Exit(1)


def _target(text: str) -> Target:
    from training.quantize.graph import Target

    for known in get_args(Target):
        if known == text:
            return known  # type: ignore[no-any-return]  # get_args knows no types
    raise SettingsError(f"--target {text}: unknown; give one of {', '.join(get_args(Target))}")


def _print(here: Context, made: Quantized) -> None:
    table = Table("engine", "boxes f32", "boxes INT8", "loss", "tiles/s f32", "tiles/s INT8", box=None)
    for each in made.best.engines:
        speeds = [f"{speed:.1f}" for speed in (each.tiles_per_s_f32, each.tiles_per_s_int8) if speed is not None]
        table.add_row(each.engine, str(each.boxes_f32), str(each.boxes_int8), f"{each.loss:.4f}", *speeds)
    if made.best.engines:
        here.out.print(table)
    for text in _verdict(made):
        here.out.print(text, markup=False, highlight=False, soft_wrap=True)


def _verdict(made: Quantized) -> list[str]:
    """Return the result, and what to do next, as sentences."""
    best = made.best
    slower = [
        each.engine
        for each in best.engines
        if each.tiles_per_s_f32 is not None and (each.tiles_per_s_int8 or 0.0) < each.tiles_per_s_f32
    ]
    advice = [f"slower than f32 in {', '.join(slower)}"] if slower else []
    if made.accepted:
        if slower and made.target == "every":
            advice.append("if TensorRT is not used, --target cpu may be faster")
        return [f"accepted ({best.words}): {made.name} {made.version} is {made.card}", *advice]
    if best.failed is not None:
        return [f"refused, nothing was written: {best.failed}"]
    other = "cpu" if made.target == "every" else "every"
    return [
        f"refused, nothing was written: at best ({best.words}) the loss is {best.loss:.4f}, the limit {made.max_loss}",
        f"try more frames that are typical for the model, --target {other}, or a higher --max-loss",
        *advice,
    ]
