"""``launcher exchanges``, ``channels`` and ``symbols``; the exchange is a simulated one."""

import json
import sys

import pytest
from scripted import Script, ScriptedExchange
from simulated import Simulator

from collector import catalog
from launcher import cli

#: As in the exchange's messages of 2026-08, with the fields that tell what an instrument is.
OKX = """
{"get": "https://www.okx.com/api/v5/public/instruments?instType=SPOT", "body": {"code":"0","msg":"","data":[{"baseCcy":"BTC","instId":"BTC-USDT","instType":"SPOT","lotSz":"0.00000001","quoteCcy":"USDT","state":"live","tickSz":"0.1"}]}}
{"get": "https://www.okx.com/api/v5/public/instruments?instType=SWAP", "body": {"code":"0","msg":"","data":[{"ctMult":"1","ctVal":"0.01","ctValCcy":"BTC","expTime":"","instId":"BTC-USDT-SWAP","instType":"SWAP","lotSz":"0.01","settleCcy":"USDT","state":"live","tickSz":"0.1","uly":"BTC-USDT"}]}}
{"get": "https://www.okx.com/api/v5/public/instruments?instType=FUTURES", "body": {"code":"0","msg":"","data":[]}}
{"get": "https://www.okx.com/api/v5/public/instruments?instType=OPTION&instFamily=BTC-USD", "body": {"code":"0","msg":"","data":[{"ctMult":"0.01","ctVal":"1","ctValCcy":"BTC","expTime":"1798185600000","instId":"BTC-USD-261225-92000-C","instType":"OPTION","lotSz":"1","optType":"C","settleCcy":"BTC","state":"live","stk":"92000","tickSz":"0.0001","uly":"BTC-USD"}]}}
{"get": "https://www.okx.com/api/v5/public/instruments?instType=OPTION&instFamily=ETH-USD", "body": {"code":"0","msg":"","data":[]}}
{"get": "https://www.okx.com/api/v5/public/instruments?instType=OPTION&instFamily=BTC-USD_UM", "body": {"code":"0","msg":"","data":[]}}
{"get": "https://www.okx.com/api/v5/public/instruments?instType=OPTION&instFamily=ETH-USD_UM", "body": {"code":"0","msg":"","data":[]}}
{"get": "https://www.okx.com/api/v5/public/instruments?instType=OPTION&instFamily=SOL-USD_UM", "body": {"code":"0","msg":"","data":[]}}
"""  # noqa: E501


@pytest.fixture(scope="module")
def simulator():
    with Simulator(symbols={"KRAKEN": ["ETH-USD", "BTC-USD", "ETH-BTC"]}) as simulator:
        yield simulator


@pytest.fixture
def launch(capsys, monkeypatch, simulator):
    """Runs a command; its exit status, and what it printed."""
    for name, value in simulator.environment.items():
        monkeypatch.setenv(name, value)

    def launch(*arguments):
        status = cli.main(arguments)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return status, printed.out, printed.err

    return launch


def test_exchanges(launch):
    status, out, _ = launch("exchanges")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == [*catalog.exchanges()]
    told = json.loads(launch("exchanges", "--json")[1])
    assert told["KRAKEN"]["channels"] == [*catalog.exchanges()["KRAKEN"].channels]


def test_channels(launch):
    lines = launch("channels", "kraken")[1].splitlines()
    assert lines[0].split() == ["CHANNEL", "LOSS", "SILENCE", "RECORDS"]
    assert [line.split()[:2] for line in lines[1:6]] == [
        ["trades", "ids"],
        ["ticker", "nothing"],
        ["l1_book", "nothing"],
        ["l2_book", "checksum"],
        ["candles", "nothing"],
    ]
    assert lines[6:9] == [
        "KRAKEN is supported natively",
        "in a fleet file: `channels: [trades, ticker, l1_book, l2_book, candles]`, or some of these",
        "`candle_interval` is one of 1m, 5m, 15m, 30m, 1h, 4h, 1d, 1w, 15d",
    ]
    assert "`endpoint` may be eea or us" in launch("channels", "okx")[1].splitlines()
    told = json.loads(launch("channels", "KRAKEN", "--json")[1])
    assert (told["channels"][0], told["by"]) == ("trades", "cryptostore")
    assert told["about"]["trades"]["source"]
    assert told["limits"]["source"]
    assert launch("channels", "krakn") == (
        2,
        "",
        "launcher: exchange krakn: no such exchange; did you mean KRAKEN?\n",
    )


def test_one_exchange_is_shown_by_channels(capsys):
    with pytest.raises(SystemExit):
        cli.main(["exchanges", "KRAKEN"])
    said = "unexpected argument KRAKEN; `launcher channels EXCHANGE` shows one\n"
    assert capsys.readouterr().err.endswith(said)


def test_channels_of_an_exchange_that_cryptofeed_speaks_to(launch):
    said = launch("channels", "deribit")[1]
    assert "DERIBIT is supported through cryptofeed; partly needs API keys" in said
    assert "l2_book needs API keys (CONFIG) since 2022-01-15" in said


@pytest.mark.parametrize(
    "exchange", [name for name, it in catalog.exchanges().items() if it.by == "cryptostore"]
)
def test_the_limits_are_shown_with_their_source(launch, exchange):
    limits = catalog.exchanges()[exchange].limits
    assert limits
    (line,) = [
        line
        for line in launch("channels", exchange)[1].splitlines()
        if line.startswith("limits of the exchange: ")
    ]
    assert f"{limits.subscriptions:,} subscriptions on a connection" in line
    assert line.endswith(f" ({limits.source})")


def test_symbols(launch):
    status, out, _ = launch("symbols", "kraken")
    assert (status, out.splitlines()) == (
        0,
        [
            "SYMBOL   TYPE  TICK  LOT         CONTRACT  EXPIRY",
            "BTC-USD  spot  0.1   0.00000001  -         -",
            "ETH-BTC  spot  0.01  0.00000001  -         -",
            "ETH-USD  spot  0.01  0.00000001  -         -",
        ],
    )
    status, out, _ = launch("symbols", "kraken", "ETH-*", "!*-BTC", "--json")
    (row,) = json.loads(out)
    assert status == 0
    assert {name: value for name, value in row.items() if value is not None} == {
        "symbol": "ETH-USD",
        "type": "spot",
        "exchange_symbol": "ETH/USD",
        "base": "ETH",
        "quote": "USD",
        "tick": "0.01",
        "lot": "0.00000001",
    }


def test_the_details_of_a_contract_are_shown(capsys, monkeypatch):
    with ScriptedExchange(Script(OKX.strip(), 0, "OKX's lists")) as exchange:
        for name, value in exchange.environment.items():
            monkeypatch.setenv(name, value)
        assert cli.main(["symbols", "okx", "!type:spot", "ALL", "--json"]) == 0
        rows = {row["symbol"]: row for row in json.loads(capsys.readouterr().out)}
        assert cli.main(["symbols", "okx"]) == 0
    option = rows["BTC-USD-92000-26Z25-call"]
    assert option == {
        "symbol": "BTC-USD-92000-26Z25-call",
        "type": "option",
        "exchange_symbol": "BTC-USD-261225-92000-C",
        "base": "BTC",
        "quote": "USD",
        "tick": "0.0001",
        "lot": "1",
        "contract_size": "0.01",
        "contract_unit": "BTC",
        "settlement": "BTC",
        "expiry": "2026-12-25T08:00:00Z",
        "strike": "92000",
    }
    perpetual = rows["BTC-USDT-PERP"]
    assert (perpetual["contract_size"], perpetual["contract_unit"]) == ("0.01", "BTC")
    assert (perpetual["settlement"], perpetual["expiry"], perpetual["strike"]) == ("USDT", None, None)
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["BTC-USD-92000-26Z25-call", "option", "0.0001", "1", "0.01", "BTC", "2026-12-25"],
        ["BTC-USDT", "spot", "0.1", "0.00000001", "-", "-"],
        ["BTC-USDT-PERP", "perpetual", "0.1", "0.01", "0.01", "BTC", "-"],
    ]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("*-usd", "SYMBOLS = '*-usd': KRAKEN lists no symbols like that; did you mean *-USD?"),
        ("!*-USD", "SYMBOLS = '!*-USD': only excludes; for everything else write ALL,!*-USD"),
        ("type:option", "SYMBOLS = 'type:option': KRAKEN lists none; it has spot"),
    ],
)
def test_patterns_that_select_nothing(launch, pattern, said):
    assert launch("symbols", "kraken", pattern) == (2, "", f"launcher: {said}\n")


def test_symbols_of_another_address(capsys, monkeypatch):
    moved = OKX.replace("www.okx.com", "eea.okx.com")
    with ScriptedExchange(Script(moved.strip(), 0, "OKX's lists")) as exchange:
        for name, value in exchange.environment.items():
            monkeypatch.setenv(name, value)
        assert cli.main(["symbols", "okx", "type:spot", "--endpoint", "EEA"]) == 0
        assert cli.main(["symbols", "okx", "--endpoint", "eae"]) == 2
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["SYMBOL", "BTC-USDT"]
    assert "ENDPOINT = 'eae': OKX has no region of that name; did you mean eea?" in printed.err


def test_an_unreachable_exchange(launch, monkeypatch, simulator):
    simulator.fault("refuse_reference", status=503, count=1)
    status, out, err = launch("symbols", "kraken")
    assert (status, out) == (1, "")
    assert "KRAKEN does not return its symbols" in err
    assert "503" in err
    assert err.endswith("; try again later\n")
    monkeypatch.setenv("HTTPS_PROXY", "nowhere")
    assert launch("symbols", "kraken")[0] == 2


@pytest.mark.parametrize(
    ("exchange", "addresses"),
    [("kraken", "(rest=https://HOST)"), ("okx", "(eea or us or rest=https://HOST)"), ("deribit", None)],
)
def test_without_a_network_the_ways_to_an_exchange_are_named(launch, monkeypatch, exchange, addresses):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    status, out, err = launch("symbols", exchange)
    assert (status, out) == (1, "")
    assert err.startswith(f"launcher: {exchange.upper()} does not return its symbols: ")
    assert "; if this machine needs a proxy, set HTTPS_PROXY, and SSL_CERT_FILE if " in err
    if addresses:
        assert err.endswith(f"; --endpoint {addresses} asks at another address\n")
    else:
        assert "--endpoint" not in err


def test_without_cryptofeed(launch, monkeypatch):
    monkeypatch.setitem(sys.modules, "collector.listing", None)
    monkeypatch.delattr("collector.listing", raising=False)
    status, out, err = launch("symbols", "kraken")
    assert (status, out) == (1, "")
    assert "pip install 'cryptostore[collector]'" in err
