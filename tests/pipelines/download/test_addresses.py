"""Which addresses are public."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from pipelines.download.addresses import allowed_hosts, checked_addresses, is_public
from schemas.errors import TalksetError

PUBLIC = ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
PRIVATE = [
    *("127.0.0.1", "127.1.2.3", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_not_public(address: str) -> None:
    assert not is_public(address)


def test_only_public_addresses_of_a_name_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(*args: Any, **kwargs: Any) -> list[Any]:
        return [(0, 0, 0, "", (address, 80)) for address in ("10.0.0.1", "8.8.8.8", "8.8.8.8")]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    assert checked_addresses("a.test", 80, frozenset()) == ["8.8.8.8"]
    assert checked_addresses("A.test", 80, allowed_hosts("b.test, a.test")) == ["10.0.0.1", "8.8.8.8"]


def test_a_host_is_allowed_by_its_name_alone() -> None:
    assert checked_addresses("[::1]", 80, allowed_hosts("[::1]")) == ["::1"]
    with pytest.raises(TalksetError, match="not public"):
        checked_addresses("localhost", 80, allowed_hosts("localhost.evil.test"))
