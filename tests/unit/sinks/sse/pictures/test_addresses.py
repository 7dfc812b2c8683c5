"""Addresses of pictures: signed, valid for a time, and in events instead of those of the server."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest

from infra.encryption.box import SecretBox
from schemas.events import ImageRef
from sinks.sse.pictures.addresses import IMAGES_PATH, PictureAddressError, PictureAddresses
from standgale.testing.factories import detections_made, image_ref

ONE, TWO = SecretBox([bytes(32)]), SecretBox([bytes([1]) * 32])
IMAGE: ImageRef = image_ref(b"picture", uri="file:///home/ops/frames/ab/picture.jpg")


def parts_of(address: str) -> tuple[str, dict[str, str]]:
    split = urlsplit(address)
    assert split.path.startswith(IMAGES_PATH + "/")
    return split.path.rpartition("/")[2], dict(parse_qsl(split.query))


def test_of_is_checked_by_every_server_with_the_key() -> None:
    name, query = parts_of(PictureAddresses(ONE).of(IMAGE))
    for box in (ONE, SecretBox([bytes([1]) * 32, bytes(32)])):
        found = PictureAddresses(box).check(name, query)
        assert (found.sha256, found.media_type) == (IMAGE.sha256, "image/jpeg")
    with pytest.raises(PictureAddressError, match="STANDGALE_ENCRYPTION__KEYS"):
        PictureAddresses(TWO).check(name, query)
    with pytest.raises(PictureAddressError, match="signature"):
        PictureAddresses().check(name, query)


def test_of_is_equal_for_an_hour_and_ends_after_the_lifetime() -> None:
    now = 1_000_000.0
    addresses = PictureAddresses(ONE, lifetime_s=600, clock=lambda: now)
    first = addresses.of(IMAGE)
    now += 60
    assert addresses.of(IMAGE) == first
    name, query = parts_of(first)
    now = int(query["until"]) - 1
    assert addresses.check(name, query)
    assert now - 1_000_000 >= 600
    now += 2
    with pytest.raises(PictureAddressError, match=r"sse\.image_lifetime_s"):
        addresses.check(name, query)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (None, {"until": "99999999999"}),
        (None, {"until": "-1"}),
        (None, {"until": "٣"}),
        (None, {"signature": ""}),
        (None, {"signature": "\udcff"}),
        ("0" * 64 + ".jpg", {}),
        ("../../etc/passwd", {}),
        ("0" * 64 + ".exe", {}),
    ],
)
def test_check_refuses_what_was_changed(name: str | None, changes: dict[str, str]) -> None:
    addresses = PictureAddresses(ONE)
    given, query = parts_of(addresses.of(IMAGE))
    with pytest.raises(PictureAddressError):
        addresses.check(name or given, query | changes)


@pytest.mark.parametrize("style", ["as published", "with spaces", "uri last", "twice"])
def test_put_into_leaves_no_address_of_the_server(style: str) -> None:
    made = detections_made(labels=("car",), image=IMAGE, metadata={"note": "file"})
    document = orjson.loads(made.to_bytes())
    data = made.to_bytes()
    if style == "with spaces":
        data = orjson.dumps(document, option=orjson.OPT_INDENT_2)
    elif style == "uri last":
        document["image"]["uri"] = document["image"].pop("uri")
        data = orjson.dumps(document)
    elif style == "twice":
        document["metadata"] = {"image": dict(document["image"])}
        data = orjson.dumps(document)
    addresses = PictureAddresses(ONE)
    found = orjson.loads(addresses.put_into(data, made.image))
    assert found["image"]["uri"] == addresses.of(IMAGE)
    # What the device itself has sent stays.
    assert found["metadata"] == document["metadata"]
    document["image"]["uri"] = found["image"]["uri"]
    assert found == document
