"""Finds the model that ships without a model store, as jobs for detectors do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from detectors.card.card import default_card_path, read_card
from detectors.errors import ModelLoadError
from standgale.inference.checkpoint import card_of
from standgale.settings import Settings

# Models of the store come from no storage of a job.
NO_STORAGE = cast(Any, None)


async def test_the_model_that_ships_need_not_be_in_the_store(tmp_path: Path) -> None:
    own = read_card(default_card_path())
    settings = Settings(data_dir=tmp_path)
    assert await card_of(f"model:{own.name}@{own.version}", NO_STORAGE, settings) == default_card_path()
    with pytest.raises(ModelLoadError, match="standgale model push"):
        await card_of(f"model:{own.name}@9.9.9", NO_STORAGE, settings)
