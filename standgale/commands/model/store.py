"""Defines `standgale model push | pull | list`: moves model versions into and out of the model store."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Never, TypeVar

import typer

from standgale.commands.context import Context, JsonOption, context_of, print_json, run_async

if TYPE_CHECKING:
    from tqdm import tqdm

    from detectors.store.blobs import OnTransfer
    from detectors.store.port import ModelStore

T = TypeVar("T")


def register(app: typer.Typer) -> None:
    """Add the verbs to the group `model`."""
    app.command()(push)
    app.command()(pull)
    app.command(name="list")(list_models)


def push(
    context: typer.Context,
    card: Annotated[Path, typer.Argument(help="A model.yaml, next to the files that it names.")],
    as_json: JsonOption = False,
) -> None:
    """Publish a model version in the model store. A version never changes; the same one again changes nothing."""
    here = context_of(context)
    model = _with_store(here, lambda store: store.publish(card))
    if as_json:
        print_json({"name": model.name, "version": model.version})
    else:
        here.out.print(f"{model.name} {model.version} is in the model store", markup=False, highlight=False)


def pull(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The model's name.")],
    version: Annotated[str, typer.Argument(help="Its version.")],
    into: Annotated[
        Path | None,
        typer.Option(help="A folder; the model is put into NAME/VERSION below it. Default is models.cache."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch a model version from the model store, check its checksums, and print the path of its card."""
    from detectors.store.names import ref_of

    here = context_of(context)
    model = ref_of(name, version)
    folder = into or here.settings().model_cache
    card = _with_store(here, lambda store: store.fetch(model, folder))
    if as_json:
        print_json({"name": model.name, "version": model.version, "card": str(card)})
    else:
        typer.echo(card)


def list_models(context: typer.Context, as_json: JsonOption = False) -> None:
    """Print the versions in the model store."""
    here = context_of(context)
    models = _with_store(here, lambda store: store.versions())
    if as_json:
        print_json([{"name": model.name, "version": model.version} for model in models])
        return
    for model in models:
        typer.echo(f"{model.name} {model.version}")
    if not models:
        here.notes.print("the model store is empty; publish a model with: standgale model push CARD")


def _with_store(here: Context, work: Callable[[ModelStore], Coroutine[None, None, T]]) -> T:
    """Run ``work`` on the model store of the settings, with a progress bar for each large file."""
    from detectors.store.open import open_model_store

    settings = here.settings()

    async def run(progress: OnTransfer) -> T:
        store = open_model_store(settings.models, settings.data_dir, progress)
        try:
            return await work(store)
        finally:
            await store.close()

    with _bars() as progress:
        return run_async(run(progress))


@contextmanager
def _bars() -> Iterator[OnTransfer]:
    """Show a progress bar per file on stderr, if that is a terminal."""
    from tqdm import tqdm

    bars: dict[str, tqdm[Never]] = {}

    def show(key: str, moved: int, total: int | None) -> None:
        if key not in bars:
            # disable=None: only on a terminal.
            name = key.rpartition("/")[2]
            bars[key] = tqdm(None, desc=name, total=total, unit="B", unit_scale=True, disable=None)
        bars[key].update(moved - bars[key].n)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()
