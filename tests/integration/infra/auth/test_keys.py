"""API keys are tokens of their own kind: a device token opens no console, and a key no gateway."""

from __future__ import annotations

import pytest

from infra.auth.kinds import API_KEYS, ClientError
from infra.auth.tokens import ApiKeys, DeviceTokens
from infra.auth.verifier import TokenVerifier
from infra.database.pool import Database

pytestmark = pytest.mark.integration


async def test_keys_and_device_tokens_are_strangers_to_each_other(database: Database) -> None:
    key, token = await ApiKeys(database).add("desktop"), await DeviceTokens(database).add("desktop")
    keys, tokens = (TokenVerifier(database, refresh_s=1.0, kind=API_KEYS), TokenVerifier(database, refresh_s=1.0))
    await keys.refresh()
    await tokens.refresh()
    assert (key[:4], token[:4]) == ("sgk_", "stg_")
    found = keys.verify(key)
    assert found is not None
    assert found.holder_id == "desktop"
    assert keys.verify(token) is None
    assert tokens.verify(key) is None
    # Not even when the secrets were swapped into the other form.
    assert keys.verify(token.replace("stg_", "sgk_")) is None


async def test_a_revoked_key_ends_and_the_client_stays(database: Database) -> None:
    keys = ApiKeys(database)
    first = await keys.add("desktop")
    with pytest.raises(ClientError, match="standgale key rotate desktop"):
        await keys.add("desktop")
    second = await keys.rotate("desktop")
    assert await keys.revoke("desktop", first.split("_")[1]) == 1
    verifier = TokenVerifier(database, refresh_s=1.0, kind=API_KEYS)
    await verifier.refresh()
    assert (verifier.verify(first), verifier.verify(second) is None) == (None, False)
    with pytest.raises(ClientError, match="standgale key add tablet"):
        await keys.rotate("tablet")
