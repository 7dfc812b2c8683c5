"""Checks names of data sets and paths of their files, and makes the names of branches and tags from them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from console.datasets.errors import DatasetDamagedError, DatasetNameError
from infra.texts import shortened

MOST_CHARACTERS = 64
# Without "_" in it, so that a name's dots can become "_" in the name of a branch.
_NAME = re.compile(r"[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*")
_PREFIX = "dataset-"
_UNFINISHED = re.compile(r"unfinished-[0-9a-f]{16}-dataset-([A-Za-z0-9_-]+)")
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
BRANCH_PREFIX = _PREFIX
"""What the branch and the tag of each data set begin with."""
UNFINISHED_PREFIX = "unfinished-"


def require_name(name: str) -> str:
    """Return ``name`` if a data set may have it. Raises DatasetNameError."""
    if len(name) > MOST_CHARACTERS or not _NAME.fullmatch(name):
        raise DatasetNameError(
            f"{shortened(name, 100)!r} is no name of a data set: it takes 1 to {MOST_CHARACTERS} letters and digits, "
            "with single dots and hyphens between them, such as birds-v1.0; no slashes, because it becomes the name "
            "of a folder, a branch and a tag"
        )
    return name


def branch_of(name: str) -> str:
    """Return the branch of a data set: branches have no dots."""
    return _PREFIX + name.replace(".", "_")


def tag_of(name: str) -> str:
    """Return the tag of a data set."""
    return _PREFIX + name


def name_of_branch(branch: str) -> str | None:
    """Return the data set that has ``branch``; None when no data set can have it."""
    name = branch.removeprefix(_PREFIX).replace("_", ".")
    return name if branch.startswith(_PREFIX) and len(name) <= MOST_CHARACTERS and _NAME.fullmatch(name) else None


def unfinished_branch(name: str, selection: str) -> str:
    """Return the branch on which the data set is made; ``selection`` is the hash of what it is made from."""
    return f"{UNFINISHED_PREFIX}{selection[:16]}-{branch_of(name)}"


def name_of_unfinished(branch: str) -> str | None:
    """Return the data set that is made on ``branch``; None for another branch."""
    match = _UNFINISHED.fullmatch(branch)
    return None if match is None else name_of_branch(_PREFIX + match[1])


def require_path(path: str) -> str:
    """Return ``path`` if it stays in the folder of its data set. Raises DatasetDamagedError."""
    if not all(_PART.fullmatch(part) for part in path.split("/")) or len(PurePosixPath(path).parts) > 8:
        raise DatasetDamagedError(f"the data set lists a file {shortened(path)!r}, which no data set has")
    return path
