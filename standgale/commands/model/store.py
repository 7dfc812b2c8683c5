"""`standgale model push | pull | list`: models on their way into the model store and out of it."""

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
    card: Annotated[Path, typer.Argument(help="A model.yaml; the files it names lie beside it.")],
    as_json: JsonOption = False,
) -> None:
    """Put a model into the model store. The same again changes nothing; a version never changes."""
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
        Path | None, typer.Option(help="A folder; the model comes into NAME/VERSION below it. Default models.cache.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring a model from the model store, its checksums compared, and print where its card is."""
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
        here.notes.print("the model store is empty; put a model into it with: standgale model push CARD")


def _with_store(here: Context, work: Callable[[ModelStore], Coroutine[None, None, T]]) -> T:
    """What ``work`` makes of the model store of the settings, with a progress bar for each large file."""
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
    """A bar per file on stderr, where that is a terminal."""
    from tqdm import tqdm

    bars: dict[str, tqdm[Never]] = {}

    def show(key: str, moved: int, total: int | None) -> None:
        if key not in bars:
            # disable=None: only where somebody watches.
            name = key.rpartition("/")[2]
            bars[key] = tqdm(None, desc=name, total=total, unit="B", unit_scale=True, disable=None)
        bars[key].update(moved - bars[key].n)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()
