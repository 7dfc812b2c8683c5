"""Settings of the sink for Annotations: those that do not fit together are refused, with both names."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sinks.annotations.settings import AnnotationsSettings


def test_pictures_of_all_posts_at_once_must_fit_into_memory() -> None:
    with pytest.raises(ValidationError, match=r"annotations\.concurrency and .*1,280,000,000"):
        AnnotationsSettings(concurrency=128)
    assert AnnotationsSettings(concurrency=128, image=False).concurrency == 128


def test_the_short_time_is_at_most_the_long_one() -> None:
    with pytest.raises(ValidationError, match=r"annotations\.retry_s.*annotations\.give_up_s"):
        AnnotationsSettings(retry_s=10, give_up_s=5)
