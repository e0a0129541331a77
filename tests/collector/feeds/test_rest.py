"""Weight that is spent within what the exchange allows, and turns that are taken in order."""

import asyncio
import itertools
import time

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from scripted import SCRIPTS, Script, address
from test_http import network, serving

from collector.exchanges.binance.exchange import Binance
from collector.exchanges.directory import EXCHANGES
from collector.exchanges.protocol import Request, Resync, Session, Subscription
from collector.feeds import rest
from collector.feeds.backoff import Backoff, Paces
from collector.feeds.direct import DirectAccess, _budget
from collector.feeds.http import RateLimitedError
from collector.feeds.network import Answer
from collector.feeds.requests import Requests
from collector.feeds.rest import Budget, Rest
from collector.settings import Settings


@pytest.mark.parametrize(
    ("variables", "collectors"),
    [
        ({}, 1),
        ({"SHARD": "1/3"}, 3),
        ({"REQUESTS_SHARED_BY": "4"}, 4),
        ({"SHARD": "1/3", "REQUESTS_SHARED_BY": "4"}, 4),
    ],
)
def test_collectors_of_an_exchange_share_its_limit_per_address(variables, collectors):
    needed = {"EXCHANGE": "BINANCE", "SYMBOLS": "BTC-USDT", "CHANNELS": "trades", "BACKEND": "TTY"}
    budget = _budget(Binance(), Settings.read(needed | variables))
    requests = next(count for count in range(1000) if budget.delay(250, 0) or budget.spend(250, 0))
    assert requests == 6000 * 0.8 // collectors // 250


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("collectors", [1, 40, 1000])
def test_a_share_allows_a_list_at_once_and_only_its_part_in_the_long_run(exchange, collectors):
    needed = {"EXCHANGE": exchange, "SYMBOLS": "ALL", "CHANNELS": "trades", "BACKEND": "TTY"}
    it = EXCHANGES[exchange]()
    budget = _budget(it, Settings.read(needed | {"REQUESTS_SHARED_BY": str(collectors)}))
    for _ in it.listing():
        assert budget.delay(it.listing_weight, 0.0) == 0
        budget.spend(it.listing_weight, 0.0)
    now, spent = 0.0, 0
    while now < 86_400 and spent < 300:
        now += budget.delay(it.listing_weight, now)
        budget.spend(it.listing_weight, now)
        spent += 1
    allowed, seconds = it.limits.weight
    part = allowed * 0.8 / collectors * now / seconds
    assert spent * it.listing_weight <= part + 2 * it.listing_weight * len(it.listing()) + allowed


@pytest.mark.parametrize("name", EXCHANGES)
async def test_each_request_of_a_list_carries_its_weight(name, tmp_path):
    script = Script.read(SCRIPTS / f"{name}.jsonl", 1_790_000_000)
    access = DirectAccess(Settings.read(script.collector | {"BACKEND": "TTY", "SPOOL_DIR": str(tmp_path)}))
    asked = []

    async def get(url):
        asked.append(url)
        return Answer(200, bytes(script.answers[address(url)][0].body))

    access.network.get = get
    spent = []
    access.rest._budget.spend = lambda weight, _: spent.append(weight)
    assert (await access.listed()).instruments
    assert len(asked) >= len(access.exchange.listing())
    assert spent == [access.exchange.listing_weight] * len(asked)
    await access.close()


async def test_a_list_that_is_refused_for_a_time_pauses_all_requests(tmp_path):
    needed = {"EXCHANGE": "BINANCE", "SYMBOLS": "BTC-USDT", "CHANNELS": "trades", "BACKEND": "TTY"}
    access = DirectAccess(Settings.read(needed | {"SPOOL_DIR": str(tmp_path)}))

    async def get(url):
        return Answer(418, b"{}")

    access.network.get = get
    with pytest.raises(RateLimitedError):
        await access.listed()
    assert access.rest._budget.delay(1, time.monotonic()) > 1
    await access.close()


def test_a_budget_is_spent_and_refills():
    budget = Budget(10, 60)
    assert budget.delay(10, 100.0) == 0
    budget.spend(4, 100.0)
    budget.spend(6, 130.0)
    assert budget.delay(1, 140.0) == 20.0
    assert budget.delay(5, 140.0) == 50.0
    assert budget.delay(4, 160.0) == 0
    assert budget.delay(5, 160.0) == 30.0


def test_a_request_heavier_than_the_budget_is_sent_alone():
    budget = Budget(10, 60)
    assert budget.delay(50, 0.0) == 0
    budget.spend(50, 0.0)
    assert budget.delay(1, 1.0) == 299.0  # five times as much takes five times as long
    assert budget.delay(50, 300.0) == 0


def test_what_is_planned_for_later_hides_nothing_that_is_forgotten_before():
    """A subscription that waits for its turn has spent it already; another one need not wait."""
    budget = Budget(2, 60)
    budget.spend(1, 150.0)
    budget.spend(1, 100.0)
    assert budget.delay(1, 151.0) == 9.0  # not 59
    assert budget.delay(2, 151.0) == 59.0  # not 9
    assert budget.delay(1, 160.0) == 0


def test_a_pause_is_for_all():
    budget = Budget(10, 60)
    budget.pause(120, 0.0)
    budget.pause(5, 10.0)
    assert budget.delay(1, 20.0) == 100.0


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 30)), max_size=30),
)
def test_no_window_ever_has_more_than_is_allowed(weight, requests):
    budget, now, spent = Budget(weight, 60), 0, []
    for cost, pause in requests:
        now += pause
        now += budget.delay(cost, now)
        budget.spend(cost, now)
        spent.append((now, cost))
    for end, _ in spent:
        window = [cost for when, cost in spent if end - 59.999 < when <= end]
        assert sum(window) <= weight or len(window) == 1


class Spent(Budget):
    """A budget that knows when something was spent."""

    def __init__(self, weight, seconds):
        super().__init__(weight, seconds)
        self.times = []

    def spend(self, weight, now):
        super().spend(weight, now)
        self.times.append(now)


async def test_requests_take_turns_and_live_connections_come_first(monkeypatch, caplog):
    monkeypatch.setattr(rest, "TELL_FROM", 0.01)
    caplog.set_level("INFO")

    async def answer(request):
        return web.Response(text=request.path)

    async with serving(answer) as server:
        it = network()
        budget = Spent(10, 0.4)
        asking = Rest("X", it, budget)

        async def ask(path, *, urgent=False):
            return (await asking.get(f"{server.url}/{path}", 10, urgent=urgent)).body

        works = [ask("a"), ask("b"), ask("c"), ask("live", urgent=True)]
        tasks = [asyncio.create_task(work) for work in works]
        await asyncio.sleep(0.1)
        assert asking.waiting == 3
        tasks[2].cancel()  # its connection is gone
        assert asking.waiting == 2
        await asyncio.wait(tasks)
        await it.close()
    assert [path for _, path in server.asked] == ["/a", "/live", "/b"]
    assert min(after - before for before, after in itertools.pairwise(budget.times)) >= 0.4
    assert "requests are waiting" in caplog.text


@pytest.mark.parametrize(("status", "headers"), [(429, {}), (418, {"Retry-After": "1"})])
async def test_a_refusal_for_a_time_pauses_all_requests(status, headers):
    async def answer(request):
        if len(server.asked) == 1:
            return web.Response(status=status, headers=headers)
        return web.Response(text="there")

    async with serving(answer) as server:
        it = network()
        asking = Rest("X", it, None)
        asking._refusals = Backoff(2.0, 2.0)
        asked = time.monotonic()
        with pytest.raises(RateLimitedError):
            await asking.get(server.url, 1)
        assert (await asking.get(f"{server.url}/other", 1)).body == b"there"
        assert time.monotonic() - asked >= 0.9
        await it.close()
    assert len(server.asked) == 2


async def test_simultaneous_refusals_count_as_one():
    async def answer(request):
        if len(server.asked) == 5:
            together.set()
        await together.wait()
        return web.Response(status=429)

    together = asyncio.Event()
    async with serving(answer) as server:
        it = network()
        asking = Rest("X", it, None)
        works = [asking.get(f"{server.url}/{number}", 1) for number in range(5)]
        assert {type(error) for error in await asyncio.gather(*works, return_exceptions=True)} == {
            RateLimitedError
        }
        assert asking._budget.paused_until - time.monotonic() <= 5.0
        await it.close()


async def test_a_book_that_keeps_breaking_waits_longer_each_time():
    about = Subscription("l2_book", "BTC-USD")
    done = asyncio.Event()

    class Broken(Session):
        def opening(self):
            return ()

        def receive(self, frame, receipt):
            return ()

        def answer(self, request, status, body, receipt):
            return [Resync(about), Request(request + 1, server.url, 1, about)]

    def take(outputs, body, receipt):
        asking.settle(about)
        if len(server.asked) == 4:
            done.set()
        asking.add(outputs[1])

    async def answer(request):
        return web.Response()

    async with serving(answer) as server:
        it = network()
        asking = Requests("X", Rest("X", it, None), Paces(0.2), set())
        asking.add(Request(1, server.url, 1, about))
        running = asyncio.create_task(asking.run(Broken(), take))
        await done.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await it.close()
    times = [at for at, _ in server.asked]
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses[0] > 0.09  # half of a pause may be taken off it
    assert pauses[2] > 0.39
