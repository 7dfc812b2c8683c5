"""Starts the command line: `standgale` and ``python -m standgale`` call :func:`main`.

From its first line on, Ctrl-C and SIGTERM end the process quietly, and any terminal takes its output.
"""

from __future__ import annotations

# Built into Python, while `signal` takes milliseconds to load: from here on Ctrl-C shows no traceback.
import _signal  # type: ignore[import-not-found]  # typeshed leaves it out

if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

from infra.process.ending import end_at_signals
from infra.process.terminal import flush_streams, prepare_streams


def main() -> None:
    """Run the command line."""
    end_at_signals()
    prepare_streams()

    # Takes a tenth of a second; a signal during it must end the process without a traceback, too.
    from standgale.cli import main as run  # noqa: PLC0415

    try:
        run()
    finally:
        flush_streams()
