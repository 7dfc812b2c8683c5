"""Cuts live clients off; they continue after their last event, perhaps at another server."""

from __future__ import annotations

from dataclasses import dataclass

from tests.campaign.clients import LiveClient
from tests.campaign.faults.kind import Kind


@dataclass
class ClientCut:
    """Closes the connection in the middle; later the client continues at ``url``."""

    client: LiveClient
    url: str

    @property
    def name(self) -> str:
        return f"cut off {self.client.name}"

    async def start(self) -> None:
        await self.client.disconnect()

    async def end(self) -> None:
        self.client.connect(self.url)


def kinds(clients: list[LiveClient], urls: list[str]) -> list[Kind]:
    """Return the only kind."""
    by_name = {client.name: client for client in clients}
    return [
        Kind(
            "client_cut_off",
            tuple(by_name),
            (0.0, 3.0),
            lambda target, rng: ClientCut(by_name[target], rng.choice(urls)),
            2.0,
        )
    ]
