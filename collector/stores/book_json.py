"""Sides of books as JSON that stores take: numbers are JSON numbers with every digit that was sent."""

from collections.abc import Iterable, Sequence
from json.encoder import encode_basestring

import msgspec

from collector.records import L2Book, L3Book, Level, Order

_encoder = msgspec.json.Encoder()


def changed_levels(sides: Sequence[Sequence[Level]]) -> list[str]:
    """Return each of many sides of changes, as ``[[price,size],...]``.

    Numbers are texts without a quote in them: all of them are taken out at once.
    """
    if not sides:
        return []
    return _encoder.encode_lines(sides).decode().replace('"', "").split("\n")


def changes(book: L2Book | L3Book) -> tuple[str, str]:
    """Return both sides of changes."""
    if isinstance(book, L2Book):
        bid, ask, _ = changed_levels((book.bid, book.ask))
        return bid, ask
    return _changed_orders(book.bid), _changed_orders(book.ask)


def complete(book: L2Book | L3Book) -> tuple[str, str]:
    """Return both sides of a complete book: ``{"price":size,...}``.

    Those of a book by order are ``{"price":{"order id":size,...},...}``.
    """
    if isinstance(book, L2Book):
        return _levels(book.bid), _levels(book.ask)
    return _orders(book.bid), _orders(book.ask)


def _levels(side: Iterable[Level]) -> str:
    return "{" + ",".join([f'"{price}":{size}' for price, size in dict(side).items()]) + "}"


def _orders(side: Iterable[Order]) -> str:
    prices: dict[str, dict[str, str]] = {}
    for order, price, size in side:
        prices.setdefault(price, {})[order] = size
    return "{" + ",".join([f'"{price}":{_sizes(orders)}' for price, orders in prices.items()]) + "}"


def _sizes(orders: dict[str, str]) -> str:
    return "{" + ",".join([f"{encode_basestring(order)}:{size}" for order, size in orders.items()]) + "}"


def _changed_orders(side: Iterable[Order]) -> str:
    orders = [f"[{encode_basestring(order)},{price},{size}]" for order, price, size in side]
    return "[" + ",".join(orders) + "]"
