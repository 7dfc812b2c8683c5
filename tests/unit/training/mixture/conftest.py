"""Makes a small folder of photographs."""

import pytest

from tests.photograph_files import write_photographs
from training.photographs import Photographs, read_photographs


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    """Reads a folder with the sets town and port, and unlabelled sand."""
    folder = tmp_path_factory.mktemp("photographs")
    write_photographs(folder)
    return read_photographs(folder)
