"""Names of data sets, their branches and tags, and paths of their files."""

from __future__ import annotations

import re

import pytest

from console.datasets.errors import DatasetDamagedError, DatasetNameError
from console.datasets.names import (
    branch_of,
    name_of_branch,
    name_of_unfinished,
    require_name,
    require_path,
    tag_of,
    unfinished_branch,
)


@pytest.mark.parametrize("name", ["v1.0", "birds", "a", "Birds-2026.05", "a" * 64])
def test_names_become_branches_and_back(name: str) -> None:
    # C-S1-073
    assert require_name(name) == name
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", branch_of(name)), "what LakeFS takes for a branch"
    assert name_of_branch(branch_of(name)) == name
    assert name_of_unfinished(unfinished_branch(name, "0123456789abcdef" * 4)) == name
    assert name_of_branch(unfinished_branch(name, "0123456789abcdef" * 4)) is None


def test_tag_of_seed_is_dataset_v1_0() -> None:
    # C-S1-073
    assert tag_of("v1.0") == "dataset-v1.0"


@pytest.mark.parametrize(
    "name", ["", "a/b", "../x", "a..b", ".a", "a.", "-a", "a_b", "a b", "ä", "a\n", "a\0", "a" * 65, "/etc"]
)
def test_require_name_refuses_what_is_no_folder_branch_and_tag(name: str) -> None:
    with pytest.raises(DatasetNameError, match="no slashes"):
        require_name(name)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../b", "a//b", "", ".", ".hidden", "a\\b", "a/" * 9 + "b"])
def test_require_path_refuses_paths_that_leave_the_folder(path: str) -> None:
    with pytest.raises(DatasetDamagedError):
        require_path(path)


@pytest.mark.parametrize("branch", ["dataset-", "dataset-a__b", "main", "datasets", f"dataset-{'a' * 65}"])
def test_name_of_branch_returns_none_for_other_branches(branch: str) -> None:
    assert name_of_branch(branch) is None
