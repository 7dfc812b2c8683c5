"""Wrong settings of web-hooks are named before anything starts."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from sinks.webhooks.settings import WebhookSettings


def test_a_wrong_network_is_refused_with_its_setting() -> None:
    text = r"webhooks\.networks \(STANDGALE_WEBHOOKS__NETWORKS\): received '10\.0\.7'"
    with pytest.raises(ValidationError, match=text):
        WebhookSettings(networks=("10.0.7.0/24", "10.0.7"))
