"""Sides of books as JSON for stores; numbers are JSON numbers with every digit that was sent."""

from collections.abc import Iterable
from json.encoder import encode_basestring

import msgspec

from collector.records import L2Book, L3Book, Level, Order

_encoder = msgspec.json.Encoder()


class _Changes(msgspec.Struct, gc=False, rename="'{}'".format):
    bid: list[Level]
    ask: list[Level]


#: Makes the quotes of names, once those of numbers are removed.
_QUOTES = bytes.maketrans(b"'", b'"')


def changed_books(books: Iterable[L2Book]) -> list[str]:
    """Return the changes of each book, as ``{"bid":[[price,size],...],"ask":[[price,size],...]}``.

    No number has a quote in its text, so the quotes around all numbers are removed in one go.
    """
    lines = _encoder.encode_lines([_Changes(book.bid, book.ask) for book in books])
    return lines.translate(_QUOTES, b'"').decode().split("\n")[:-1]


def text(book: L2Book | L3Book) -> str:
    """Return a complete book, or changes, as ``{"bid":side,"ask":side}``."""
    if not book.delta:
        bid, ask = complete(book)
    elif isinstance(book, L2Book):
        return changed_books([book])[0]
    else:
        bid, ask = _changed_orders(book.bid), _changed_orders(book.ask)
    return f'{{"bid":{bid},"ask":{ask}}}'


def complete(book: L2Book | L3Book) -> tuple[str, str]:
    """Return both sides of a complete book, each as ``{"price":size,...}``.

    For a book by order they are ``{"price":{"order id":size,...},...}``.
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
