"""Every package of the distribution publishes its types, and is in the distribution."""

from __future__ import annotations

import tomllib

from tests.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_every_package_has_a_py_typed_file() -> None:
    assert [name for name in PACKAGES if not (ROOT / name / "py.typed").is_file()] == []


def test_every_package_that_mypy_checks_strictly_is_in_the_wheel() -> None:
    assert set(PROJECT["tool"]["mypy"]["packages"]) - {"bench"} == set(PACKAGES)
