"""Grants rights to users of a test broker and revokes them; needs the packages of the extra "kafka"."""

from __future__ import annotations

from enum import IntEnum
from types import TracebackType
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

_ALLOW = 3
_ANY_HOST = "*"


class Resource(IntEnum):
    """Lists the kinds of resources that a right can be for, by Kafka's numbers."""

    TOPIC = 2
    GROUP = 3
    CLUSTER = 4
    TRANSACTIONAL_ID = 5


class Operation(IntEnum):
    """Lists the operations that a right allows, by Kafka's numbers."""

    ALL = 2
    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12


class Pattern(IntEnum):
    """Says how a resource's name is compared."""

    LITERAL = 3
    """The whole name; ``*`` alone means every name."""
    PREFIXED = 4
    """The start of names."""


class Acls:
    """Changes the access list of the broker at ``bootstrap_servers`` as its super user. An async context manager.

    The broker applies a change within milliseconds, not at once: tests wait for the effect.
    """

    def __init__(self, bootstrap_servers: str) -> None:
        self._client = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)

    async def allow(
        self, user: str, operation: Operation, resource: Resource, name: str, pattern: Pattern = Pattern.LITERAL
    ) -> None:
        """Grant ``user`` the right to do ``operation``."""
        request = CreateAclsRequest(resource, name, pattern, f"User:{user}", _ANY_HOST, operation, _ALLOW)
        reply = await self._client._send_request(request)
        _check(reply.creation_responses)

    async def revoke(
        self, user: str, operation: Operation, resource: Resource, name: str, pattern: Pattern = Pattern.LITERAL
    ) -> int:
        """Revoke a right that was granted with the same arguments; return the number of revoked rights."""
        request = DeleteAclsRequest(resource, name, pattern, f"User:{user}", _ANY_HOST, operation, _ALLOW)
        reply = await self._client._send_request(request)
        _check([(code, text) for code, text, _ in reply.filter_responses])
        return sum(len(matching) for _, _, matching in reply.filter_responses)

    async def __aenter__(self) -> Self:
        await self._client.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()


def _check(responses: list[tuple[int, str | None]]) -> None:
    for code, text in responses:
        if code:
            raise for_code(code)(text)
