"""Checks how sources are shared out over processes."""

from __future__ import annotations

import pytest

from ingest.sources.errors import SourceError
from ingest.sources.table import require_names, share_of


@pytest.mark.parametrize(
    ("sources", "shares"), [(0, [0, 0, 0]), (1, [1, 0, 0]), (4, [2, 1, 1]), (6, [2, 2, 2]), (8, [3, 3, 2])]
)
def test_shares_differ_by_one_at_most_and_are_all_sources(sources: int, shares: list[int]) -> None:
    pullers = ["a", "b", "c"]
    assert [share_of(puller, pullers, sources) for puller in pullers] == shares


def test_a_process_that_did_not_join_has_no_share() -> None:
    assert share_of("d", ["a"], 5) == 0


@pytest.mark.parametrize("name", ["", "../gate", "a/b", ".gate", "gate\n", "x" * 101])
def test_names_that_could_be_paths_are_refused(name: str) -> None:
    with pytest.raises(SourceError, match="letters, digits, dots"):
        require_names(name, "cam")
