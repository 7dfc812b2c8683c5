"""The doctor looks up repository, key and branch of the archive in LakeFS, and leaves nothing there."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.errors import RefusedError
from standgale.doctor.archive import ArchiveCheck
from standgale.settings import Settings
from tests.servers.lakefs import ACCESS_KEY, SECRET_KEY, LakeFsServer

pytestmark = pytest.mark.integration


async def test_doctor_names_what_is_wrong_with_the_archive(tmp_path: Path) -> None:
    assert await ArchiveCheck(Settings()).look() == [], "a folder needs no check"
    with LakeFsServer(tmp_path / "lakefs") as server:

        def check(**changes: object) -> ArchiveCheck:
            keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
            fields = {"kind": "lakefs", "endpoint_url": server.url, **keys, **changes}
            return ArchiveCheck(Settings.model_validate({"lakefs": fields}))

        [found] = await check().look()
        assert "the branch main is there, and an object was written to it and removed" in found.what
        assert server.repositories["bird-detection"].changes("main") == {}
        [found] = await check(branch="experiment-yolo").look()
        assert "will be created from main" in found.what
        for change, words in (
            ({"repository": "elsewhere"}, "STANDGALE_LAKEFS__REPOSITORY"),
            ({"secret_key": "wrong"}, "STANDGALE_LAKEFS__SECRET_KEY"),
            ({"endpoint_url": f"{server.url}/ui"}, "STANDGALE_LAKEFS__ENDPOINT_URL"),
        ):
            with pytest.raises(RefusedError, match=words):
                await check(**change).look()
        server.repositories["bird-detection"].branches["main"].protected = True
        with pytest.raises(RefusedError, match="protected"):
            await check().look()
        assert list(server.repositories["bird-detection"].branches) == ["main"]
