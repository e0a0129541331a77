"""cryptofeed by itself, as its users run it: ``python peer.py nothing`` or one of its own backends.

``nothing`` is the floor: callbacks that do nothing, but count, so that somebody can see what has arrived.
Every line on standard input is answered with the number of objects that were handed to the callbacks.

    python peer.py REDISSTREAM '{"host": "127.0.0.1", "port": 6379}'
"""

import asyncio
import json
import os
import sys

from cryptofeed import FeedHandler, connection
from cryptofeed.backends.mongo import BookMongo, TradeMongo
from cryptofeed.backends.postgres import BookPostgres, TradePostgres
from cryptofeed.backends.redis import BookRedis, BookStream, TradeRedis, TradeStream
from cryptofeed.exchanges import Binance
from recording import CHANNELS, SYMBOLS


class MendedBookMongo(BookMongo):
    """With deltas as its code means to store them: it hands the server arrays, which not every one takes."""

    async def write(self, data):
        if "delta" in data:
            sides = {side: dict(levels) for side, levels in data["delta"].items()}
            data = data | {"delta": sides, "book": sides}
        await super().write(data)


BACKENDS = {
    "REDISSTREAM": (TradeStream, BookStream),
    "REDIS": (TradeRedis, BookRedis),
    "POSTGRES": (TradePostgres, BookPostgres),
    "MONGO": (TradeMongo, MendedBookMongo),
}

received = 0


async def nothing(_it: object, _receipt: float) -> None:
    global received  # noqa: PLW0603 - the cheapest way to count
    received += 1


def main(backend: str, options: dict[str, object]) -> None:
    assert connection.json_parser.__name__ == "yapic.json", "not as its users install it"
    callbacks = [kind(**options) for kind in BACKENDS[backend]] if backend in BACKENDS else [nothing, nothing]
    handler = FeedHandler()  # with uvloop, which is its default
    feed = Binance(
        symbols=list(SYMBOLS),
        channels=list(CHANNELS),
        callbacks=dict(zip(CHANNELS, callbacks, strict=True)),
        http_proxy=os.environ["HTTPS_PROXY"],
    )
    handler.add_feed(feed)
    handler.run(start_loop=False)
    loop = asyncio.get_event_loop()
    loop.add_reader(sys.stdin, answer)
    loop.run_forever()


def answer() -> None:
    if not sys.stdin.readline():
        sys.exit()
    print(received, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads((*sys.argv, "{}")[2]))
