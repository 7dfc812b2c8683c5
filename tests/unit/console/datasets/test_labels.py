"""``data.yaml`` has the keys that programs which train need, also where a split is empty."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import yaml

from console.datasets.labels import yolo_document


@pytest.mark.parametrize(
    ("splits", "train", "val"),
    [
        (("train", "val", "test"), "images/train", "images/val"),
        (("train",), "images/train", "images/train"),
        (("val", "test"), "images/val", "images/val"),
    ],
)
def test_yolo_document_always_has_train_and_val(splits: Sequence[str], train: str, val: str) -> None:
    document = yaml.safe_load(yolo_document(splits, ["bird"]).data)
    assert (document["train"], document["val"], document["names"]) == (train, val, {0: "bird"})
    assert ("test" in document) == ("test" in splits)
