"""Order books as records: real OrderBooks of cryptofeed, changed as its feeds change them."""

from decimal import Decimal

from comparison import apply_delta, sides_of
from cryptofeed.types import OrderBook
from hypothesis import given
from hypothesis import strategies as st

from collector.feeds.through_cryptofeed.books import Books
from collector.records import L2Book, L3Book
from collector.times import SECOND

D = Decimal
RECEIPT, RECEIVED = 1700000000.5, 1700000000500000000
TIME = 1700000000250000000


def books(record=L2Book, *, snapshot_only=False, interval=1000, depth=0):
    return Books(record, snapshot_only=snapshot_only, interval=interval, depth=depth)


def order_book(bids=None, asks=None, symbol="BTC-USD"):
    return OrderBook("KRAKEN", symbol, bids=bids or {D(9): D(1), D(8): D(2)}, asks=asks or {D(10): D(3)})


def change(book, side, price, size, timestamp=None):
    if size:
        book.book[side][price] = size
    elif price in book.book[side]:
        del book.book[side][price]
    book.delta = {"bid": [], "ask": []}
    book.delta[side].append((price, size))
    book.timestamp = timestamp


def test_a_complete_book_comes_first_then_deltas():
    it, book = books(), order_book()
    assert it.take(book, RECEIPT) == (
        [L2Book("KRAKEN", "BTC-USD", RECEIVED, RECEIVED, False, [("9", "1"), ("8", "2")], [("10", "3")])],
        None,
    )
    change(book, "bid", D(9), D("1.50"), timestamp=TIME / SECOND)
    ((delta,), broken) = it.take(book, RECEIPT + 1)
    assert delta == L2Book("KRAKEN", "BTC-USD", TIME, RECEIVED + SECOND, True, [("9", "1.50")], [])
    assert broken is None


def test_records_are_copies():
    it, book = books(), order_book()
    (full,), _ = it.take(book, RECEIPT)
    change(book, "bid", D(9), D(7))
    (delta,), _ = it.take(book, RECEIPT)
    book.delta["bid"].clear()
    assert full.bid[0] == ("9", "1")
    assert delta.bid == [("9", "7")]


def test_sizes_of_all_shapes_become_texts():
    it, book = books(), order_book()
    it.take(book, RECEIPT)
    book.delta = {"bid": [(D(9), 0)], "ask": [["10.5", "0.10"]]}
    (delta,), _ = it.take(book, RECEIPT)
    assert (delta.bid, delta.ask) == ([("9", "0")], [("10.5", "0.10")])


def test_a_complete_book_follows_the_delta_every_interval():
    it, book = books(interval=3), order_book()
    it.take(book, RECEIPT)
    kinds = []
    for size in range(1, 8):
        change(book, "bid", D(9), D(size))
        records, _ = it.take(book, RECEIPT)
        kinds.append([record.delta for record in records])
    assert kinds == [[True], [True], [True, False], [True], [True], [True, False], [True]]
    assert records[-1].bid == [("9", "7")]


def test_snapshot_only_stores_complete_books():
    it, book = books(snapshot_only=True), order_book()
    it.take(book, RECEIPT)
    change(book, "ask", D(10), 0)
    ((full,), _) = it.take(book, RECEIPT)
    assert not full.delta
    assert full.ask == []


def test_a_book_without_delta_after_deltas_is_a_break():
    it, book = books(), order_book()
    it.take(book, RECEIPT)
    change(book, "bid", D(9), D(2))
    it.take(book, RECEIPT + 1)
    fresh = order_book()
    (full,), broken = it.take(fresh, RECEIPT + 5)
    assert not full.delta
    assert broken == RECEIPT + 1


def test_books_that_always_come_complete_do_not_break():
    it = books()
    for _ in range(3):
        (full,), broken = it.take(order_book(), RECEIPT)
        assert not full.delta
        assert broken is None


def test_a_new_book_with_an_empty_delta_is_complete():
    """Some of cryptofeed's classes say so when they got a snapshot."""
    it, book = books(), order_book()
    it.take(book, RECEIPT)
    change(book, "bid", D(9), D(2))
    it.take(book, RECEIPT)
    fresh = order_book()
    fresh.delta = {"bid": [], "ask": []}
    (full,), broken = it.take(fresh, RECEIPT + 1)
    assert not full.delta
    assert broken == RECEIPT
    assert it.take(fresh, RECEIPT + 2) == ([], None)


def test_after_a_gap_the_next_record_is_complete():
    it, book = books(), order_book()
    other = order_book(symbol="ETH-USD")
    for each in (book, other):
        it.take(each, RECEIPT)
        change(each, "bid", D(9), D(2))
    assert it.forget("BTC-USD") == RECEIPT
    (full,), broken = it.take(book, RECEIPT)
    (delta,), _ = it.take(other, RECEIPT)
    assert (full.delta, broken, delta.delta) == (False, None, True)


def test_books_by_order():
    it = books(L3Book)
    book = OrderBook("BITFINEX", "BTC-USD", bids={D(9): {1: D(2), 2: D(3)}}, asks={D(10): {"x": 4}})
    (full,), _ = it.take(book, RECEIPT)
    assert full.bid == [("1", "9", "2"), ("2", "9", "3")]
    assert full.ask == [("x", "10", "4")]
    book.delta = {"bid": [(1, D(9), 0)], "ask": []}
    (delta,), _ = it.take(book, RECEIPT)
    assert delta == L3Book("BITFINEX", "BTC-USD", RECEIVED, RECEIVED, True, [("1", "9", "0")], [])


changes = st.lists(
    st.tuples(st.sampled_from(["bid", "ask"]), st.integers(1, 12), st.integers(0, 3)), max_size=60
)


@given(changes, st.integers(0, 4), st.integers(1, 5))
def test_deltas_turn_one_complete_book_into_the_next(changes, depth, interval):
    """Whatever happens, the records applied to each other give the best levels of the book."""
    it, book = books(depth=depth, interval=interval), order_book()
    replayed = None
    for side, price, size in [("bid", 9, 1), *changes]:
        if replayed is not None:
            change(book, side, D(price), D(size))
        for record in it.take(book, RECEIPT)[0]:
            sides = sides_of(record)
            if record.delta:
                apply_delta(replayed, sides)
            else:
                assert replayed in (None, sides)
                replayed = sides
        cut = slice(depth or None)
        assert replayed == (dict(book.book.bids.to_list()[cut]), dict(book.book.asks.to_list()[cut]))
