"""Shows how much of a long measurement is done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm


@contextmanager
def progress_bar(total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a bar, and yield what gets the number of units done."""
    with tqdm(total=total, unit=unit) as bar:

        def show(done: int) -> None:
            bar.update(done - bar.n)

        yield show
