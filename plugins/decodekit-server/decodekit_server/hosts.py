"""
Names this server answers to. A page of another site must not talk to it through a visitor's browser.

A rebound DNS name arrives in `Host`, a foreign page in `Origin`; both are looked up, never trusted.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

_HOST = re.compile(r"(?P<name>[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_ORIGIN = re.compile(r"https?://(?P<netloc>[A-Za-z0-9.:\[\]-]{1,300})")


@dataclass(frozen=True, slots=True)
class Hosts:
    """The names of one server.

    bound  the address it listens on
    names  by which a proxy or a network calls it
    """

    bound: str
    names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, bound: str, names: Iterable[str] = ()) -> Hosts:
        return cls(bound, frozenset(name.lower() for name in names))

    @property
    def is_local(self) -> bool:
        """Whether only programs on this machine can reach it."""
        return self.bound == "localhost" or _is_loopback(self.bound)

    def knows(self, host: str) -> bool:
        """Whether a `Host` header is meant for this server."""
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match["name"].lower().strip("[]")
        if name == "localhost" or name in self.names or _is_loopback(name):
            return True
        return not self.is_local and _is_address(name)  # an address cannot be rebound

    def trusts(self, origin: str, host: str) -> bool:
        """Whether a page of that origin came from this server, asked by that `Host`."""
        match = _ORIGIN.fullmatch(origin)
        return match is not None and (match["netloc"] == host or match["netloc"].lower() in self.names)


def _is_address(name: str) -> bool:
    try:
        return not ipaddress.ip_address(name).is_unspecified
    except ValueError:
        return False


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
