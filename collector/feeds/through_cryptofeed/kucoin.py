"""KUCOIN: an address is valid for a day; every connection requests its own."""

from typing import Any, ClassVar

import cryptofeed.exchanges

from collector.feeds.reference import in_thread
from collector.feeds.through_cryptofeed.supervised import Supervised

TOKENS = "https://api.kucoin.com/api/v1/bullet-public"


class Kucoin(Supervised, cryptofeed.exchanges.KuCoin):  # type: ignore[misc]  # cryptofeed is untyped
    """KUCOIN's public market data."""

    CHECKS_BOOKS: ClassVar[bool] = True

    def connect(self) -> list[Any]:
        """As in cryptofeed, except that each connection gets a fresh address whenever it is opened."""
        tools: list[Any] = super().connect()
        for conn, *_ in tools:
            conn.authentication = self._address_of_today
        return tools

    async def _address_of_today(self, _: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        answer = await in_thread(lambda: self.http_sync.write(TOKENS, json=True))
        server = answer["data"]["instanceServers"][0]
        return f"{server['endpoint']}?token={answer['data']['token']}", options
