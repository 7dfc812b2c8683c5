"""What may be asked of a medium."""

from __future__ import annotations

import pytest

from console.http.errors import InvalidConfigError
from console.media.config import read_request
from console.media.settings import MediaSettings


def test_an_empty_request_asks_for_nothing_special() -> None:
    """C-S3-004, C-S3-005."""
    for text in ("", b"", "{}"):
        asked = read_request(text)
        assert (asked.source, asked.options.model_dump(exclude_none=True), asked.sampling.mode) == (None, {}, "every")


def test_options_and_sampling_are_kept_as_they_were_asked() -> None:
    asked = read_request(
        '{"options": {"confidence": 0.5, "scales": [1, 0.5]}, "sampling": {"mode": "rate", "per_second": 2.5}}'
    )
    again = read_request(asked.config.model_dump_json(exclude_none=True))
    assert again.config == asked.config
    assert (again.options.scales, again.sampling.selection().per_second) == ((1.0, 0.5), 2.5)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"options": {"confidence": "0.5"}}', "options.confidence"),
        ('{"options": {"confidence": 2}}', "options.confidence"),
        ('{"options": {"unknown": 1}}', "options.unknown"),
        ('{"sampling": {"every": 0}}', "sampling.every"),
        ('{"sampling": {"mode": "all"}}', "sampling.mode"),
        ('{"model": {"name": "x"}}', "model.version"),
        ('{"source": "ftp://example.org/a"}', "source"),
        ('{"source": "http://"}', "source"),
        ('{"source": "http://a b/"}', "source"),
        ('{"source": "http://user:hush@example.org/"}', "source"),
        ('{"source": "http://example.org:99999/"}', "source"),
        ('{"options": {"prompt": "a\\u0000b"}}', "options.prompt"),
        ('{"model": {"name": "a\\u0000b", "version": "1"}}', "model.name"),
        ("[]", "body"),
        ("{", "body"),
        ("{" + " " * 30_000 + "}", "config"),
    ],
)
def test_wrong_requests_name_their_field(text: str, field: str) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        read_request(text)
    assert caught.value.field == field
    assert "hush" not in str(caught.value)


def test_settings_of_media_are_checked() -> None:
    """C-S3-009, C-S3-030."""
    assert (MediaSettings().max_at_once, MediaSettings().annotations_url) == (2, "http://annotations:8080")
    for wrong in ({"networks": ("nowhere",)}, {"annotations_url": "annotations"}, {"max_at_once": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            MediaSettings(**wrong)
