"""Connections are counted by address, and those without a request make room for new ones."""

from __future__ import annotations

import pytest

from infra.process.http_connections import ConnectionTable, address_of


class One:
    def __init__(self, table: ConnectionTable, address: str, closed: list[One]) -> None:
        self.address = address
        self._closed = closed
        self.admitted = table.admit(self)

    def make_room(self) -> None:
        self._closed.append(self)


def test_the_address_with_most_connections_makes_room_when_the_table_is_full() -> None:
    table, closed = ConnectionTable("test-table", 6, 1.0), list[One]()
    few = One(table, "10.0.0.1", closed)
    many = [One(table, "10.0.0.2", closed) for _ in range(5)]
    table.set_busy(many[0])
    late = One(table, "10.0.0.3", closed)
    assert late.admitted
    assert closed == [many[1]]
    assert len(table) == 6
    for one in (few, late, *many[2:]):
        table.set_busy(one)
    assert not One(table, "10.0.0.4", closed).admitted
    table.set_idle(few)
    assert One(table, "10.0.0.4", closed).admitted
    assert closed == [many[1], few]


def test_a_connection_that_never_had_a_request_makes_room_before_an_idle_one() -> None:
    table, closed = ConnectionTable("test-table", 2, 1.0), list[One]()
    idle, new = One(table, "10.0.0.1", closed), One(table, "10.0.0.1", closed)
    table.set_busy(idle)
    table.set_idle(idle)
    assert One(table, "10.0.0.1", closed).admitted
    assert closed == [new]


def test_one_address_has_at_most_its_share() -> None:
    table, closed = ConnectionTable("test-table", 10, 0.5), list[One]()
    own = [One(table, "10.0.0.1", closed) for _ in range(5)]
    for one in own:
        table.set_busy(one)
    assert not One(table, "10.0.0.1", closed).admitted
    assert all(One(table, "10.0.0.2", closed).admitted for _ in range(5))
    table.remove(own[0])
    table.remove(own[0])
    assert len(table) == 9
    assert One(table, "10.0.0.1", closed).admitted
    assert closed == []


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("::ffff:192.0.2.7", 1), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 1), "fe80::/64"),
        (("client.sock", 0), "client.sock"),
        (None, ""),
    ],
)
def test_address_of_joins_the_addresses_of_an_ipv6_network(client: tuple[str, int] | None, address: str) -> None:
    assert address_of(client) == address
