"""Defines `standgale dataset create | list | show | export | diff | delete`: data sets cut from what was detected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.errors import SettingsError
from infra.texts import counted, shortened
from standgale.commands.context import Context, JsonOption, context_of, print_json, run_async, table
from standgale.commands.dataset_output import (
    diff_json,
    diff_lines,
    print_manifest,
    print_preview,
    print_unusable,
    summary,
)

if TYPE_CHECKING:
    from console.datasets.create import Created, Preview, Progress
    from console.datasets.diff import DatasetDiff
    from console.datasets.export import Exported
    from console.datasets.manifest import Manifest

app = typer.Typer(
    no_args_is_help=True,
    help="Data sets for training: pictures and boxes that a query selects, in splits, with label files.",
)

_NameArgument = Annotated[str, typer.Argument(help="The name of the data set, for example birds-v1.0.")]


@app.command()
def create(  # noqa: PLR0913, PLR0917 (one per option of the verb)
    context: typer.Context,
    name: _NameArgument,
    where: Annotated[
        str | None, typer.Option(help='A query such as "label = bird and confidence >= 0.5"; see docs/datasets.md.')
    ] = None,
    device: Annotated[list[str] | None, typer.Option(help="Only of this device; may be repeated.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="Only boxes with this label; may be repeated.")] = None,
    flight: Annotated[list[str] | None, typer.Option(help="Only of this flight; may be repeated.")] = None,
    min_confidence: Annotated[float | None, typer.Option(min=0, max=1, help="Only boxes with at least this.")] = None,
    since: Annotated[str | None, typer.Option(help="Only captured at this time (UTC) or later.")] = None,
    until: Annotated[str | None, typer.Option(help="Only captured before this time (UTC).")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="The boxes of this model, as name or name@version. Default: of each picture's last model."),
    ] = None,
    split: Annotated[str, typer.Option(help="Shares of train, val and test, by device and day.")] = "80/10/10",
    like: Annotated[str | None, typer.Option(help="Keep the splits that another data set has.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Another number divides otherwise.")] = 0,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="coco, yolo or voc; may be repeated. Default: coco and yolo.")
    ] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out pictures that the frame store no longer has.")
    ] = False,
    jobs: Annotated[
        bool, typer.Option("--jobs", help="Also pictures of jobs and media, which belong to their clients.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be in it.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a data set. What the options and --where select together is in it; people's corrections win."""
    from console.datasets.create import DatasetRequest, create_dataset, parse_formats, preview_dataset
    from console.datasets.names import require_name
    from console.datasets.query.language import parse_query
    from console.datasets.splits import parse_shares
    from standgale.datasets import opened_parts

    model_name, _, model_version = (model or "").partition("@")
    if where is not None:
        # Alone: what is wrong in it must not change the meaning of the other options.
        parse_query(where)
    text = _where(where, {"device": device, "label": label, "flight": flight}, min_confidence, since, until)
    request = DatasetRequest(
        require_name(name),
        text,
        parse_shares(split),
        parse_formats(formats or ["coco", "yolo"]),
        model=model_name or None,
        version=model_version or None,
        seed=seed,
        like=like,
        skip_missing=skip_missing,
        jobs=jobs,
    )
    # Before anything is opened.
    parse_query(text)
    settings = context_of(context).settings()

    async def preview() -> Preview:
        async with opened_parts(settings) as parts:
            with _progress(context_of(context)) as show:
                return await preview_dataset(parts, request, show)

    async def make() -> tuple[Created, str]:
        async with opened_parts(settings) as parts:
            with _progress(context_of(context)) as show:
                return await create_dataset(parts, request, show), parts.store.address(name)

    if dry_run:
        print_preview(context_of(context), request, run_async(preview()), as_json=as_json)
        return
    created, address = run_async(make())
    if as_json:
        print_json(
            {
                **summary(created.manifest),
                "is_new": created.is_new,
                "unusable": created.unusable,
                "address": address,
            }
        )
        return
    what = "made" if created.is_new else "is there already, made from the same"
    context_of(context).out.print(f"data set {name} {what}: {address}", highlight=False, soft_wrap=True)
    print_manifest(context_of(context), created.manifest)
    print_unusable(context_of(context), created.unusable)


@app.command(name="list")
def list_(context: typer.Context, as_json: JsonOption = False) -> None:
    """List all data sets, and those that are unfinished or damaged."""
    from console.datasets.errors import DatasetDamagedError
    from standgale.datasets import opened_datasets

    settings = context_of(context).settings()

    damaged: dict[str, str] = {}

    async def work() -> tuple[list[Manifest], list[str]]:
        found = []
        async with opened_datasets(settings) as store:
            for name in await store.names():
                try:
                    opened = await store.open(name)
                except DatasetDamagedError as error:
                    damaged[name] = str(error)
                    continue
                if opened is not None:
                    found.append(opened.manifest)
            return found, list(await store.unfinished())

    found, unfinished = run_async(work())
    if as_json:
        print_json({"datasets": [summary(one) for one in found], "unfinished": unfinished, "damaged": damaged})
        return
    out = context_of(context).out
    shown = table("name", "pictures", "boxes", "classes", "captured", "id", whole=["name", "id"])
    for one in found:
        captured = f"{one.first_captured[:10]} to {one.last_captured[:10]}"
        shown.add_row(one.name, f"{one.pictures:,}", f"{one.boxes:,}", str(len(one.classes)), captured, one.id[:12])
    out.print(shown if found else "no data sets; `standgale dataset create NAME --where …` makes one")
    for name in unfinished:
        text = f"{name} is unfinished: run its `dataset create` again, or `standgale dataset delete {name}`"
        out.print(text, highlight=False, soft_wrap=True)
    for name, why in damaged.items():
        out.print(f"{name} is damaged: {why}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def show(context: typer.Context, name: _NameArgument, as_json: JsonOption = False) -> None:
    """Show what is in a data set, and from what it was made."""
    from console.datasets.export import find_dataset
    from standgale.datasets import opened_datasets

    settings = context_of(context).settings()

    async def work() -> tuple[Manifest, str]:
        async with opened_datasets(settings) as store:
            return (await find_dataset(store, name)).manifest, store.address(name)

    manifest, address = run_async(work())
    if as_json:
        print_json({**summary(manifest), "address": address})
        return
    context_of(context).out.print(f"data set {name}: {address}", highlight=False, soft_wrap=True)
    print_manifest(context_of(context), manifest)


@app.command()
def export(
    context: typer.Context,
    name: _NameArgument,
    folder: Annotated[Path, typer.Argument(help="A new folder, or one in which this export was begun.")],
    formats: Annotated[list[str] | None, typer.Option("--format", help="Label files of this format only.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Only train, val or test; may be repeated.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Download a data set and check every file; the same command goes on where it was stopped."""
    from console.datasets.export import ExportRequest, export_dataset
    from standgale.datasets import opened_datasets

    settings = context_of(context).settings()
    request = ExportRequest(name, folder.absolute(), formats or (), split or (), settings.datasets.transfers)

    async def work() -> Exported:
        async with opened_datasets(settings) as store:
            with _progress(context_of(context)) as progress:
                return await export_dataset(store, request, lambda done, total: progress("downloaded", done, total))

    done = run_async(work())
    if as_json:
        print_json(
            {
                "dataset": done.manifest.name,
                "id": done.manifest.id,
                "folder": str(request.folder),
                "files": done.files,
                "size_bytes": done.size_bytes,
                "downloaded": done.downloaded,
            }
        )
        return
    text = (
        f"{counted(done.files, 'file')}, {done.size_bytes / 1e6:,.1f} MB, of data set {name} are in {request.folder}; "
        f"{done.downloaded} were not there before"
    )
    context_of(context).out.print(text, highlight=False, soft_wrap=True)


@app.command()
def diff(
    context: typer.Context,
    first: Annotated[str, typer.Argument(help="A data set.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    iou: Annotated[float, typer.Option(min=0.05, max=1, help="Boxes that overlap by so much show the same.")] = 0.5,
    as_json: JsonOption = False,
) -> None:
    """Compare two data sets: pictures, splits, boxes and labels. Exits with 1 when they differ."""
    from console.datasets.diff import diff_datasets
    from console.datasets.export import find_dataset
    from standgale.datasets import opened_datasets

    settings = context_of(context).settings()

    async def work() -> DatasetDiff:
        async with opened_datasets(settings) as store:
            one, other = await find_dataset(store, first), await find_dataset(store, second)
            return await diff_datasets(one, other, iou=iou)

    found = run_async(work())
    if as_json:
        print_json(diff_json(found))
    else:
        for line in diff_lines(found):
            context_of(context).out.print(line, highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(0 if found.is_same else 1)


@app.command()
def delete(
    context: typer.Context,
    name: _NameArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a data set, and what is left of unfinished ones of that name. Frames and detections stay."""
    from console.datasets.errors import DatasetNotFoundError
    from console.datasets.names import require_name
    from standgale.datasets import opened_datasets

    require_name(name)
    settings = context_of(context).settings()

    async def look() -> tuple[bool, str]:
        async with opened_datasets(settings) as store:
            return name in await store.names() or name in await store.unfinished(), store.where

    if not yes:
        known, where = run_async(look())
        if not known:
            raise DatasetNotFoundError.of(name, where)
        typer.confirm(f"Delete the data set {name}?", abort=True)

    async def work() -> tuple[bool, str]:
        async with opened_datasets(settings) as store:
            return await store.delete(name), store.where

    there, where = run_async(work())
    if not there:
        raise DatasetNotFoundError.of(name, where)
    context_of(context).out.print(f"data set {name} deleted", highlight=False)


def _where(
    where: str | None,
    names: dict[str, list[str] | None],
    min_confidence: float | None,
    since: str | None,
    until: str | None,
) -> str:
    """Return one query for all options. Raises SettingsError without any."""
    parts = [] if where is None else [f"({where})"]
    for field, values in names.items():
        if values:
            parts.append(f"{field} in ({', '.join(map(_quoted, values))})")
    if min_confidence is not None:
        parts.append(f"confidence >= {min_confidence:.6f}")
    if since is not None:
        parts.append(f"time >= {_time('--since', since)}")
    if until is not None:
        parts.append(f"time < {_time('--until', until)}")
    if not parts:
        raise SettingsError(
            "a data set needs a query: give --where, or one of --device, --label, --flight, --min-confidence, --since "
            'and --until; --where "width > 0" selects everything'
        )
    return where if where is not None and len(parts) == 1 else " and ".join(parts)


def _time(option: str, text: str) -> str:
    """Return ``text`` for a query. Raises DatasetQueryError, which names the option, where it is no time."""
    from console.datasets.errors import DatasetQueryError
    from console.datasets.query.fields import FIELDS, read_value

    try:
        read_value("time", text)
    except ValueError as error:
        raise DatasetQueryError(f"{option} is {shortened(text, 60)!r}; it takes {FIELDS['time'].takes}") from error
    return _quoted(text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def _progress(here: Context) -> Iterator[Progress]:
    """Show a bar on standard error."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=here.notes, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
