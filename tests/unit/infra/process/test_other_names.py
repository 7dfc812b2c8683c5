"""Settings that variables of other systems give, too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from infra.errors import SettingsError
from infra.process.settings_reference import markdown_table
from infra.process.settings_sources import read_settings
from infra.sections import AlsoNamed, Port, Section
from standgale.settings import Settings


class StoreSettings(Section):
    kind: Literal["folder", "http"] = "folder"
    port: Annotated[Port, AlsoNamed("OTHER_PORT")] = Field(default=1, description="where it listens")
    address: Annotated[str, AlsoNamed("LOADER", only_with=("kind", "http"))] = "none"


class Everything(Section):
    store: StoreSettings = StoreSettings()


def read(environ: Mapping[str, str], config: Path | None = None) -> StoreSettings:
    return read_settings(Everything, environ=environ, config=config, overrides={}).store


@pytest.mark.parametrize(
    ("environ", "port"),
    [
        ({}, 2),
        ({"OTHER_PORT": "3"}, 3),
        ({"OTHER_PORT": ""}, 2),
        ({"OTHER_PORT": "3", "STANDGALE_STORE__PORT": "4"}, 4),
    ],
)
def test_another_name_comes_between_the_own_variable_and_the_file(
    tmp_path: Path, environ: Mapping[str, str], port: int
) -> None:
    """C-S3-030."""
    config = tmp_path / "standgale.yaml"
    config.write_text("store:\n  port: 2\n")
    assert read(environ, config).port == port


def test_another_name_counts_only_with_the_value_that_gives_it_its_meaning(tmp_path: Path) -> None:
    config = tmp_path / "standgale.yaml"
    config.write_text("store: {kind: http}\n")
    assert read({"LOADER": "a"}).address == "none"
    assert read({"LOADER": "a", "STANDGALE_STORE__KIND": "http"}).address == "a"
    assert read({"LOADER": "a"}, config).address == "a"
    assert read({"LOADER": "a", "STANDGALE_STORE__KIND": "folder"}, config).address == "none"


def test_an_error_names_the_variable_that_is_wrong() -> None:
    with pytest.raises(SettingsError, match=r"store\.port \(OTHER_PORT\): received 'x'"):
        read({"OTHER_PORT": "x"})


def test_the_table_of_settings_names_it() -> None:
    assert "where it listens; also given by OTHER_PORT |" in markdown_table(Everything)
    assert "also given by LOADER where kind is http" in markdown_table(Everything)


def test_the_addresses_of_annotations_and_of_the_loader_have_their_names_of_old() -> None:
    """C-S3-030."""
    environ = {"ANNOTATIONS_URL": "http://a:1/", "LOADER_URL": "http://l:2", "STANDGALE_MODELS__KIND": "http"}
    found = read_settings(Settings, environ=environ, config=None, overrides={})
    assert (found.media.annotations_url, found.models.endpoint_url) == ("http://a:1", "http://l:2")
    assert found.media.sends_annotations
    assert not Settings().media.sends_annotations
    environ = {"LOADER_URL": "http://l:2", "STANDGALE_MODELS__KIND": "s3"}
    s3 = read_settings(Settings, environ=environ, config=None, overrides={})
    assert s3.models.endpoint_url is None
