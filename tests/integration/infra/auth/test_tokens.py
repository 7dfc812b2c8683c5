"""Checks device tokens on a real PostgreSQL: validity, storage, and use while the database is unavailable."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from infra.auth.kinds import DeviceError
from infra.auth.tokens import DeviceTokens
from infra.auth.verifier import TokenVerifier
from infra.database.embedded import EmbeddedPostgres
from infra.database.migrate import migrate_up
from infra.database.pool import Database
from infra.database.settings import DatabaseSettings
from infra.errors import DatabaseUnavailableError
from infra.failure.settings import RetrySettings
from infra.process.health import Health
from standgale.testing.waiting import until
from tests.servers.postgres_roles import role

pytestmark = pytest.mark.integration


@pytest.fixture
def tokens(database: Database) -> DeviceTokens:
    return DeviceTokens(database)


@pytest.fixture
def verifier(database: Database) -> TokenVerifier:
    return TokenVerifier(database, refresh_s=0.05)


async def device_of(verifier: TokenVerifier, token: str) -> str | None:
    await verifier.refresh()
    found = verifier.verify(token)
    return found.holder_id if found else None


async def test_token_authenticates_its_device_and_only_its_hash_is_stored(
    tokens: DeviceTokens, verifier: TokenVerifier, database: Database
) -> None:
    token = await tokens.add("drone-7", "The red one")
    assert await device_of(verifier, token) == "drone-7"
    (entry,) = await tokens.list()
    assert (entry.holder_id, entry.name, entry.valid) == ("drone-7", "The red one", True)
    assert token.startswith(f"stg_{entry.token_id}_")
    async with database.acquire() as connection:
        row = await connection.fetchrow("SELECT * FROM device_tokens")
    assert row is not None
    assert row["token_hash"] == hashlib.sha256(token.encode()).digest()
    secret = token.split("_", 2)[2]
    assert len(secret) >= 43
    assert secret not in repr(row) + repr(entry)


@pytest.mark.parametrize("change", ["", "x", " ", "{token}x", "{short}", "stg_{id}_", "stg_0000000000000000_{secret}"])
async def test_invalid_token_is_refused_by_token_verifier(
    tokens: DeviceTokens, verifier: TokenVerifier, change: str
) -> None:
    token = await tokens.add("drone-7")
    _, token_id, secret = token.split("_", 2)
    assert await device_of(verifier, change.format(token=token, short=token[:-1], id=token_id, secret=secret)) is None


async def test_two_tokens_are_valid_at_once_and_a_third_is_refused(
    tokens: DeviceTokens, verifier: TokenVerifier
) -> None:
    first = await tokens.add("drone-7")
    with pytest.raises(DeviceError, match="standgale device rotate drone-7"):
        await tokens.add("drone-7")
    second = await tokens.rotate("drone-7")
    assert [await device_of(verifier, token) for token in (first, second)] == ["drone-7", "drone-7"]
    oldest = first.split("_")[1]
    with pytest.raises(DeviceError, match=f"standgale device revoke drone-7 --token {oldest}$"):
        await tokens.rotate("drone-7")
    assert await tokens.revoke("drone-7", first.split("_")[1]) == 1
    assert [await device_of(verifier, token) for token in (first, second)] == [None, "drone-7"]
    third = await tokens.rotate("drone-7")
    assert await tokens.revoke("drone-7") == 2
    assert [await device_of(verifier, token) for token in (second, third)] == [None, None]
    assert await tokens.revoke("drone-7") == 0
    assert [entry.valid for entry in await tokens.list()] == [False, False, False]


async def test_rotations_at_once_never_make_three_valid_tokens(tokens: DeviceTokens) -> None:
    await tokens.add("drone-7")
    results = await asyncio.gather(*(tokens.rotate("drone-7") for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(result, str) for result in results) == 1
    assert sum(isinstance(result, DeviceError) for result in results) == 3
    assert sum(entry.valid for entry in await tokens.list()) == 2


async def test_an_overlap_ends_the_old_token_by_the_clock(tokens: DeviceTokens, verifier: TokenVerifier) -> None:
    first = await tokens.add("drone-7")
    second = await tokens.rotate("drone-7", overlap_s=0.5)
    assert await device_of(verifier, first) == "drone-7"
    # Not refreshed: what was read once must end by itself, also while the database is away.
    await until(lambda: verifier.verify(first) is None, timeout_s=20)
    assert await device_of(verifier, second) == "drone-7"
    assert [entry.valid for entry in await tokens.list()] == [False, True]
    with pytest.raises(DeviceError, match="zero or more"):
        await tokens.rotate("drone-7", overlap_s=-1)


async def test_a_new_token_is_found_before_the_next_list(tokens: DeviceTokens, database: Database) -> None:
    """Devices got 401 for some seconds with a token that was printed already."""
    verifier = TokenVerifier(database, refresh_s=3_600)
    await verifier.look_up("stg_0123456789abcdef_none")
    await verifier.refresh()
    token = await tokens.add("drone-7")
    assert verifier.verify(token) is None
    await verifier.look_up(token)
    found = verifier.verify(token)
    assert found is not None
    assert found.holder_id == "drone-7"
    # The public id alone opens nothing.
    forged = token[:-1] + ("A" if token[-1] != "A" else "B")
    await verifier.look_up(forged)
    assert verifier.verify(forged) is None
    await tokens.revoke("drone-7")
    await verifier.refresh()
    await verifier.look_up(token)
    assert verifier.verify(token) is None


async def test_a_list_that_was_begun_before_a_token_was_made_keeps_it(
    tokens: DeviceTokens, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an open connection, which is verified again and again, ends as if its token were revoked."""
    verifier = TokenVerifier(database, refresh_s=3_600)
    await verifier.refresh()
    made, acquire = asyncio.Event(), database.acquire

    @asynccontextmanager
    async def slow(**options: Any) -> AsyncIterator[Any]:
        async with acquire(**options) as connection:
            yield connection
            await made.wait()

    monkeypatch.setattr(database, "acquire", slow)
    refreshing = asyncio.create_task(verifier.refresh())
    await asyncio.sleep(0.3)
    monkeypatch.setattr(database, "acquire", acquire)
    token = await tokens.add("drone-7")
    await verifier.look_up(token)
    assert verifier.verify(token) is not None
    made.set()
    await refreshing
    assert verifier.verify(token) is not None


@pytest.mark.parametrize("device_id", ["", "-x", "a b", "a/b", "a\x00", "ä", "x" * 256, "drone\n"])
async def test_a_wrong_device_id_is_refused_by_every_command(tokens: DeviceTokens, device_id: str) -> None:
    for command in (tokens.add, tokens.rotate, tokens.revoke):
        with pytest.raises(DeviceError, match="is no device id"):
            await command(device_id)
    assert await tokens.list() == ()


async def test_unknown_devices_and_tokens_are_named(tokens: DeviceTokens) -> None:
    with pytest.raises(DeviceError, match="standgale device add drone-8"):
        await tokens.rotate("drone-8")
    with pytest.raises(DeviceError, match=r"there is no device drone-8; standgale device list shows all$"):
        await tokens.revoke("drone-8")
    await tokens.add("drone-7")
    with pytest.raises(DeviceError, match=r"'beef'; valid are: [0-9a-f]{16}"):
        await tokens.revoke("drone-7", "beef")
    with pytest.raises(DeviceError, match="255 characters"):
        await tokens.add("drone-8", "x" * 256)


async def test_token_verifier_keeps_last_list_while_database_is_unavailable(server_dir: Path) -> None:
    async with EmbeddedPostgres(server_dir) as server:
        await asyncio.to_thread(migrate_up, server.dsn)
        database = Database.open(DatabaseSettings(url=server.dsn), server_dir)
        tokens, health, stop = DeviceTokens(database), Health(), asyncio.Event()
        retry = RetrySettings(first_delay_s=0.05, max_delay_s=0.1)
        verifier = TokenVerifier(database, refresh_s=0.05, retry=retry)
        first = await tokens.add("drone-7")

        await server.stop()
        running = asyncio.create_task(verifier.run(stop, health.part(verifier.name)))
        await until(lambda: "not available" in (health.report().parts["tokens"].reason or ""))
        with pytest.raises(DatabaseUnavailableError, match="not be read"):
            verifier.verify(first)

        await server.start()
        await until(lambda: health.report().ready)
        assert verifier.verify(first) is not None

        await server.stop()
        await asyncio.sleep(0.3)
        assert verifier.verify(first) is not None
        assert health.report().ready

        await server.start()
        second = await tokens.rotate("drone-7")
        await until(lambda: verifier.verify(second) is not None)
        await tokens.revoke("drone-7")
        await until(lambda: verifier.verify(first) is None and verifier.verify(second) is None)
        stop.set()
        await asyncio.wait_for(running, 5)
        await database.close()


async def test_a_rotated_password_and_a_missing_table_leave_the_last_list_in_force(
    migrated_dsn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The gateway goes on with the tokens it knows, says why in health, and reads on by itself when it may again."""
    async with role(migrated_dsn, "first") as gateway:
        database = Database.open(DatabaseSettings(url=SecretStr(gateway.dsn("first"))), tmp_path)
        health, stop = Health(), asyncio.Event()
        verifier = TokenVerifier(database, refresh_s=0.05, retry=RetrySettings(first_delay_s=0.05, max_delay_s=0.1))
        token = await DeviceTokens(database).add("drone-7")
        running = asyncio.create_task(verifier.run(stop, health.part(verifier.name)))
        await until(lambda: health.report().ready)

        await gateway.rotate("second")
        await until(lambda: "tokens cannot be read" in (health.report().parts["tokens"].note or ""))
        assert verifier.verify(token) is not None
        assert health.report().ready
        assert not running.done()
        assert "first" not in caplog.text
        assert "second" not in caplog.text

        await gateway.rotate("first")
        await until(lambda: health.report().parts["tokens"].note is None)

        await gateway.execute("REVOKE SELECT ON device_tokens FROM {role}")
        await until(lambda: health.report().parts["tokens"].note is not None)
        assert (verifier.verify(token) is not None, health.report().ready) == (True, True)
        await gateway.execute("GRANT ALL ON device_tokens TO {role}")
        await until(lambda: health.report().parts["tokens"].note is None)

        stop.set()
        await asyncio.wait_for(running, 30)
        await database.close()


async def test_a_gateway_that_starts_with_a_wrong_password_waits_for_the_right_one(
    migrated_dsn: str, tmp_path: Path
) -> None:
    async with role(migrated_dsn, "first") as gateway:
        database = Database.open(DatabaseSettings(url=SecretStr(gateway.dsn("second"))), tmp_path)
        health, stop = Health(), asyncio.Event()
        verifier = TokenVerifier(database, refresh_s=0.05, retry=RetrySettings(first_delay_s=0.05, max_delay_s=0.1))
        running = asyncio.create_task(verifier.run(stop, health.part(verifier.name)))
        await until(lambda: "password" in (health.report().parts["tokens"].reason or ""))
        with pytest.raises(DatabaseUnavailableError):
            verifier.verify("stg_x_y")
        await gateway.rotate("second")
        await until(lambda: health.report().ready)
        stop.set()
        await asyncio.wait_for(running, 30)
        await database.close()


async def test_token_verifier_stops_quickly_while_the_database_hangs(migrated_dsn: str, tmp_path: Path) -> None:
    other = await asyncpg.connect(migrated_dsn)
    database = Database.open(DatabaseSettings(url=SecretStr(migrated_dsn)), tmp_path)
    await database.check()
    stop = asyncio.Event()
    async with other.transaction():
        await other.execute("LOCK TABLE device_tokens IN ACCESS EXCLUSIVE MODE")
        running = asyncio.create_task(TokenVerifier(database, refresh_s=0.05).run(stop, Health().part("tokens")))
        await until(lambda: other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
        stop.set()
        # database.command_timeout_s is 30.
        await asyncio.wait_for(running, 10)
        await asyncio.wait_for(database.close(), 15)
    await other.close()


async def test_an_unexpected_error_does_not_end_the_verifier(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(TokenVerifier):
        broken = True

        async def refresh(self) -> None:
            if self.broken:
                raise RuntimeError("a defect")
            await super().refresh()

    health, stop = Health(), asyncio.Event()
    verifier = Broken(database, refresh_s=0.05, retry=RetrySettings(first_delay_s=0.05, max_delay_s=0.1))
    running = asyncio.create_task(verifier.run(stop, health.part(verifier.name)))
    await until(lambda: "a defect" in (health.report().parts["tokens"].reason or ""))
    verifier.broken = False
    await until(lambda: health.report().ready)
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"] == [True]
    stop.set()
    await asyncio.wait_for(running, 30)


async def test_a_long_interval_between_two_readings_is_no_silence(database: Database) -> None:
    health, stop = Health(silence_s=0.3), asyncio.Event()
    verifier = TokenVerifier(database, refresh_s=3_600.0)
    running = asyncio.create_task(verifier.run(stop, health.part("tokens")))
    for _ in range(12):
        await asyncio.sleep(0.05)
        assert health.report().live
    stop.set()
    await asyncio.wait_for(running, 5)
