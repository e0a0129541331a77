"""Requests to an exchange, within the weight that it allows: who asks waits for a turn.

Live connections come first, then first come, first served. A refusal for a time (429, 418) pauses all.
"""

import asyncio
import heapq
import itertools
import logging
import time
from bisect import insort
from collections import deque

from collector.feeds.backoff import Backoff
from collector.feeds.http import RateLimitedError
from collector.feeds.network import Answer, Network

LOG = logging.getLogger(__name__)

#: Of what the exchange allows: others at this address have requests as well.
SHARE = 0.8
#: Statuses that refuse for a time: 418 is BINANCE's, for who goes on after 429.
REFUSALS = frozenset({418, 429})
#: Seconds between two log lines about those that wait; a wait shorter than the first is not told.
TELL_FROM, TELL_AGAIN = 2.0, 30.0


class Budget:
    """Weight that may be spent: ``weight`` within any ``seconds``; all times are arguments, in seconds.

    A request that weighs more than that goes alone, and takes as much longer to be forgotten.
    """

    def __init__(self, weight: float, seconds: float) -> None:
        self._weight, self._seconds = weight, seconds
        self._spent: deque[tuple[float, float]] = deque()  # until when it counts, and how much; in that order
        self._sum = 0.0
        self.paused_until = 0.0

    def delay(self, weight: float, now: float) -> float:
        """Return the seconds until ``weight`` may be spent; one that is larger than all, alone."""
        while self._spent and self._spent[0][0] <= now:
            self._sum -= self._spent.popleft()[1]
        excess = self._sum + min(weight, self._weight) - self._weight
        free = now
        for until, spent in self._spent:
            if excess <= 0:
                break
            excess, free = excess - spent, until
        return max(free, self.paused_until) - now if max(free, self.paused_until) > now else 0.0

    def spend(self, weight: float, now: float) -> None:
        """Note that ``weight`` is spent; ``now`` may be later than it is, for what is planned."""
        insort(self._spent, (now + self._seconds * max(1.0, weight / self._weight), weight))
        self._sum += weight

    def pause(self, seconds: float, now: float) -> None:
        """Let nothing be spent for so many seconds."""
        self.paused_until = max(self.paused_until, now + seconds)


class Rest:
    """Asks one exchange.

    Args:
        exchange: cryptofeed's id, for the log.
        budget: of the exchange; None for one without a known limit.
    """

    def __init__(self, exchange: str, network: Network, budget: Budget | None) -> None:
        self._exchange, self._network = exchange, network
        self._budget = budget or Budget(float("inf"), 1.0)
        self._waiting: list[tuple[bool, int, int, asyncio.Future[None]]] = []  # a heap
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._refusals = Backoff(shortest=5.0, longest=120.0)
        self._next_line = 0.0

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return sum(not turn.done() for *_, turn in self._waiting)

    async def get(self, url: str, weight: int, *, urgent: bool = False) -> Answer:
        """Return the answer to a GET, at its turn.

        Raises RateLimitedError if the exchange wants to be asked later - the next request waits until
        then -, aiohttp.ClientError, OSError and TimeoutError.
        """
        await self._turn(weight, urgent=urgent)
        try:
            answer = await self._network.get(url)
        except RateLimitedError as error:
            self._pause(error.retry_after)
            raise
        if answer.status in REFUSALS:
            pause = self._budget.paused_until - time.monotonic()
            if pause <= 0:  # else it refuses what was under way when it refused the first
                pause = self._refusals.pause()
                self._pause(pause)
            raise RateLimitedError(f"{self._exchange} answers {answer.status}", pause)
        self._refusals.reset()
        return answer

    def _pause(self, seconds: float) -> None:
        self._budget.pause(seconds, time.monotonic())

    async def _turn(self, weight: int, *, urgent: bool) -> None:
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (not urgent, next(self._numbers), weight, turn))
        self._serve()
        await turn

    def _serve(self) -> None:
        """Give turns to those who may have one now, and come back when the next one may."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        now = time.monotonic()
        while self._waiting:
            _, _, weight, turn = self._waiting[0]
            if not turn.done() and (delay := self._budget.delay(weight, now)):
                self._timer = asyncio.get_running_loop().call_later(delay, self._serve)
                self._tell(delay, now)
                return
            heapq.heappop(self._waiting)
            if not turn.done():  # who gave up does not wait any more
                self._budget.spend(weight, now)
                turn.set_result(None)

    def _tell(self, delay: float, now: float) -> None:
        if delay < TELL_FROM or now < self._next_line:
            return
        self._next_line = now + TELL_AGAIN
        LOG.info(
            "%s: %d requests are waiting, the next one for %.0f s: it %s",
            self._exchange,
            self.waiting,
            delay,
            "refuses more for now" if self._budget.paused_until > now else "limits their rate",
        )
