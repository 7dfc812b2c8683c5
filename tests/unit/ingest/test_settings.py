"""The settings of the gateway have the seed's limits, and refuse values that contradict each other."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ingest.settings import GatewaySettings


def test_defaults_are_the_limits_of_the_seed() -> None:
    """C-S1-013, C-S1-014, C-S1-030 and C-S1-099."""
    settings = GatewaySettings()
    assert (settings.batch_enabled, settings.max_batch_images, settings.batch_timeout_s) == (True, 50, 300.0)
    assert settings.answer_timeout_s == 10.0


def test_batch_larger_than_all_waiting_places_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"max_batch_images.*received 50.*max_waiting.*which is 20"):
        GatewaySettings(max_waiting=20)
    GatewaySettings(max_waiting=20, batch_enabled=False)


def test_sides_of_an_image_must_fit() -> None:
    with pytest.raises(ValidationError, match="min_side_px"):
        GatewaySettings(min_side_px=500, max_side_px=400)


def test_addresses_of_uploads_are_valid_for_a_week_at_most() -> None:
    GatewaySettings(original_upload_s=604_800)
    with pytest.raises(ValidationError, match="original_upload_s"):
        GatewaySettings(original_upload_s=604_801)
