"""Which machines may be asked: only public ones, unless the configuration names them.

A manifest may come from anybody, and a server may redirect anywhere; neither may make a worker ask the cluster's own
machines (server-side request forgery). A name is resolved once, its addresses are judged, and the connection goes to
the address that was judged, so a name that changes in between gains nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from typing import Final

from schemas.errors import TalksetError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def allowed_hosts(text: str) -> frozenset[str]:
    """The hosts of `run.download.allow_hosts`."""
    return frozenset(name.strip().strip("[]").lower() for name in text.split(",") if name.strip())


def checked_addresses(host: str, port: int, allowed: Collection[str]) -> list[str]:
    """Addresses of a host that may be asked, in the resolver's order.

    Raises TalksetError: unavailable where the name cannot be resolved, unsafe_address where it has no public address.
    """
    name = host.strip("[]").lower()
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        message = f"the host {name!r} cannot be resolved ({error})"
        raise TalksetError("unavailable", message, "Check the address in the manifest and the network") from error
    addresses = list(dict.fromkeys(str(place[4][0]) for place in found))
    if name in allowed:
        return addresses
    public = [address for address in addresses if is_public(address)]
    if not public:
        message = f"the host {name!r} has the address {addresses[0]}, which is not public"
        remedy = f"If it is meant, set run.download.allow_hosts={name}"
        raise TalksetError("unsafe_address", message, remedy)
    return public


def is_public(address: str) -> bool:
    """Whether an address is one of the open Internet, also where it wraps an IPv4 address."""
    parsed: Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if parsed in _NAT64:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return parsed.is_global and not parsed.is_multicast
