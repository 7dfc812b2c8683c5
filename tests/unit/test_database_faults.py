"""Which fault of PostgreSQL means what, what error texts may tell of an address, and a missing extra."""

from __future__ import annotations

import sys
from pathlib import Path

import asyncpg
import pytest

from infra.database.faults import RowRefusedError, translated
from infra.database.pool import Database, address
from infra.errors import DatabaseUnavailableError, SettingsError
from infra.settings import DatabaseSettings
from schemas.errors import WindhoverError


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (asyncpg.AdminShutdownError, DatabaseUnavailableError),
        (asyncpg.CrashShutdownError, DatabaseUnavailableError),
        (asyncpg.CannotConnectNowError, DatabaseUnavailableError),
        (asyncpg.TooManyConnectionsError, DatabaseUnavailableError),
        (asyncpg.DiskFullError, DatabaseUnavailableError),
        (asyncpg.ConnectionDoesNotExistError, DatabaseUnavailableError),
        (asyncpg.DeadlockDetectedError, DatabaseUnavailableError),
        (asyncpg.ReadOnlySQLTransactionError, DatabaseUnavailableError),
        (asyncpg.UndefinedTableError, DatabaseUnavailableError),
        (asyncpg.InvalidCachedStatementError, DatabaseUnavailableError),
        (ConnectionRefusedError, DatabaseUnavailableError),
        (TimeoutError, DatabaseUnavailableError),
        (asyncpg.InvalidPasswordError, SettingsError),
        (asyncpg.InvalidCatalogNameError, SettingsError),
        (asyncpg.InsufficientPrivilegeError, SettingsError),
        (asyncpg.CheckViolationError, RowRefusedError),
        (asyncpg.StringDataRightTruncationError, RowRefusedError),
        (asyncpg.UntranslatableCharacterError, RowRefusedError),
        (asyncpg.DataError, RowRefusedError),
        (asyncpg.PostgresSyntaxError, type(None)),
        (asyncpg.InterfaceError, type(None)),
        (KeyError, type(None)),
    ],
)
def test_each_fault_has_its_meaning(error: type[Exception], meaning: type[WindhoverError] | type[None]) -> None:
    assert type(translated(error("it says so"), "host/db")) is meaning


def test_an_address_tells_no_user_and_no_password() -> None:
    assert address("postgresql://user:hush@host:5433/db?sslmode=require") == "host:5433/db"
    assert address("postgres://user:hush@/db?host=/run/pg") == "/run/pg/db"
    assert address("postgresql://user@/db") == "localhost/db"


@pytest.mark.parametrize(
    "dsn", ["", "db", "mysql://u:hush@h/db", "postgresql://u:hush@h", "postgresql://u:hush@h:x/db"]
)
def test_a_wrong_address_is_refused_unseen(dsn: str) -> None:
    with pytest.raises(SettingsError, match="WINDHOVER_DATABASE__URL") as caught:
        address(dsn)
    assert "hush" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_without_the_extra_only_an_embedded_server_is_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    for name in ("infra.database.embedded", "infra.database.cluster"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    Database.open(DatabaseSettings.model_validate({"url": "postgresql://user@host/db"}), tmp_path)
    with pytest.raises(SettingsError, match=r"windhover\[embedded\]"):
        Database.open(DatabaseSettings(), tmp_path)
