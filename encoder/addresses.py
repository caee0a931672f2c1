"""Which network addresses pictures may come from: the guard against server-side request forgery (OWASP SSRF Prevention Cheat Sheet)."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import TypeAlias

from pixtail.core.errors import PictureError, Reason

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# IPv6 forms that carry an IPv4 address: a gateway would lead on to it.
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE = ipaddress.IPv6Network("::/96")


def is_public(address: Address) -> bool:
    """True for an address of the open internet; false for private, loopback, link-local, reserved and multicast ones.

    An IPv6 address that carries an IPv4 address is only as public as that.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if any(address in network for network in (*_NAT64, _COMPATIBLE)):
            return False
        carried = [a for a in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())) if a is not None]
        if carried:
            return all(is_public(inner) for inner in carried)
    return address.is_global and not (address.is_multicast or address.is_reserved)


def resolve(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The addresses of `host`, each of them allowed. Connect to one of these, never to the name again: it may answer differently.

    Raises `PictureError`: `unreachable` if the name does not resolve, `forbidden_address` if any answer is not public.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise PictureError(Reason.UNREACHABLE, f"the host name {host} does not resolve") from error
    addresses = list(dict.fromkeys(str(answer[4][0]) for answer in found))
    if not allow_private:
        require_public(host, addresses)
    return addresses


def require_public(host: str, addresses: Iterable[str]) -> None:
    """Raises `PictureError` (`forbidden_address`) unless all of them are public: one bad answer among good ones is an attack."""
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])  # fe80::1%eth0
        if not is_public(address):
            raise PictureError(
                Reason.FORBIDDEN_ADDRESS,
                f"the host {host} leads to the address {text}, which is not public",
                "Set pictures.allow_private if that is meant",
            )
