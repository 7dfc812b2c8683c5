"""Estimates how much memory a model needs on an engine, and reduces streams until it fits the free memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil

from detectors.card.onnx_file import external_data_of
from detectors.engines.port import EngineRequest
from detectors.errors import ModelLoadError

logger = logging.getLogger(__name__)

# Memory for the features of one tile, per pixel of the input: a few layers of some tens of channels at half and
# quarter size, in float32. A guess; large models need more, but their weights need much more than that.
ACTIVATION_BYTES_PER_PIXEL = 128
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_MIB = 1 << 20


def weights_bytes(path: Path) -> int:
    """Return the size of the ONNX file at ``path`` together with the separate files of its weights.

    Raises ModelLoadError when one of them is missing.
    """
    total = 0
    for part in (path, *(path.parent / name for name in external_data_of(path))):
        try:
            total += part.stat().st_size
        except OSError as error:
            raise ModelLoadError(
                f"{path} keeps weights in {part.name}, which cannot be read ({error.strerror}); put it in that folder"
            ) from error
    return total


def needed_bytes(request: EngineRequest, copies: Callable[[EngineRequest], float], weights: int) -> int:
    """Return about how many bytes ``request`` needs where the ``weights`` (bytes) are in memory ``copies`` times."""
    pixels = request.input.width * request.input.height
    tiles = (request.streams or request.threads) * max(1, request.batch)
    return int(copies(request) * weights) + tiles * pixels * ACTIVATION_BYTES_PER_PIXEL


def require_room(name: str, request: EngineRequest, copies: Callable[[EngineRequest], float]) -> None:
    """Raise ModelLoadError when the weights do not fit into the host's memory before engine ``name`` copies them.

    The features of tiles are in the GPU's memory, which the engine itself allocates.
    """
    needed, available = int(copies(request) * weights_bytes(request.path)), available_bytes()
    if needed > available:
        raise _too_large(name, request, needed, available)


def reduce_streams_to_fit(name: str, request: EngineRequest, copies: Callable[[EngineRequest], float]) -> EngineRequest:
    """Return ``request`` with as many streams as fit into memory on engine ``name``.

    Raises ModelLoadError when even one does not fit.
    """
    weights, available = weights_bytes(request.path), available_bytes()
    if needed_bytes(request, copies, weights) <= available:
        return request
    wanted = request.streams or request.threads
    for streams in range(wanted - 1, 0, -1):
        smaller = replace(request, streams=streams)
        if needed_bytes(smaller, copies, weights) <= available:
            logger.warning(
                "memory is short: engine %s runs %d instead of %d tiles in parallel",
                name,
                streams,
                wanted,
                extra={"way": name},
            )
            return smaller
    needed = needed_bytes(replace(request, streams=1), copies, weights)
    raise _too_large(name, request, needed, available)


def _too_large(name: str, request: EngineRequest, needed: int, available: int) -> ModelLoadError:
    return ModelLoadError(
        f"{request.path} is too large: engine {name} needs about {needed // _MIB:,} MiB for it, "
        f"{available // _MIB:,} MiB are free for this process; take a smaller model, a machine with more memory, "
        "or raise the container's limit"
    )


def available_bytes(root: Path = _CGROUPS, own: Path = _OWN_CGROUPS) -> int:
    """Return how many bytes this process may still use: the machine's free memory, or less in a control group.

    ``root``: the folder where control groups are mounted; ``own``: the file that lists those of this process.
    """
    return max(0, min([psutil.virtual_memory().available, *_left_in_groups(root, own)]))


def _left_in_groups(root: Path, own: Path) -> Iterator[int]:
    for folder, limit, usage, inactive in _groups(root, own):
        most, used = _number(folder / limit), _number(folder / usage)
        if most is not None and used is not None:
            # The page cache counts as used, but the kernel releases it when memory is needed.
            yield most - used + _cache(folder / "memory.stat", inactive)


def _groups(root: Path, own: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Yield each control group that may limit this process: its folder, and the names of limit, usage and cache."""
    try:
        lines = own.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            names, base = ("memory.max", "memory.current", "inactive_file"), root
        elif "memory" in controllers.split(","):
            names, base = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"), root / "memory"
        else:
            continue
        group = Path(path.lstrip("/"))
        # Inside a container the path is the host's and the container's own group is mounted as the root.
        for each in (group, *group.parents):
            yield base / each, *names


def _number(path: Path) -> int | None:
    """Return the number in ``path``; None without one ("max" means no limit)."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _cache(path: Path, key: str) -> int:
    try:
        fields = dict(line.split(" ", 1) for line in path.read_text(encoding="ascii").splitlines())
        return int(fields.get(key, 0))
    except (OSError, ValueError):
        return 0
