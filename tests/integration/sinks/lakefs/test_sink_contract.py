"""The archive keeps the sink contract, in a folder and in LakeFS."""

from __future__ import annotations

import pytest

from standgale.testing.sink import SinkContract
from tests.harnesses.archive import ArchiveHarness

pytestmark = pytest.mark.integration


class TestArchive(SinkContract):
    @pytest.fixture
    def harness(self, archive: ArchiveHarness) -> ArchiveHarness:
        return archive
