"""API keys are tokens of their own kind: a device token opens no console, and a key no gateway."""

from __future__ import annotations

import pytest

from infra.auth.kinds import API_KEYS, ClientError
from infra.auth.scopes import DeviceScope, ScopeError
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


async def test_devices_of_a_client_reach_the_verifier(database: Database) -> None:
    keys, verifier = ApiKeys(database), TokenVerifier(database, refresh_s=1.0, kind=API_KEYS)
    guest, desk = await keys.add_for("guest", ["mast-1", "drone-*"]), await keys.add("desk")
    await verifier.refresh()
    found, free = verifier.verify(guest), verifier.verify(desk)
    assert found is not None
    assert found.scope == DeviceScope.of(["drone-*", "mast-1"])
    assert free is not None
    assert free.scope is None
    assert verifier.holder_of(found.token_id) == found
    assert verifier.holder_of("0" * 16) is None
    await keys.set_devices("guest", ["mast-2"])
    await verifier.refresh()
    changed = verifier.holder_of(found.token_id)
    assert changed is not None
    assert changed.scope == DeviceScope.of(["mast-2"])
    assert [each.devices for each in await keys.list() if each.holder_id == "guest"] == [["mast-2"]]
    await keys.set_devices("guest", None)
    await keys.revoke("desk")
    await verifier.refresh()
    again = verifier.holder_of(found.token_id)
    assert again is not None
    assert again.scope is None
    assert verifier.holder_of(free.token_id) is None
    with pytest.raises(ScopeError, match="drone-"):
        await keys.set_devices("guest", ["a b"])
    with pytest.raises(ClientError, match="standgale key add nobody"):
        await keys.set_devices("nobody", ["mast-1"])
