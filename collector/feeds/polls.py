"""What an exchange does not send by itself is asked for, again and again."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import override

from collector.exchanges.numbers import MalformedError
from collector.exchanges.protocol import Malformed, Poll
from collector.feeds.backoff import Backoff
from collector.feeds.connection import Connection
from collector.feeds.http import AnswerError, retry_after
from collector.feeds.link import Shared
from collector.feeds.malformed import describe
from collector.gap_records import Reason
from collector.records import Key
from collector.times import SECOND

LOG = logging.getLogger(__name__)

_SHOWN = 120  # characters of an answer
#: Seconds between the first polls, where there is room for that within their period.
_SPACING = 0.25


class Polls(Connection):
    """All polls of one exchange: each has its period, and a pause of its own where it fails."""

    def __init__(self, name: str, shared: Shared, polls: Sequence[Poll]) -> None:
        keys: list[Key] = [poll.subscription for poll in polls]
        super().__init__(name, keys, shared.subscriptions, shared.patience)
        self._shared, self._polls = shared, dict(zip(keys, polls, strict=True))
        self.handled = None

    @override
    def _report_loss(self, reason: Reason) -> None:
        for key in self.keys:
            self._subscriptions.lost([key], self.handled or self._begun, self._reason_of(key, reason))

    @override
    async def _session(self) -> None:
        self._subscriptions.ask(self.keys)
        self._enter("open")
        async with asyncio.TaskGroup() as group:
            for number, key in enumerate(self.keys):
                poll = self._polls[key]
                delay = number * min(_SPACING, poll.period / len(self.keys))
                group.create_task(self._repeat(key, poll, delay))

    async def _repeat(self, key: Key, poll: Poll, delay: float) -> None:
        """Ask at each period while the poll is wanted; begin after ``delay`` seconds."""
        backoff = Backoff(shortest=1.0, longest=max(60.0, poll.period))
        seen = self._begun
        await asyncio.sleep(delay)
        while key in self.keys:
            due = time.monotonic() + poll.period
            try:
                seen = await self._ask(poll)
            except Exception as error:  # noqa: BLE001 - whatever it was, it is this poll's alone
                pause = max(backoff.pause(), retry_after(error))
                channel, symbol = key
                LOG.warning(
                    "%s: no %s of %s: %s; again in %.1f s", self.id, channel, symbol, describe(error), pause
                )
                self._subscriptions.lost([key], seen, self._reason_of(key, "disconnect"))
                await asyncio.sleep(pause)
            else:
                backoff.reset()
                await asyncio.sleep(due - time.monotonic())

    async def _ask(self, poll: Poll) -> float:
        """Ask once; return the receipt (seconds, UTC) of the answer."""
        status, body = await self._shared.rest.get(poll.url, poll.weight)
        if status != 200:
            said = body[:_SHOWN].decode(errors="replace")
            raise AnswerError(f"status {status}: {said}")
        receipt = time.time_ns()
        read = self._shared.exchange.read_poll
        outputs = read(poll.subscription, poll.exchange_symbol, body, receipt)
        for event in self._shared.intake.take(outputs, receipt):
            if isinstance(event, Malformed):
                error = MalformedError(event.reason)
                self._shared.malformed.keep(self.id, body, error)
                raise error
        self.handled = receipt / SECOND
        return self.handled
