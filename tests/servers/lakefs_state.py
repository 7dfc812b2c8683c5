"""Keeps the repositories of the LakeFS double: entries, staged and committed, branches, tags and commits."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """Is one object of a branch or commit; where its bytes are is no part of its identity."""

    size: int
    checksum: str
    content_type: str
    metadata: tuple[tuple[str, str], ...]
    address: str = field(compare=False)
    mtime: int = field(compare=False, default=1)


@dataclass(frozen=True)
class Commit:
    """Is one commit with all of its objects."""

    id: str
    parent: str | None
    message: str
    metadata: dict[str, str]
    objects: dict[str, Entry]
    created: int


@dataclass
class Branch:
    """Is a branch: its last commit, and what is staged on it; None marks an object that was removed."""

    head: str
    staged: dict[str, Entry | None] = field(default_factory=dict)
    protected: bool = False
    committing: bool = False


class Repository:
    """Holds a repository's branches, commits and tags."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.namespace = f"s3://lakefs-data/{name}"
        first = Commit(_commit_id(name, 0), None, "Repository created", {}, {}, int(time.time()))
        self.commits = {first.id: first}
        self.branches = {"main": Branch(first.id)}
        self.tags: dict[str, str] = {}
        """The commit id of each tag."""
        self.empty_commits = 0
        """How many commits were asked for with nothing staged; each leaves something behind in a real server."""

    @property
    def messages(self) -> list[str]:
        """The messages of the commits of ``main`` after the first, the oldest first."""
        return [commit.message for commit in self.log("main")][::-1][1:]

    @property
    def head(self) -> Commit:
        """The last commit of ``main``."""
        return self.commits[self.branches["main"].head]

    def commit_of(self, ref: str) -> Commit | None:
        """Return the commit of a branch (with or without @), tag or commit id."""
        name = ref.removesuffix("@")
        branch = self.branches.get(name)
        return self.commits.get(branch.head if branch else self.tags.get(name, name))

    def at(self, ref: str) -> dict[str, Entry] | None:
        """Return the objects of ``ref``; those of a branch include what is staged."""
        commit = self.commit_of(ref)
        if commit is None:
            return None
        objects = dict(commit.objects)
        for path, entry in self.branches[ref].staged.items() if ref in self.branches else ():
            if entry is None:
                objects.pop(path, None)
            else:
                objects[path] = entry
        return objects

    def changes(self, branch: str) -> dict[str, Entry | None]:
        """Return what is staged and differs from the last commit, by path."""
        committed = self.commits[self.branches[branch].head].objects
        return {path: new for path, new in self.branches[branch].staged.items() if committed.get(path) != new}

    def commit(self, name: str, message: str, metadata: dict[str, str]) -> Commit | None:
        """Commit what differs; None when nothing does. What has the same identity keeps its old bytes."""
        branch, changes = self.branches[name], self.changes(name)
        branch.staged.clear()
        if not changes:
            return None
        objects = dict(self.commits[branch.head].objects)
        for path, entry in changes.items():
            if entry is None:
                objects.pop(path, None)
            else:
                objects[path] = entry
        number = _commit_id(f"{self.name}{branch.head}{message}", len(self.commits))
        made = Commit(number, branch.head, message, metadata, objects, int(time.time()))
        self.commits[made.id] = made
        branch.head = made.id
        return made

    def log(self, ref: str) -> list[Commit]:
        """Return the commits of ``ref``, the newest first."""
        found, commit = [], self.commit_of(ref)
        while commit is not None:
            found.append(commit)
            commit = self.commits[commit.parent] if commit.parent else None
        return found


def _commit_id(seed: str, number: int) -> str:
    return hashlib.sha256(f"{seed}/{number}".encode()).hexdigest()
