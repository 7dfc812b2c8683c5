"""Writes logs to stderr: one JSON object or one line of text per event, with ids, and with secrets masked."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import time
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

import orjson
from pydantic import SecretStr

from infra.telemetry.settings import TelemetrySettings
from schemas.timestamps import format_utc

MASK = "**********"
# A shorter "secret" would mask half of every line, and would protect nothing.
_SHORTEST_SECRET = 4
_LONGEST_TEXT = 16_384
# More than this is cut off before secrets are masked; a secret is shorter than the difference.
_LONGEST_RAW_TEXT = 2 * _LONGEST_TEXT
_DEPTH = 6
_REPEAT_EVERY_S = 10.0
# Some messages are formatted before they are logged, so that each text counts as another kind.
_MOST_KINDS = 1000
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}

# Also those that turn the direction of text, and the separators of lines and paragraphs.
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]")

_context: ContextVar[Mapping[str, str]] = ContextVar("log_context", default={})  # noqa: B039 (never changed in place)


class _Redactor:
    """Masks known secret values in any text; more may be added while the process runs."""

    def __init__(self) -> None:
        self._pattern: re.Pattern[str] | None = None
        self._secrets: frozenset[str] = frozenset()

    def set_secrets(self, secrets: Iterable[str]) -> None:
        """Mask these values from now on, and no others."""
        self._secrets = frozenset(secrets)
        values = sorted({secret for secret in self._secrets if len(secret) >= _SHORTEST_SECRET}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, values))) if values else None

    def add_secrets(self, secrets: Iterable[str]) -> None:
        """Mask these values too from now on."""
        both = self._secrets.union(secrets)
        if both != self._secrets:
            self.set_secrets(both)

    def __call__(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(MASK, text)


_redactor = _Redactor()


def redact(text: str) -> str:
    """Return ``text`` with every known secret value masked (see :func:`configure_logging`)."""
    return _redactor(text)


def add_secrets_to_mask(secrets: Iterable[str]) -> None:
    """Mask ``secrets`` that became known after the start, in addition to those of :func:`configure_logging`."""
    _redactor.add_secrets(secrets)


class bind:  # noqa: N801 (used as a function: a generator would cost each request twice as much)
    """Adds ``ids`` (request_id, device_id, frame_id, job_id, …) to every log inside the block; None is left out."""

    __slots__ = ("_ids", "_token")

    def __init__(self, **ids: object) -> None:
        self._ids = {name: str(value) for name, value in ids.items() if value is not None}

    def __enter__(self) -> None:
        self._token = _context.set({**_context.get(), **self._ids})

    def __exit__(self, *error: object) -> None:
        _context.reset(self._token)


def current_ids() -> Mapping[str, str]:
    """Return the ids that logs carry here and now."""
    return _context.get()


class _JsonFormatter(logging.Formatter):
    """Writes one JSON object per event, for log collectors."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "timestamp": format_utc(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname,
            "logger": _logger_name(record),
            "service": self._service,
            "message": _text(record.getMessage()),
        }
        line.update(_fields(record))
        if record.exc_info and record.exc_info[0] is not None:
            line["error_type"] = record.exc_info[0].__name__
            line["exception"] = _text(self.formatException(record.exc_info)[-_LONGEST_TEXT:])
        return orjson.dumps(line, option=orjson.OPT_NON_STR_KEYS).decode()


class _TextFormatter(logging.Formatter):
    """Writes one line per event for people at a terminal: local time, level, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        fields = _one_line("".join(f" {name}={value}" for name, value in _fields(record).items()))
        text = _one_line(_text(record.getMessage()))
        line = f"{clock} {record.levelname:<7} {_logger_name(record)}: {text}{fields}"
        if record.exc_info and record.exc_info[0] is not None:
            # A traceback has several lines of its own; those of the error's text cannot be told from them.
            line += "\n" + "\n".join(map(_one_line, _text(self.formatException(record.exc_info)).split("\n")))
        return line


def _logger_name(record: logging.LogRecord) -> str:
    # uvicorn writes all but access lines to "uvicorn.error", errors or not.
    return "uvicorn" if record.name == "uvicorn.error" else record.name


def _fields(record: logging.LogRecord) -> dict[str, object]:
    """Return the ids, the trace, and the ``extra`` of the caller, made ready for JSON."""
    fields: dict[str, object] = {name: _text(value) for name, value in _context.get().items()}
    # Without the extra server it is not installed; a process that has not imported it has no span either.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None:
        span = trace.get_current_span().get_span_context()
        if span.is_valid:
            fields["trace_id"] = trace.format_trace_id(span.trace_id)
    for name, value in vars(record).items():
        if name not in _STANDARD and not name.startswith("_"):
            fields[name] = _clean(value, _DEPTH)
    return fields


def _clean(value: object, depth: int) -> object:
    """Return ``value`` as types that JSON has, with secrets masked at every depth."""
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
    return _text(str(value))


def _text(text: str) -> str:
    """Return ``text`` cut, without secrets, and without lone surrogates (from odd file names), which UTF-8 has not."""
    return redact(text[:_LONGEST_RAW_TEXT]).encode(errors="backslashreplace").decode()[:_LONGEST_TEXT]


def _one_line(text: str) -> str:
    """Return ``text`` with control characters written out, so that no client can forge lines or steer a terminal."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class _RepeatFilter(logging.Filter):
    """Lets each message of aiokafka through once in ``every_s``, with the number of those that were left out.

    While brokers are unavailable, each of its clients logs each attempt: megabytes a minute.
    """

    def __init__(self, every_s: float = _REPEAT_EVERY_S) -> None:
        super().__init__()
        self._every_s = every_s
        self._shown: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] != "aiokafka":
            return True
        kind = record.name, record.levelno, str(record.msg)
        until, left_out = self._shown.get(kind, (0.0, 0))
        now = time.monotonic()
        if now < until:
            self._shown[kind] = until, left_out + 1
            return False
        if len(self._shown) >= _MOST_KINDS:
            self._shown.clear()
        self._shown[kind] = now + self._every_s, 0
        if left_out:
            record.msg = f"{record.msg} (and {left_out} more like this)"
        return True


def _is_not_cut_off_request(record: logging.LogRecord) -> bool:
    """Return False for uvicorn's traceback of a request that it cancelled because the time to drain was over.

    uvicorn logs in one line before how many there were.
    """
    # It is False, and not None, in records such as those of uvloop, which logs with exc_info=False.
    cut_off = isinstance(record.exc_info, tuple) and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not (record.name == "uvicorn.error" and cut_off)


class _StreamHandler(logging.StreamHandler[TextIO]):
    """Drops lines that cannot be written, because the reader of a pipe has gone or the disk is full.

    The service goes on without them; logging's own way is a traceback for each line.
    """

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def configure_logging(
    settings: TelemetrySettings, *, service: str, secrets: Iterable[str] = (), stream: TextIO | None = None
) -> None:
    """Write all logs of this process, with uvicorn's and warnings, to stderr in the chosen format; may be called again.

    ``secrets`` are values that no log may show (:func:`infra.secrets.secrets_of`).
    """
    _redactor.set_secrets(secrets)
    handler = _StreamHandler(stream or sys.stderr)
    handler.addFilter(_RepeatFilter())
    handler.addFilter(_is_not_cut_off_request)
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
    # These log each start, request, reconnect and migration at INFO; our logs already have what matters of it.
    for name in ("uvicorn", "aiokafka", "alembic"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    # The pool logs a traceback for each spare connection that fails; the code that needs one logs the reason.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
