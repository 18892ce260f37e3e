"""Which addresses sources may be read from over HTTP.

The address is checked when a socket to it is made, so redirects cannot avoid the check, nor can
names that resolve differently the second time.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from trellic_serve.errors import Forbidden


def check(address: str, *, private: bool, loopback: bool) -> None:
    """Refuse an address that no source may have.

    Parameters
    ----------
    address : IPv4 or IPv6
    private, loopback : allow such addresses; other addresses are allowed only if they are global

    Raises
    ------
    Forbidden
    """
    found: ipaddress.IPv4Address | ipaddress.IPv6Address
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    found = mapped or found
    if found.is_loopback:
        allowed = loopback
    elif found.is_link_local or found.is_multicast or found.is_unspecified:
        allowed = False  # cloud providers keep credentials on link-local addresses
    else:
        allowed = found.is_global or private
    if not allowed:
        raise Forbidden("a source at an address that is not public", remedy="use another source")


async def client(*, private: bool, loopback: bool, seconds: float, **options: Any) -> Any:
    """Make the HTTP client of fsspec, which connects only to allowed addresses.

    Parameters
    ----------
    private, loopback : as of `check`
    seconds : that a source may take
    options : fsspec's own
    """
    import aiohttp

    def make(info: Any) -> socket.socket:
        family, kind, protocol, _, place = info
        check(str(place[0]), private=private, loopback=loopback)
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(socket_factory=make)
    options["timeout"] = aiohttp.ClientTimeout(total=seconds)
    return aiohttp.ClientSession(connector=connector, **options)
