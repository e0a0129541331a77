"""Weight that is spent within what the exchange allows, and turns that are taken in order."""

import asyncio
import itertools
import time

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from test_http import network, serving

from collector.exchanges.binance.exchange import Binance
from collector.exchanges.protocol import Request, Resync, Session, Subscription
from collector.feeds import rest
from collector.feeds.backoff import Backoff, Paces
from collector.feeds.direct import _budget
from collector.feeds.http import RateLimitedError
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
def test_collectors_of_an_exchange_share_what_it_allows_their_address(variables, collectors):
    needed = {"EXCHANGE": "BINANCE", "SYMBOLS": "BTC-USDT", "CHANNELS": "trades", "BACKEND": "TTY"}
    budget = _budget(Binance(), Settings.read(needed | variables))
    requests = next(count for count in range(1000) if budget.delay(250, 0) or budget.spend(250, 0))
    assert requests == 6000 * 0.8 // collectors // 250


def test_a_budget_is_spent_and_comes_back():
    budget = Budget(10, 60)
    assert budget.delay(10, 100.0) == 0
    budget.spend(4, 100.0)
    budget.spend(6, 130.0)
    assert budget.delay(1, 140.0) == 20.0
    assert budget.delay(5, 140.0) == 50.0
    assert budget.delay(4, 160.0) == 0
    assert budget.delay(5, 160.0) == 30.0


def test_a_request_that_weighs_more_than_all_goes_alone():
    budget = Budget(10, 60)
    assert budget.delay(50, 0.0) == 0
    budget.spend(50, 0.0)
    assert budget.delay(1, 1.0) == 59.0
    assert budget.delay(50, 60.0) == 0


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
        window = [cost for when, cost in spent if end - 60 < when <= end]
        assert sum(window) <= weight or len(window) == 1


async def test_requests_take_turns_and_live_connections_come_first(monkeypatch, caplog):
    monkeypatch.setattr(rest, "TELL_FROM", 0.01)
    caplog.set_level("INFO")

    async def answer(request):
        return web.Response(text=request.path)

    async with serving(answer) as server:
        it = network()
        asking = Rest("X", it, Budget(10, 0.4))

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
    times = [at for at, _ in server.asked]
    assert min(after - before for before, after in itertools.pairwise(times)) > 0.35
    assert "requests wait for their turn" in caplog.text


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


async def test_what_is_refused_together_is_one_refusal():
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


async def test_a_book_that_breaks_again_and_again_waits_longer_each_time():
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
