"""The comparison that other tests rely on: whatever differs, it tells, and nothing else."""

from decimal import Decimal

from comparison import compare
from streams import in_seconds, timed

from collector.records import Gap, L2Book, Ticker, Trade

D = Decimal
START = 1700000000.0


def entry(sequence, channel, content, exchange="COINBASE", connection=1):
    return {
        "exchange": exchange,
        "channel": channel,
        "symbol": "BTC-USD",
        "content": content,
        "time": START + sequence,
        "connection": connection,
        "sequence": sequence,
    }


def trade(sequence, number, amount="1.5", **where):
    content = {"id": number, "side": "buy", "price": "10", "amount": amount, "type": None}
    return entry(sequence, "trades", content | {"timestamp": "2023-11-14T22:13:20.000001Z"}, **where)


def stored_trade(number, amount="1.50", exchange="COINBASE"):
    return timed(Trade(exchange, "BTC-USD", START + 1e-6, START, "buy", D(amount), D(10), number, None))


def ticker(sequence, bid, **where):
    content = {"bid": bid, "bid_size": "1", "ask": "99", "ask_size": "1", "timestamp": None}
    return entry(sequence, "ticker", content, **where)


def stored_ticker(bid):
    return timed(Ticker("COINBASE", "BTC-USD", START, START, D(bid), D(99)))


def book(sequence, kind, bid, ask=(), exchange="COINBASE", connection=1, **ids):
    return entry(
        sequence,
        "l2_book",
        {"kind": kind, "bid": bid, "ask": list(ask), "timestamp": None, **ids},
        exchange,
        connection,
    )


def stored_book(delta, bid, exchange="COINBASE", receipt=START):
    return timed(L2Book(exchange, "BTC-USD", START, receipt, delta, [(D(p), D(s)) for p, s in bid], []))


def cut(connection, reason="reset"):
    return {"event": "closed", "exchange": "COINBASE", "connection": connection, "reason": reason}


def test_equal_is_equal_by_value():
    comparison = compare([trade(0, "7"), ticker(1, "8")], [stored_trade("7"), stored_ticker("8.0")])
    assert comparison.exact
    assert comparison.matched == 2


def test_an_unstored_record_is_missing():
    assert len(compare([trade(0, "7"), trade(1, "8")], [stored_trade("8")]).missing) == 1
    assert len(compare([ticker(0, "1"), ticker(1, "2")], [stored_ticker("1")]).missing) == 1


def test_a_record_stored_twice_is_unexpected():
    assert len(compare([trade(0, "7")], [stored_trade("7")] * 2).unexpected) == 1
    assert len(compare([ticker(0, "1")], [stored_ticker("1")] * 2).unexpected) == 1


def test_a_record_with_different_content_is_noticed():
    comparison = compare([trade(0, "7")], [stored_trade("7", "1.6")])
    assert len(comparison.differing) == 1
    assert not comparison.missing
    assert not comparison.unexpected


def test_a_different_order_is_noticed():
    assert not compare([ticker(0, "1"), ticker(1, "2")], [stored_ticker("2"), stored_ticker("1")]).exact


def test_identical_trades_without_an_id_are_counted():
    sent = [trade(0, None, exchange="KRAKEN"), trade(1, None, exchange="KRAKEN")]
    one = stored_trade(None, exchange="KRAKEN")
    assert compare(sent, [one, one]).exact
    assert len(compare(sent, [one]).missing) > 0
    assert len(compare(sent, [one] * 3).unexpected) == 1


def test_trades_that_are_repeated_on_another_connection_count_once():
    assert compare([trade(0, "7"), trade(1, "7", connection=2)], [stored_trade("7")]).exact


def test_a_trade_that_its_own_connection_repeats_counts_once():
    repeated = trade(2, "1")
    repeated["content"]["repeated"] = True
    assert compare([trade(1, "1"), repeated], [stored_trade("1")]).exact
    assert not compare([trade(1, "1"), repeated], []).exact


def test_history_of_the_first_subscription_need_not_be_stored():
    past = [trade(number - 10, str(number)) for number in (6, 7)]
    for each in past:
        each["content"]["snapshot"] = True
    assert compare([*past, trade(0, "8")], [stored_trade("8")]).exact
    late = trade(1, "9", connection=2)
    late["content"]["snapshot"] = True
    assert compare([*past, trade(0, "8"), late], [stored_trade("8")]).missing == [late]
    assert compare([*past, trade(-1, "8"), trade(0, "9")], [stored_trade("9")]).missing


def test_the_end_of_a_connection_that_was_cut_is_excused_and_nothing_before_it():
    sent = [ticker(0, "1"), ticker(1, "2"), ticker(2, "3"), ticker(3, "4", connection=2)]
    stored = [stored_ticker("1"), stored_ticker("2"), stored_ticker("4")]
    assert compare([*sent, cut(1)], stored).exact
    assert not compare([*sent, cut(1, "close")], stored).exact
    assert not compare([*sent, cut(1)], [stored_ticker("1"), stored_ticker("3"), stored_ticker("4")]).exact


def test_a_record_within_a_gap_is_excused():
    span = START + 0.5, START + 1.5
    gap = timed(Gap("COINBASE", "BTC-USD", START, START, "ticker", *span, "disconnect", None))
    sent = [ticker(0, "1"), ticker(1, "2"), ticker(2, "3")]
    assert compare(sent, [stored_ticker("1"), stored_ticker("3"), gap]).exact
    assert not compare(sent, [stored_ticker("1"), stored_ticker("2"), gap]).exact


def test_a_book_after_a_delta_must_be_what_the_deltas_made():
    sent = [book(0, "snapshot", [["1", "5"]]), book(1, "delta", [["2", "6"]])]
    start, delta = stored_book(False, [("1", "5")]), stored_book(True, [("2", "6")], receipt=START + 1)
    right = stored_book(False, [("2", "6"), ("1", "5")], receipt=START + 1)
    wrong = stored_book(False, [("2", "6")], receipt=START + 1)
    assert compare(sent, [start, delta, right]).exact
    assert compare(sent, [start, delta, wrong]).unexpected == [in_seconds(wrong)]
    assert not compare(sent, [delta]).exact


def test_binance_updates_that_the_snapshot_contains_are_excused():
    sent = [
        book(0, "delta", [["1", "5"]], exchange="BINANCE", first_update_id=1, last_update_id=2),
        book(1, "delta", [["2", "5"]], exchange="BINANCE", first_update_id=3, last_update_id=4),
        book(2, "snapshot", [["1", "5"]], exchange="BINANCE", connection=None, last_update_id=2),
        book(3, "delta", [["3", "5"]], exchange="BINANCE", first_update_id=5, last_update_id=6),
    ]
    stored = [
        stored_book(False, [("1", "5")], "BINANCE"),
        stored_book(True, [("2", "5")], "BINANCE", START + 1),
        stored_book(True, [("3", "5")], "BINANCE", START + 2),
    ]
    assert compare(sent, stored).exact
    assert len(compare(sent, [stored[0], stored[2]]).missing) == 1


def opened(connection, at):
    return {"event": "open", "exchange": "COINBASE", "connection": connection, "time": START + at}


def test_records_sent_by_two_connections_at_once_count_once():
    log = [opened(1, 0), ticker(1, "1"), opened(2, 1.5), ticker(2, "2"), ticker(3, "2", connection=2)]
    assert compare(log, [stored_ticker("1"), stored_ticker("2")]).exact
    assert compare(log, [stored_ticker("1"), stored_ticker("2"), stored_ticker("2")]).unexpected
    assert compare(log, [stored_ticker("1")]).missing


def test_two_connections_may_send_the_same_in_different_orders():
    log = [
        opened(1, 0),
        ticker(1, "1"),
        opened(2, 1),
        ticker(2, "1", connection=2),
        ticker(3, "2", connection=2),
    ]
    log += [ticker(4, "3"), ticker(5, "2"), ticker(6, "3", connection=2)]
    one, two, three = (stored_ticker(bid) for bid in "123")
    assert compare(log, [one, two, three]).exact
    assert compare(log, [one, three, two]).exact
    assert compare(log, [one, three, two, three]).unexpected == [in_seconds(three)]
    assert [it["sequence"] for it in compare(log, [one, three]).missing] == [3]


def test_a_book_that_a_second_connection_begins_with_need_not_be_stored():
    bid, later = [["1", "2"]], [["1", "3"]]
    log = [opened(1, 0), book(1, "snapshot", bid), opened(2, 1.5), book(2, "snapshot", later, connection=2)]
    assert compare(log, [stored_book(False, bid)]).exact
    assert compare(log, [stored_book(False, bid), stored_book(False, later)]).exact
    assert compare(log[:2], []).missing


def test_records_lost_on_one_of_two_connections_need_not_be_stored():
    log = [opened(1, 0), ticker(1, "1"), opened(2, 1.5), ticker(2, "1", connection=2), ticker(3, "2")]
    alone = ticker(4, "3", connection=2)
    after = [{"event": "closed", "connection": 1, "time": START + 5}, ticker(6, "4", connection=2)]
    stored = [stored_ticker(bid) for bid in "1234"]
    assert compare([*log, alone, *after], stored).exact
    assert compare([*log, alone, *after], [stored[0], stored[1], stored[3]]).exact
    assert len(compare([*log, alone, *after], stored[:3]).missing) == 1


def test_the_book_requested_on_the_only_connection_must_be_stored():
    log = [opened(1, 0), book(1, "delta", [["2", "5"]]), book(2, "snapshot", [["1", "5"]], connection=None)]
    later = [opened(2, 3), book(4, "delta", [["2", "6"]], connection=2)]
    asked_for_again = book(5, "snapshot", [["1", "6"]], connection=None)
    for sent in (log, [*log, *later, asked_for_again]):
        assert sorted(it["sequence"] for it in compare(sent, []).missing) == [1, 2]
