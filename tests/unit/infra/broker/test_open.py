"""Tests opening the broker of the settings."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from infra.broker.embedded.adapter import EmbeddedBroker
from infra.broker.open import open_broker
from infra.broker.settings import BrokerSettings
from infra.errors import SettingsError


def test_embedded_is_the_default(tmp_path: Path) -> None:
    assert isinstance(open_broker(BrokerSettings(), tmp_path, {}), EmbeddedBroker)
    assert list(tmp_path.iterdir()) == []


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("infra.broker.kafka")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiokafka", None)
    with pytest.raises(SettingsError, match="install the extra kafka of standgale"):
        open_broker(BrokerSettings(kind="kafka"), tmp_path, {})
