"""Turns the address of a source into what is opened: with the login from its file, or a file in an allowed folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from infra.errors import SettingsError
from infra.regular_files import read_regular
from infra.secrets import secrets_in
from infra.telemetry.logs import add_secrets_to_mask
from ingest.sources.errors import SourceError
from ingest.video.options import NetworkAddress, parse_address

_MAX_LOGIN_BYTES = 4_096
_IS_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def split_login(address: str) -> tuple[str, str | None]:
    """Return ``address`` without user and password, and these as ``user:password``, not escaped; None without any.

    Raises SettingsError for an address that cannot be one of a video.
    """
    parsed = parse_address(address)
    if isinstance(parsed, Path) or parsed.user is None:
        return address, None
    parts = urlsplit(address)
    login, _, host = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    plain = f"{unquote(user)}{colon}{unquote(password)}"
    if not plain.isprintable():
        raise SettingsError("user and password of an address take no control characters, such as %0A")
    return urlunsplit(parts._replace(netloc=host)), plain


def shown(address: str) -> str:
    """Return ``address`` as people see it, without anything that may be secret."""
    return str(parse_address(address))


def full_address(name: str, address: str, *, has_login: bool, logins: Path, folders: Sequence[Path]) -> str:
    """Return what is opened for the source ``name``. Raises SourceError or SettingsError, without any secret."""
    parsed = parse_address(address)
    if isinstance(parsed, Path):
        return str(allowed_file(parsed, folders))
    if not has_login:
        return address
    login = _login(name, logins / name)
    whole = login if _IS_ADDRESS.match(login) else _with_login(address, login)
    add_secrets_to_mask(secrets_in(whole))
    if not isinstance(parse_address(whole), NetworkAddress):
        raise SourceError(f"source {name}: its login file {logins / name} holds an address of a file")
    return whole


def allowed_file(path: Path, folders: Sequence[Path]) -> Path:
    """Return the file at ``path``, links followed, in one of ``folders``. Raises SourceError for any other."""
    if not path.is_absolute():
        raise SourceError(f"{path}: a source's path begins with /, because other processes open it, too")
    found = path.resolve()
    if not any(found.is_relative_to(folder.resolve()) for folder in folders):
        allowed = ", ".join(map(str, folders)) or "none"
        raise SourceError(
            f"{path}: is in none of the folders whose files may be sources ({allowed}); move it there, or set "
            "sources.folders (STANDGALE_SOURCES__FOLDERS)"
        )
    return found


def _login(name: str, file: Path) -> str:
    try:
        text = read_regular(file, _MAX_LOGIN_BYTES).decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise SourceError(
            f"source {name}: its login cannot be read from {file} ({reason}); write user:password there on each "
            "machine "
            "that pulls sources, or set sources.logins (STANDGALE_SOURCES__LOGINS)"
        ) from None
    # A password may have spaces; without a colon, or in an address, they are a mistake.
    has_mistake = " " in text and (":" not in text or _IS_ADDRESS.match(text))
    if not text.strip() or not text.isprintable() or has_mistake:
        raise SourceError(f"source {name}: its login file {file} holds no user:password in one line, and no address")
    return text


def _with_login(address: str, login: str) -> str:
    user, colon, password = login.partition(":")
    parts = urlsplit(address)
    quoted = quote(user, safe="") + (f":{quote(password, safe='')}" if colon else "")
    return urlunsplit(parts._replace(netloc=f"{quoted}@{parts.netloc}"))
