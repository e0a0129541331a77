"""A book of KRAKEN's, whose ten best levels a checksum covers."""

import zlib

from collector.exchanges.book import Book

_CHECKED_LEVELS = 10


class CheckedBook:
    """A book that is held to its checksums."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.reproducible = True  # whether the checksum of its snapshot came out right
        self.last: object = None  # the last change, as it came

    def agrees(self, checksum: int | None) -> bool:
        """Return whether the checksum is that of the book, if that can be known."""
        if checksum is None or not self.reproducible:
            return True
        sides = self.book.asks, self.book.bids
        text = "".join(
            number.replace(".", "").lstrip("0")
            for side in sides
            for level in side.best(_CHECKED_LEVELS).values()
            for number in level
        )
        return zlib.crc32(text.encode()) == checksum
