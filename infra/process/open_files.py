"""Raises the process's limit of open files to what its parts need, and reports when it cannot be raised enough."""

from __future__ import annotations

import logging
import resource

logger = logging.getLogger(__name__)

# Log, database, broker, store and model files, and the connections that the process opens itself.
_OWN_FILES = 512
# A service without clients has about 30 open; PostgreSQL needs 58 to start, besides those it inherits.
_NEEDED = 128
_reserved: dict[str, int] = {}


def why_too_few_open_files() -> str | None:
    """Return why a service or an embedded server cannot start with this process's limit of open files, or None.

    The soft limit is raised first, as far as the hard limit allows.
    """
    limit = _raise_to(_NEEDED)
    if limit >= _NEEDED:
        return None
    return (
        f"this process may open {limit} files (ulimit -n) and needs at least {_NEEDED}; raise the hard limit of open "
        "files (ulimit -Hn, LimitNOFILE= of systemd, ulimits: nofile: of Compose)"
    )


def reserve_open_files(name: str, count: int) -> int:
    """Make room for ``count`` connections of the server ``name``; return how many it may hold.

    The soft limit is raised as far as the hard limit allows. When that is too low, a warning names the limit and what
    to do, and the server gets its share of what there is.
    """
    _reserved[name] = count
    wanted = sum(_reserved.values()) + _OWN_FILES
    soft = _raise_to(wanted)
    if soft >= wanted:
        return count
    available = max(1, (soft - min(_OWN_FILES, soft // 2)) * count // sum(_reserved.values()))
    logger.warning(
        "%s may hold %d connections instead of %d: this process may open %d files, and needs %d; "
        "raise the hard limit of open files (ulimit -Hn, LimitNOFILE= of systemd) or lower http.max_connections",
        name,
        available,
        count,
        soft,
        wanted,
    )
    return available


def release_open_files(name: str) -> None:
    """Give up the reservation of the server ``name``."""
    _reserved.pop(name, None)


def _raise_to(wanted: int) -> int:
    """Raise the soft limit to ``wanted``, or as far as the hard limit allows; return what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else soft
