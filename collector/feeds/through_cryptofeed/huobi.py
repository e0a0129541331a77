"""HUOBI, HUOBI_DM, HUOBI_SWAP: messages are compressed with gzip, which cryptofeed unpacks unbounded."""

import zlib
from typing import Any

from cryptofeed.exchanges import huobi, huobi_dm

from collector.feeds.network import LARGEST_MESSAGE


class _BoundedZlib:
    """The part of ``zlib`` that these modules of cryptofeed use."""

    MAX_WBITS = zlib.MAX_WBITS

    @staticmethod
    def decompress(data: bytes, wbits: int) -> bytes:
        """Unpack a message of at most LARGEST_MESSAGE bytes. Raises ValueError and zlib.error."""
        unpacker = zlib.decompressobj(wbits)
        message = unpacker.decompress(data, LARGEST_MESSAGE)
        if unpacker.unconsumed_tail:
            raise ValueError(f"a message has more than {LARGEST_MESSAGE} bytes when it is unpacked")
        if not unpacker.eof:
            raise zlib.error("a message ends in the middle")
        return message


def bound_unpacking() -> None:
    """Make cryptofeed refuse to unpack messages larger than LARGEST_MESSAGE."""
    modules: tuple[Any, ...] = (huobi, huobi_dm)
    for module in modules:
        module.zlib = _BoundedZlib
