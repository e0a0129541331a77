"""ENDPOINT: addresses that replace an exchange's own, for regions, moved hosts and ports."""

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from collector import catalog
from collector.urls import Url, host_and_port, quoted

_SCHEMES = {"websocket": "wss", "rest": "https"}
_PAIRS = "NAME=URL pairs such as websocket=wss://host:443,rest=https://host"


class Endpoint(msgspec.Struct, frozen=True):
    """What the user asks for: the name of a region, or addresses by name."""

    region: str | None = None
    addresses: Mapping[str, str] = {}

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Read a region, or a comma-separated list of ``NAME=URL``. Raises ValueError."""
        if "=" not in text and "://" not in text and "," not in text:
            return cls(region=text.lower())
        addresses: dict[str, str] = {}
        for item in text.split(","):
            name, separator, address = (part.strip() for part in item.partition("="))
            name = name.lower()
            if not separator or "://" in name:
                raise ValueError(f"takes the name of a region, or {_PAIRS}")
            if name in addresses:
                raise ValueError(f"gives {name} twice")
            _check(name, address)
            addresses[name] = address
        return cls(addresses=addresses)

    def of(self, name: str) -> Mapping[str, str]:
        """Return the complete addresses that replace those of the exchange ``name``.

        Raises ValueError if the exchange has no such region or address.
        """
        exchange = catalog.exchanges()[name]
        if not exchange.endpoints:
            raise ValueError(
                f"{name} is recorded through cryptofeed, whose addresses cannot be replaced; leave it out"
            )
        if self.region is not None:
            return self._of_region(name, exchange)
        for given in self.addresses:
            if given not in exchange.endpoints:
                there = ", ".join(exchange.endpoints)
                raise ValueError(f"{name} has no address called {quoted(given)}; choose from {there}")
        return {
            given: _with_path(address, exchange.endpoints[given]) for given, address in self.addresses.items()
        }

    def _of_region(self, name: str, exchange: catalog.Exchange) -> Mapping[str, str]:
        if found := exchange.regions.get(self.region or ""):
            return found
        regions = ", ".join(exchange.regions)
        near = catalog.nearest(self.region or "", exchange.regions)
        hint = f"; did you mean {near[0]}?" if near else ""
        there = f"it has {regions}" if regions else "it has none"
        raise ValueError(f"{name} has no region of that name{hint}: {there}; else {_PAIRS}")


def _check(name: str, address: str) -> None:
    """Raise ValueError if a collector could not open an address."""
    try:
        url = Url.parse(address)
        host, _ = host_and_port(url.hosts)
    except ValueError as error:
        raise ValueError(f"{quoted(name)}: the address {error}") from None
    wanted = _SCHEMES.get(name)
    if wanted and url.scheme != wanted:
        raise ValueError(f"{name}: takes an address that begins with {wanted}://")
    if url.login is not None:
        raise ValueError(
            f"{quoted(name)}: the address has a user in it, which no exchange takes; leave it out"
        )
    if not host or url.query:
        raise ValueError(f"{quoted(name)}: takes a host, a port and a path, such as wss://host:443/path")


def _with_path(address: str, usual: str) -> str:
    """Return an address, with the path of the usual one unless it has a path itself."""
    address = address.rstrip("/")
    return address if urlsplit(address).path else address + urlsplit(usual).path
