"""Live clients are cut off, and go on where they were, perhaps at another server."""

from __future__ import annotations

from dataclasses import dataclass

from tests.campaign.clients import LiveClient
from tests.campaign.faults.kind import Kind


@dataclass
class CutOff:
    """The connection is closed in the middle; later the client goes on at ``url``."""

    client: LiveClient
    url: str

    @property
    def name(self) -> str:
        return f"cut off {self.client.name}"

    async def strike(self) -> None:
        await self.client.leave()

    async def heal(self) -> None:
        self.client.follow(self.url)


def kinds(clients: list[LiveClient], urls: list[str]) -> list[Kind]:
    """The one kind."""
    by_name = {client.name: client for client in clients}
    return [
        Kind(
            "client_cut_off",
            tuple(by_name),
            (0.0, 3.0),
            lambda target, rng: CutOff(by_name[target], rng.choice(urls)),
            2.0,
        )
    ]
