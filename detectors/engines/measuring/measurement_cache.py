"""Keeps measurements in files, one per model, machine and request."""

from __future__ import annotations

import fcntl
import glob
import json
import logging
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from detectors.engines.measuring.measurements import EngineMeasurements
from detectors.engines.port import EngineRequest
from detectors.engines.registry import EngineEntry
from detectors.settings import EngineKind

logger = logging.getLogger(__name__)

# Raise it when the way of measuring, or of comparing outputs, changes.
_FORMAT = 4
_DIGITS = 16
_CPUINFO = Path("/proc/cpuinfo")
# The abilities that decide how fast, and in which precision, a CPU computes.
_FLAGS = {
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
}
_FLAGS_ARM = {"asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2"}


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    key: dict[str, str | int | list[str]]
    measurements: EngineMeasurements


@dataclass(frozen=True, slots=True)
class MeasurementCache:
    """Loads and saves measurements in ``folder``, which need not exist; without a folder it keeps nothing."""

    folder: Path | None

    def load(self, key: MachineKey) -> EngineMeasurements | None:
        """Return the measurements for ``key``, or None. A damaged file, or one of another key, counts as none."""
        path = self._path(key)
        if path is None:
            return None
        try:
            found = _File.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            logger.warning("earlier measurements cannot be read and are made again: %s: %s", path, error)
            return None
        if found.key != key.fields:
            logger.warning("earlier measurements are of another model or machine, and are made again: %s", path)
            return None
        return found.measurements

    def load_from_other_version(self, key: MachineKey) -> EngineMeasurements | None:
        """Return the newest measurements for another version of the model, all else being equal; or None."""
        if self.folder is None:
            return None
        found: list[tuple[float, EngineMeasurements]] = []
        # The whole digest is matched, because one model's name may be the beginning of another's.
        for path in self.folder.glob(f"{glob.escape(key.model)}-{'[0-9a-f]' * _DIGITS}.json"):
            with suppress(OSError, ValidationError):
                file = _File.model_validate_json(path.read_bytes())
                if {**file.key, "model": ""} == {**key.fields, "model": ""}:
                    found.append((path.stat().st_mtime, file.measurements))
        return max(found, key=lambda one: one[0])[1] if found else None

    def save(self, key: MachineKey, measurements: EngineMeasurements) -> None:
        """Save ``measurements`` for ``key``; when that fails, the next load measures again."""
        path = self._path(key)
        if path is None:
            return
        data = _File(key=key.fields, measurements=measurements).model_dump_json(indent=2).encode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(path, data)
        except OSError as error:
            logger.warning("measurements cannot be saved and will be made again: %s: %s", path, error)

    @contextmanager
    def measuring_lock(self) -> Iterator[None]:
        """Hold the lock for measuring, because parallel measurements disturb each other.

        Waits for all other processes that measure with the same folder.
        """
        with ExitStack() as stack:
            if self.folder is not None:
                try:
                    self.folder.mkdir(parents=True, exist_ok=True)
                    lock = stack.enter_context((self.folder / ".measuring").open("wb"))
                    fcntl.flock(lock, fcntl.LOCK_EX)
                except OSError as error:
                    logger.warning(
                        "measuring without a lock, so others may measure, too: %s: %s",
                        self.folder,
                        error,
                    )
            yield

    def _path(self, key: MachineKey) -> Path | None:
        return None if self.folder is None else self.folder / f"{key.name}.json"


@dataclass(frozen=True, slots=True)
class MachineKey:
    """Identifies a model, a request and a machine; measurements are valid for one key only."""

    model: str
    """The model's name."""
    name: str
    """The name of the key's file."""
    fields: dict[str, str | int | list[str]]

    @classmethod
    def of(
        cls,
        model: str,
        sha256_of_file: str,
        kind: EngineKind,
        request: EngineRequest,
        usable: Iterable[EngineEntry],
        confidence: float = 0.0,
    ) -> MachineKey:
        """Return the key of the model named ``model`` for ``request`` on ``kind``, with the engines ``usable``.

        ``confidence``: the one from which boxes of precisions are compared.
        """
        processor, flags = processor_of(_CPUINFO)
        fields: dict[str, str | int | list[str]] = {
            "format": _FORMAT,
            "model": sha256_of_file,
            "input": f"{request.input.width}x{request.input.height}",
            "engine": kind,
            "precision": request.precision,
            "confidence": f"{confidence:g}",
            "threads": request.threads,
            "processor": processor,
            "flags": flags,
            "engines": [f"{entry.name}: {entry.identity()}" for entry in usable],
        }
        digest = sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
        return cls(model, f"{model}-{digest[:_DIGITS]}", fields)


def processor_of(cpuinfo: Path) -> tuple[str, list[str]]:
    """Return the processor's name and its relevant abilities, from ``cpuinfo`` where the system has one."""
    name, flags = platform.processor() or platform.machine(), ""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return name, []
    for line in lines:
        field, _, value = line.partition(":")
        if field.strip() == "model name":
            name = value.strip()
        elif field.strip() in ("flags", "Features"):
            flags = value
        elif not line.strip():
            break  # The first processor has been read; the others are equal.
    return name, sorted((_FLAGS | _FLAGS_ARM) & set(flags.split()))


def _write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` so that a reader of ``path`` finds all of it, or the former content."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
