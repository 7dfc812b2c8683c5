"""Serves POST /api/v1/frames/known: which images are stored already, so that a device need not send them."""

from __future__ import annotations

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from infra.http_api.errors.api_errors import ValidationFailedError
from infra.http_api.request.body import BodyLimit, declared_length, read_body
from infra.telemetry.logs import bind
from ingest.acceptance.acceptance import Acceptance
from ingest.acceptance.device_token import token_of
from ingest.acceptance.fields import parse_digest
from ingest.gateway.request.uploads import Uploads, body_time_limit
from ingest.settings import GatewaySettings

# 64 digits, quotes, a comma, and space around them.
_BYTES_PER_DIGEST = 80
_BODY_BYTES = 1_024


class KnownEndpoint:
    """Is the endpoint as a plain ASGI app, so that the token is checked before the body is read."""

    def __init__(self, acceptance: Acceptance, uploads: Uploads, settings: GatewaySettings) -> None:
        self._acceptance = acceptance
        self._uploads = uploads
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; the error middleware turns errors into responses."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        device_id = self._acceptance.authenticate(token_of(headers))
        limit = BodyLimit(
            self._settings.max_known_digests * _BYTES_PER_DIGEST + _BODY_BYTES,
            "it follows from gateway.max_known_digests",
            details="Ask in several requests.",
        )
        with (
            bind(device_id=device_id),
            self._uploads.slots.reserve(declared_length(headers, limit), device_id) as slot,
        ):
            with slot.reading():
                body = await read_body(receive, limit, body_time_limit(self._settings), self._uploads.turns, device_id)
            known = await self._acceptance.known.find(self._digests(body))
        await Response(orjson.dumps({"known": known}), media_type="application/json")(scope, receive, send)

    def _digests(self, body: bytes) -> list[str]:
        """Return the digests in ``body``, each once."""
        try:
            digests = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise ValidationFailedError(
                f"the body is not JSON: {error}", details='Send a list of digests, like ["9f86d0…", "a3f5…"].'
            ) from error
        if not isinstance(digests, list):
            raise ValidationFailedError('the body must be a JSON list of digests (SHA-256), like ["9f86d0…"]')
        most = self._settings.max_known_digests
        if len(digests) > most:
            raise ValidationFailedError(
                f"the list has {len(digests)} digests; at most {most} are accepted (gateway.max_known_digests)",
                details="Ask in several requests.",
            )
        return [parse_digest(each, f"[{place}]") for place, each in enumerate(dict.fromkeys(map(_text, digests)))]


def _text(value: object) -> str:
    """Return ``value`` as text: what is no text is no digest either, and is shown in the error."""
    return value if isinstance(value, str) else repr(value)[:80]
