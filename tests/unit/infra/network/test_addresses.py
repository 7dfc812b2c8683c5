"""Checks which addresses are refused, whatever a name gives, and that the checked address is the one connected to."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest

from infra.network.addresses import AddressRefusedError, AddressRules, allowed_addresses, connect

PLAIN = AddressRules(setting="video.networks")
PUBLIC = AddressRules((ip_network("10.0.7.0/24"),), "webhooks.networks", public_too=True)
ONLY = AddressRules((ip_network("192.168.7.0/24"), ip_network("127.0.0.0/8")))


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "127.8.9.1",
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "240.0.0.1",
        "192.0.0.192",
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::254",
        "2001:0:7f00:1::1",
    ],
)
def test_this_machine_and_link_local_addresses_are_refused(text: str) -> None:
    assert not PLAIN.allow(ip_address(text))


@pytest.mark.parametrize(
    "text", ["192.168.7.9", "10.1.2.3", "100.64.0.9", "8.8.8.8", "fd00::5", "2001:4860:4860::8888"]
)
def test_public_and_private_addresses_are_allowed(text: str) -> None:
    assert PLAIN.allow(ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        *("10.1.2.3", "127.0.0.1", "100.64.0.9", "169.254.169.254", "fd00::5", "fe80::1", "::1", "::ffff:10.1.2.3"),
        *("fec0::1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b:1::7f00:1", "3fff::1", "5f00::1", "2001:db8::1"),
    ],
)
def test_public_rules_refuse_private_addresses_in_each_form(text: str) -> None:
    assert not PUBLIC.allow(ip_address(text))


@pytest.mark.parametrize("text", ["8.8.8.8", "2001:4860:4860::8888", "64:ff9b::808:808", "10.0.7.5", "::ffff:10.0.7.5"])
def test_public_rules_allow_public_and_named_addresses(text: str) -> None:
    assert PUBLIC.allow(ip_address(text))


@pytest.mark.parametrize(("text", "allowed"), [("192.168.7.9", True), ("192.168.8.9", False), ("127.0.0.1", True)])
def test_given_networks_are_the_only_ones(text: str, allowed: bool) -> None:
    assert ONLY.allow(ip_address(text)) is allowed
    assert ONLY.allow(ip_address(f"::ffff:{text}")) is allowed


def test_a_name_with_one_refused_address_is_refused_whole() -> None:
    with pytest.raises(AddressRefusedError, match=r"camera\.test has the address 169\.254\.169\.254.*video\.networks"):
        allowed_addresses("camera.test", 80, PLAIN, lambda _host, _port: ["8.8.8.8", "169.254.169.254"])


@pytest.mark.parametrize(("rules", "warns"), [(PLAIN, True), (ONLY, False)])
def test_refusal_warns_that_the_setting_excludes_other_networks(rules: AddressRules, warns: bool) -> None:
    with pytest.raises(AddressRefusedError) as refused:
        allowed_addresses("169.254.169.254", 80, rules, lambda *_: ["169.254.169.254"])
    assert ("only these are allowed" in str(refused.value)) is warns


def test_a_host_is_looked_up_once_and_that_address_is_connected_to() -> None:
    answers = iter((["127.0.0.1"], ["169.254.169.254"]))
    asked: list[str] = []

    def lookup(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return next(answers)

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with connect("camera.test", port, ONLY, timeout_s=5, lookup=lookup) as found:
            assert found.getpeername() == ("127.0.0.1", port)
    assert asked == ["camera.test"]


def test_a_host_without_an_address_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="has no address"):
        allowed_addresses("nothing.test", 80, PLAIN, lambda _host, _port: [])
