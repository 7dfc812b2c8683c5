"""Logs on stderr: one JSON object (or one line of text) per event, with bound ids, and never a secret."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

import orjson
from opentelemetry import trace
from pydantic import SecretStr

from infra.telemetry.settings import TelemetrySettings
from schemas.timestamps import format_utc

MASK = "**********"
# A shorter "secret" would mask half of every line, and protects nothing.
_SHORTEST_SECRET = 4
_LONGEST_TEXT = 16_384
_DEPTH = 6
_REPEAT_EVERY_S = 10.0
# Some messages are put together before they are logged, so that each is a kind of its own.
_MOST_KINDS = 1000
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}

_context: ContextVar[Mapping[str, str]] = ContextVar("log_context", default={})  # noqa: B039 (never changed in place)


class _Redactor:
    """Masks known secret values in any text; more may be added while the process runs."""

    def __init__(self) -> None:
        self._pattern: re.Pattern[str] | None = None
        self._secrets: frozenset[str] = frozenset()

    def know(self, secrets: Iterable[str]) -> None:
        """Mask these values, and no others, from now on."""
        self._secrets = frozenset(secrets)
        values = sorted({secret for secret in self._secrets if len(secret) >= _SHORTEST_SECRET}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, values))) if values else None

    def know_too(self, secrets: Iterable[str]) -> None:
        """Mask these values besides the others from now on."""
        both = self._secrets.union(secrets)
        if both != self._secrets:
            self.know(both)

    def __call__(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(MASK, text)


_redactor = _Redactor()


def redact(text: str) -> str:
    """``text`` with every known secret value masked (see :func:`configure_logging`)."""
    return _redactor(text)


def mask_too(secrets: Iterable[str]) -> None:
    """Mask ``secrets``, which became known after the start, besides those of :func:`configure_logging`."""
    _redactor.know_too(secrets)


@contextmanager
def bind(**ids: object) -> Iterator[None]:
    """Add ``ids`` (request_id, device_id, frame_id, job_id, …) to every log inside the block; None is left out."""
    given = {name: str(value) for name, value in ids.items() if value is not None}
    token = _context.set({**_context.get(), **given})
    try:
        yield
    finally:
        _context.reset(token)


def bound() -> Mapping[str, str]:
    """The ids bound here and now."""
    return _context.get()


class _JsonFormatter(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "timestamp": format_utc(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname,
            "logger": _logger_name(record),
            "service": self._service,
            "message": _text(record.getMessage())[:_LONGEST_TEXT],
        }
        line.update(_fields(record))
        if record.exc_info and record.exc_info[0] is not None:
            line["error_type"] = record.exc_info[0].__name__
            line["exception"] = _text(self.formatException(record.exc_info))[-_LONGEST_TEXT:]
        return orjson.dumps(line, option=orjson.OPT_NON_STR_KEYS).decode()


class _TextFormatter(logging.Formatter):
    """For people at a terminal: local clock, level, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        text = _text(record.getMessage())[:_LONGEST_TEXT]
        line = f"{clock} {record.levelname:<7} {_logger_name(record)}: {text}{fields}"
        if record.exc_info and record.exc_info[0] is not None:
            line += "\n" + _text(self.formatException(record.exc_info))
        return line


def _logger_name(record: logging.LogRecord) -> str:
    # uvicorn writes everything that is no access line to "uvicorn.error", error or not.
    return "uvicorn" if record.name == "uvicorn.error" else record.name


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """The bound ids, the trace, and what the caller gave as ``extra``, clean for JSON."""
    fields: dict[str, object] = {name: _text(value) for name, value in _context.get().items()}
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        fields["trace_id"] = trace.format_trace_id(span.trace_id)
    for name, value in vars(record).items():
        if name not in _STANDARD and not name.startswith("_"):
            fields[name] = _clean(value, _DEPTH)
    return fields


def _clean(value: object, depth: int) -> object:
    """``value`` as JSON can hold it, secrets masked at every depth."""
    if value is None or isinstance(value, bool | int | float):
        # orjson refuses integers beyond 64 bits; a log must not fail for one.
        return str(value) if isinstance(value, int) and abs(value) >= 1 << 63 else value
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, datetime) and value.tzinfo is not None:
        return format_utc(value)
    if depth > 0 and isinstance(value, Mapping):
        return {_text(str(key)): _clean(item, depth - 1) for key, item in value.items()}
    if depth > 0 and isinstance(value, list | tuple | set | frozenset):
        return [_clean(item, depth - 1) for item in value]
    return _text(str(value))[:_LONGEST_TEXT]


def _text(text: str) -> str:
    """``text`` without secrets, and without lone surrogates (odd file names), which are no UTF-8."""
    return redact(text).encode(errors="backslashreplace").decode()


class _FewRepeats(logging.Filter):
    """Lets each message of aiokafka through once in ``every_s``, and says how many like it were left out.

    While brokers are away each of its clients tells each try, megabytes a minute.
    """

    def __init__(self, every_s: float = _REPEAT_EVERY_S) -> None:
        super().__init__()
        self._every_s = every_s
        self._told: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] != "aiokafka":
            return True
        kind = record.name, record.levelno, str(record.msg)
        until, left_out = self._told.get(kind, (0.0, 0))
        now = time.monotonic()
        if now < until:
            self._told[kind] = until, left_out + 1
            return False
        if len(self._told) >= _MOST_KINDS:
            self._told.clear()
        self._told[kind] = now + self._every_s, 0
        if left_out:
            record.msg = f"{record.msg} (and {left_out} more like this)"
        return True


def _no_request_cut_off_at_the_end(record: logging.LogRecord) -> bool:
    """Leave out uvicorn's traceback of each request that it cut off because its time to drain was over.

    One line before it says how many there were.
    """
    cut_off = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not (record.name == "uvicorn.error" and cut_off)


def configure_logging(
    settings: TelemetrySettings, *, service: str, secrets: Iterable[str] = (), stream: TextIO | None = None
) -> None:
    """Send all logs of this process, uvicorn's and warnings too, to stderr in the chosen format; may be called again.

    ``secrets`` are values that must never appear (:func:`infra.secrets.secrets_of`).
    """
    _redactor.know(secrets)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(_FewRepeats())
    handler.addFilter(_no_request_cut_off_at_the_end)
    handler.setFormatter(_JsonFormatter(service) if settings.log_format == "json" else _TextFormatter())
    root = logging.getLogger()
    for former in list(root.handlers):
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    logging.captureWarnings(True)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
    # These tell about each start, request and reconnect at INFO; what matters of it is told by our own logs.
    for name in ("uvicorn", "aiokafka"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # The pool logs each failed try to have a spare connection with a traceback; the code that needs one logs why.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
