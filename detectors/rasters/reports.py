"""Collects what GDAL reports about a file while it reads: some of what it calls a warning is missing picture data."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# Where the library logs what GDAL reports, in the thread that reads.
_LOGGER: Final = logging.getLogger("rasterio._err")
# The rest of such a block is grey.
_MISSING: Final = re.compile("JPEGLib:.*premature end.*", re.IGNORECASE)


class _Collector(logging.Filter):
    """Notes the messages of threads that collect, and lets a record pass as if it was not here."""

    def __init__(self) -> None:
        super().__init__()
        self.of_thread = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether ``record`` is logged."""
        collected: list[str] | None = getattr(self.of_thread, "collected", None)
        if collected is not None:
            collected.append(record.getMessage())
        return logging.getLogger().isEnabledFor(record.levelno)


_COLLECTOR: Final = _Collector()


@contextmanager
def collected_reports() -> Iterator[list[str]]:
    """Give a list of what GDAL reports to this thread from now on, whatever is logged; not to be nested."""
    _LOGGER.addFilter(_COLLECTOR)
    if not _LOGGER.isEnabledFor(logging.WARNING):
        # Only errors are logged; the filter gets the others all the same, and does not let them pass.
        _LOGGER.setLevel(logging.WARNING)
    _COLLECTOR.of_thread.collected = collected = list[str]()
    try:
        yield collected
    finally:
        _COLLECTOR.of_thread.collected = None


def missing_data(reports: list[str]) -> str | None:
    """Return what ``reports`` say about missing data of a block; None if nothing."""
    found = (_MISSING.search(report) for report in reports)
    return next((one.group() for one in found if one is not None), None)
