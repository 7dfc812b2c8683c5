"""The verb `dataset` on a real database: from a query to files, and refusals without traces."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.process.run_until_signal import run_until_signal
from infra.storage.frames.folder import FolderFrameStore
from schemas.errors import StandgaleError
from standgale.cli import app
from tests.harnesses.datasets import DatasetSite
from tests.servers.lakefs import ACCESS_KEY, SECRET_KEY, LakeFsServer

pytestmark = pytest.mark.integration


def run(environment: Mapping[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(app, ["dataset", *arguments], env=environment)


@pytest.fixture
def environment(migrated_dsn: str, tmp_path: Path) -> Mapping[str, str]:
    """An installation with six detected pictures."""

    async def fill() -> None:
        database = Database.open(DatabaseSettings(url=SecretStr(migrated_dsn)), tmp_path)
        frames = FolderFrameStore(tmp_path / "frames")
        site = DatasetSite(database, frames)
        for day in range(3):
            await site.add("cam-1", [("bird", 0.9), ("kite", 0.4)], day=day)
            await site.add("cam-2", [], day=day)
        await frames.close()
        await database.close()

    run_until_signal(fill())
    return {"STANDGALE_DATA_DIR": str(tmp_path), "STANDGALE_DATABASE__URL": migrated_dsn, "COLUMNS": "200"}


def test_dataset_is_made_shown_exported_compared_and_deleted(environment: Mapping[str, str], tmp_path: Path) -> None:
    dry = run(environment, "create", "v1.0", "--where", "label = bird or boxes = 0", "--dry-run", "--json")
    assert orjson.loads(dry.stdout)["pictures"] == 6
    assert "no data sets" in run(environment, "list").output
    made = run(environment, "create", "v1.0", "--where", "label = bird or boxes = 0")
    assert "data set v1.0 made" in made.output
    assert (tmp_path / "datasets" / "v1.0" / "data.yaml").is_file()
    assert "is there already" in run(environment, "create", "v1.0", "--where", "label = bird or boxes = 0").output
    both = run(environment, "create", "v2.0", "--device", "cam-1", "--min-confidence", "0.3", "--since", "2026-05-02")
    assert both.exception is None
    (first, second) = orjson.loads(run(environment, "list", "--json").stdout)["datasets"]
    assert (first["pictures"], first["boxes"], second["pictures"], second["boxes"]) == (6, 3, 2, 4)
    assert second["where"] == "device in ('cam-1') and confidence >= 0.300000 and time >= '2026-05-02'"
    assert "kite" in run(environment, "show", "v2.0").output
    export = run(environment, "export", "v1.0", str(tmp_path / "out"), "--format", "yolo", "--json")
    assert orjson.loads(export.stdout)["downloaded"] == 14
    compared = run(environment, "diff", "v1.0", "v2.0", "--json")
    assert compared.exit_code == 1
    assert orjson.loads(compared.stdout)["boxes"]["added"] == {"kite": 2}
    assert run(environment, "diff", "v1.0", "v1.0").exit_code == 0
    (tmp_path / "datasets" / "v1.0" / "dataset.json").write_text("{}")
    listed = run(environment, "list").output
    assert "v1.0 is damaged" in listed
    assert "v2.0" in listed
    assert getattr(run(environment, "delete", "none").exception, "code", None) == "DATASET_NOT_FOUND", "it does not ask"
    asked = CliRunner().invoke(app, ["dataset", "delete", "v1.0"], env=environment, input="n\n")
    assert "Delete the data set v1.0?" in asked.output
    assert "data set v1.0 deleted" in run(environment, "delete", "v1.0", "--yes").output
    assert [path.name for path in (tmp_path / "datasets").iterdir() if path.name[0] != "."] == ["v2.0"]


def test_dataset_in_lakefs_is_a_branch_and_a_tag(environment: Mapping[str, str], tmp_path: Path) -> None:
    # C-S1-073
    with LakeFsServer(tmp_path / "lakefs") as server:
        lakefs = {
            "STANDGALE_LAKEFS__KIND": "lakefs",
            "STANDGALE_LAKEFS__ENDPOINT_URL": server.url,
            "STANDGALE_LAKEFS__ACCESS_KEY": ACCESS_KEY,
            "STANDGALE_LAKEFS__SECRET_KEY": SECRET_KEY,
        }
        made = run({**environment, **lakefs}, "create", "v1.0", "--label", "bird")
        assert "lakefs://bird-detection/dataset-v1_0/" in made.output
        repository = server.repositories["bird-detection"]
        assert repository.tags == {"dataset-v1.0": repository.branches["dataset-v1_0"].head}
        exported = run({**environment, **lakefs}, "export", "v1.0", str(tmp_path / "out"))
        assert "of data set v1.0 are in" in exported.output
        wrong = run({**environment, **lakefs, "STANDGALE_LAKEFS__ENDPOINT_URL": f"{server.url}/ui"}, "list")
        assert "STANDGALE_LAKEFS__ENDPOINT_URL" in str(wrong.exception)
        assert isinstance(wrong.exception, StandgaleError)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("create", "a/b", "--where", "width > 0"), "INVALID_DATASET_NAME"),
        (("create", "../x", "--where", "width > 0"), "INVALID_DATASET_NAME"),
        (("create", "birds", "--where", "SELECT * FROM images"), "INVALID_QUERY"),
        (("create", "birds", "--where", "label = bird) or (label = x", "--device", "cam-1"), "INVALID_QUERY"),
        (("create", "birds"), "INVALID_SETTING"),
        (("create", "birds", "--since", "yesterday"), "INVALID_QUERY"),
        (("create", "birds", "--label", "bird", "--split", "1.5"), "INVALID_DATASET_OPTION"),
        (("create", "birds", "--label", "bird", "--format", "csv"), "INVALID_DATASET_OPTION"),
        (("show", "birds"), "DATASET_NOT_FOUND"),
        (("show", "/etc"), "INVALID_DATASET_NAME"),
        (("delete", "birds", "--yes"), "DATASET_NOT_FOUND"),
        (("diff", "birds", "birds"), "DATASET_NOT_FOUND"),
    ],
)
def test_wrong_arguments_are_refused_and_make_nothing(arguments: tuple[str, ...], code: str, tmp_path: Path) -> None:
    unreachable = "postgresql://nobody:none@127.0.0.1:9/none"
    environment = {"STANDGALE_DATA_DIR": str(tmp_path), "STANDGALE_DATABASE__URL": unreachable}
    done = run(environment, *arguments)
    assert isinstance(done.exception, StandgaleError)
    assert done.exception.code == code
    if "--since" in arguments:
        assert "--since is 'yesterday'; it takes a date" in str(done.exception)
    assert not list(tmp_path.glob("datasets/[a-z]*"))
