"""OKX: its books are numbered, and their checksums are 0 since June 2026.

Source: https://www.okx.com/help/okx-order-book-channels-checksum-field-deprecation
"""

from typing import Any, ClassVar

import cryptofeed.exchanges
from cryptofeed.exceptions import MissingSequenceNumber

from collector.feeds.through_cryptofeed.supervised import Supervised


class Okx(Supervised, cryptofeed.exchanges.OKX):  # type: ignore[misc]  # cryptofeed is untyped
    """OKX's public market data."""

    CHECKS_BOOKS: ClassVar[bool] = True
    CHECKSUMS: ClassVar[bool] = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._numbers: dict[str, int] = {}  # by instrument: seqId of the last update

    async def _book(self, msg: dict[str, Any], timestamp: float) -> None:
        """Each update names the one before it (``prevSeqId``)."""
        instrument = msg["arg"]["instId"]
        for update in msg["data"]:
            update.setdefault("checksum", 0)
            before = self._numbers.get(instrument)
            if msg["action"] != "snapshot" and update["prevSeqId"] != before:
                raise MissingSequenceNumber(f"{instrument}: {update['prevSeqId']} came after {before}")
            self._numbers[instrument] = update["seqId"]
        await super()._book(msg, timestamp)
