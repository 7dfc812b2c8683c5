"""Defines `standgale model inspect`: reads what an ONNX file is, and writes a card for it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from rich.table import Table

from infra.errors import SettingsError
from standgale.commands.context import Context, JsonOption, context_of, print_json

if TYPE_CHECKING:
    from detectors.card.card import BoxesCard, Layout
    from detectors.card.onnx_file import TensorInfo
    from detectors.model.inspect import Inspection

# Longer numbers are no sides of a picture, and Python refuses to read very long ones.
_SIDE = r"[0-9]{1,6}"


def register(app: typer.Typer) -> None:
    """Add the verb to the group `model`."""
    app.command()(inspect)


def inspect(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="An ONNX file.")],
    layout: Annotated[str | None, typer.Option(help="The layout of its outputs, if the file does not show it.")] = None,
    classes: Annotated[str | None, typer.Option(help="Its classes in order, separated by commas.")] = None,
    size: Annotated[
        str | None, typer.Option(help="Its input, for example 640x640, if the file leaves it open.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write model.yaml next to the file.")] = False,
    name: Annotated[
        str | None,
        typer.Option(help="The model's name; its card becomes NAME.yaml, so that a folder may hold several models."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a model file is and what had to be assumed; --write writes its card."""
    from detectors.model import inspect_process
    from detectors.model.inspect import write_card

    here = context_of(context)
    names = [name.strip() for name in classes.split(",") if name.strip()] if classes else []
    _check_name(name)
    wanted = inspect_process.InspectRequest(
        file, _layout(layout), tuple(names), _size(size), here.settings().detector.engine, name
    )
    found = inspect_process.inspect_in_process(wanted)
    card = write_card(found, file.parent, name) if write else None
    if as_json:
        print_json(_fields(found, card))
    else:
        _print(here, found, card)


def _layout(text: str | None) -> Layout | None:
    from detectors.card.card import ShippedLayout

    for known in get_args(ShippedLayout):
        if known == text:
            return known  # type: ignore[no-any-return]  # get_args knows no types
    if text is None:
        return None
    raise SettingsError(f"--layout {text}: unknown; give one of {', '.join(get_args(ShippedLayout))}")


def _check_name(name: str | None) -> None:
    from detectors.card.card import NAME_PATTERN

    if name is not None and not re.fullmatch(NAME_PATTERN, name):
        raise SettingsError(
            f"--name {name}: no name of a model; give at most 100 letters, digits and . _ -, first a letter or digit"
        )


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, by, height = text.partition("x")
    if not (by and re.fullmatch(_SIDE, width) and re.fullmatch(_SIDE, height)):
        raise SettingsError(f"--size {text}: not a size; give width and height in pixels like 640x640")
    return int(width), int(height)


def _tensor(one: TensorInfo) -> dict[str, object]:
    return {"name": one.name, "type": one.type, "shape": list(one.shape)}


def _fields(found: Inspection, card: Path | None) -> dict[str, object]:
    return {
        "opset": found.about.opset,
        "inputs": [_tensor(one) for one in found.about.inputs],
        "outputs": [_tensor(one) for one in found.outputs],
        "metadata": dict(found.about.metadata),
        "card": found.card.model_dump(mode="json", exclude_none=True, exclude={"training"}),
        "assumed": list(found.assumed),
        "written": None if card is None else str(card),
    }


def _print(here: Context, found: Inspection, card: Path | None) -> None:
    from detectors.heads.choice import LAYOUTS

    model, assumed = found.card, found.assumed
    names = [one.name for one in model.classes]
    table = Table(show_header=False, box=None)
    rows = {
        "layout": f"{model.layout} ({LAYOUTS.get(model.layout, 'a plug-in')})" if model.layout else "",
        "boxes": _boxes_text(model.boxes),
        "inputs": "\n".join(map(_text, found.about.inputs)),
        "outputs": "\n".join(map(_text, found.outputs)),
        "input size": f"{model.input.width}×{model.input.height} pixels",
        "classes": f"{len(names)}: {', '.join(names[:10])}{', …' if len(names) > 10 else ''}",
        "opset": str(found.about.opset or "not stated"),
        "sha256": model.sha256,
    }
    for name, value in rows.items():
        if not value:
            continue
        table.add_row(name, value)
    here.out.print(table)
    here.out.print("assumed, because the file does not state it:")
    for each in assumed:
        here.out.print(f"  {each}", markup=False, highlight=False, soft_wrap=True)
    if card is None:
        here.notes.print("write the card with --write, under a name of its own with --name", highlight=False)
    else:
        here.notes.print(f"card written to {card}", markup=False, highlight=False)


def _boxes_text(boxes: BoxesCard | None) -> str:
    """Return how boxes beside scores are read; empty for other layouts."""
    if boxes is None:
        return ""
    background = "no background" if boxes.background == "none" else f"the {boxes.background} column is the background"
    return f"{boxes.unit}, {boxes.form}, {background}"


def _text(one: TensorInfo) -> str:
    sides = ["?" if side is None else str(side) for side in one.shape]
    return f"{one.name} {one.type} ({', '.join(sides)})"
