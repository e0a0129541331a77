"""``collector decode``, as a person uses it."""

import base64
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from collector.cli import main
from collector.exchanges.directory import EXCHANGES

TRADE = (
    '{"stream":"btcusdt@trade","data":'
    '{"e":"trade","E":1,"s":"BTCUSDT","t":7,"p":"1.50","q":"2","T":5,"m":true}}'
)
UPDATE = (
    '{"stream":"btcusdt@depth@100ms","data":'
    '{"e":"depthUpdate","E":9,"s":"BTCUSDT","U":11,"u":12,"b":[["1.0","2"]],"a":[]}}'
)
SNAPSHOT = '{"lastUpdateId":10,"bids":[["0.5","1"]],"asks":[["3","1"]]}'
QUOTE = '{"stream":"btcusdt@bookTicker","data":{"u":7,"s":"BTCUSDT","b":"1","B":"2","a":"3","A":"4"}}'
LISTING = json.dumps(
    {"symbols": [{"symbol": "BTCUSDT", "baseAsset": "BTC", "quoteAsset": "USDT", "status": "TRADING"}]}
)


@pytest.fixture
def decode(tmp_path, capsysbinary):
    """Writes lines to a file, decodes it, and returns the exit status and the objects that were printed."""

    def run(*lines, exchange="BINANCE", options=()):
        file = tmp_path / "messages.jsonl"
        file.write_text("".join(f"{line}\n" for line in lines))
        status = main(["decode", exchange, "--receipt", "3.5", *options, str(file)])
        return status, [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]

    return run


def test_a_message_becomes_what_would_be_stored(decode):
    status, (confirmed, trade) = decode(TRADE)
    place = {"symbol": None, "exchange_symbol": "BTCUSDT"}
    assert confirmed == {"event": "confirmed", "subscriptions": [{"channel": "trades"} | place], "by": "data"}
    assert trade == {
        "record": {"channel": "trades", "exchange": "BINANCE"}
        | place
        | {
            "timestamp": 5_000_000,
            "receipt_timestamp": 3_500_000_000,
            "side": "sell",
            "amount": "2",
            "price": "1.50",
            "id": "7",
            "type": None,
        }
    }
    assert status == 0


def test_a_listing_provides_the_symbols(decode, tmp_path):
    (tmp_path / "listing.json").write_text(LISTING)
    _, (_, trade) = decode(TRADE, options=["--listing", str(tmp_path / "listing.json")])
    assert trade["record"]["symbol"] == "BTC-USDT"


def test_other_symbols_and_channels_are_ignored(decode, tmp_path):
    (tmp_path / "listing.json").write_text(LISTING)
    listing = ["--listing", str(tmp_path / "listing.json")]
    _, shown = decode(TRADE, options=[*listing, "--symbols", "ETH-USDT"])
    assert [each["event"] for each in shown] == ["confirmed", "ignored"]
    assert decode(TRADE, options=["--channels", "ticker"]) == (0, [{"event": "ignored", "kind": "trade"}])


def test_the_number_of_best_prices_is_not_shown(decode):
    _, (_, ticker, l1_book) = decode(QUOTE)
    place = {"exchange": "BINANCE", "symbol": None, "exchange_symbol": "BTCUSDT"}
    place |= dict.fromkeys(("timestamp", "receipt_timestamp"), 3_500_000_000)
    sizes = {"bid_price": "1", "bid_size": "2", "ask_price": "3", "ask_size": "4"}
    assert ticker["record"] == {"channel": "ticker", "bid": "1", "ask": "3"} | place
    assert l1_book["record"] == {"channel": "l1_book"} | sizes | place


def test_a_line_that_stores_nothing_is_reported(decode):
    status, (_, _, again) = decode(QUOTE, QUOTE, options=["--channels", "ticker"])
    assert again == {"event": "ignored", "kind": "nothing to store"}
    assert status == 0


def test_an_unreadable_message_is_shown_with_its_reason_and_status_65(decode):
    bad = TRADE.replace("1.50", "NaN")
    status, (malformed,) = decode(bad)
    assert (malformed["malformed"], malformed["frame"]) == ("'NaN' is not a number", bad)
    assert malformed["about"][0]["channel"] == "trades"
    assert status == 65


@pytest.mark.parametrize("answer", ["by id", "in the stream", "from a file"])
def test_a_snapshot_answers_the_request_of_a_book(decode, tmp_path, answer):
    lines, options = [UPDATE], []
    if answer == "by id":
        lines.append(f'{{"answer": 1, "body": {SNAPSHOT}}}')
    elif answer == "in the stream":
        lines.append(SNAPSHOT)
    else:
        (tmp_path / "snapshot.json").write_text(SNAPSHOT)
        options = ["--answers", str(tmp_path / "snapshot.json")]
    _, shown = decode(*lines, options=options)
    assert [each.get("event") for each in shown] == ["confirmed", "request", "resync", None, None]
    assert shown[1]["url"] == "https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=5000"
    assert (shown[1]["id"], shown[1]["weight"]) == (1, 250)
    assert [each["record"]["bid"] for each in shown[3:]] == [[["0.5", "1"]], [["1.0", "2"]]]
    assert [each["record"]["delta"] for each in shown[3:]] == [False, True]


def test_an_unrequested_answer_is_reported(tmp_path, capsys):
    (tmp_path / "snapshot.json").write_text(SNAPSHOT)
    main(["decode", "BINANCE", "--answers", str(tmp_path / "snapshot.json"), os.devnull])
    assert "no request asked for" in capsys.readouterr().err


def test_a_poll_is_read(decode):
    body = '{"openInterest":"10.5","symbol":"BTCUSDT","time":8}'
    line = f'{{"poll": "open_interest", "symbol": "BTCUSDT", "body": {body}}}'
    _, (shown,) = decode(line, exchange="BINANCE_FUTURES")
    assert shown["record"]["open_interest"] == "10.5"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"answer": 9, "body": {}}', "9"),
        ('{"poll": "trades", "symbol": "X", "body": {}}', "no polled channel trades"),
        ('{"answer": "x", "body": {}}', "Expected"),
        ("base64:%", "not base64"),
    ],
)
def test_an_invalid_input_line_is_malformed(decode, line, reason):
    status, (shown,) = decode(line)
    assert reason in shown["malformed"]
    assert status == 65


def test_binary_frames_are_given_and_shown_as_base64(decode):
    _, (_, trade) = decode("base64:" + base64.b64encode(TRADE.encode()).decode())
    assert trade["record"]["id"] == "7"


def test_a_frame_that_is_not_text_is_shown_as_base64(tmp_path, capsysbinary):
    (tmp_path / "frames").write_bytes(b"\xff\xfe\n")
    assert main(["decode", "BINANCE", str(tmp_path / "frames")]) == 65
    shown = json.loads(capsysbinary.readouterr().out)
    assert shown["frame"] == "base64:" + base64.b64encode(b"\xff\xfe").decode()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["BINANC"], "decode cannot read BINANC; did you mean BINANCE? it reads BINANCE, "),
        (
            ["messages.json"],
            "messages.json is not an exchange; its name comes first: `collector decode EXCHANGE ",
        ),
        (["BINANCE", "/nowhere"], "cannot read /nowhere: No such file or directory"),
        (["BINANCE", "--channels", "funding"], "BINANCE has no channel funding; it has trades, "),
        (["BINANCE", "--symbols", "BTC-USDT"], "--symbols needs --listing"),
        (["BINANCE", "--listing", os.devnull], "--listing: no listing of BINANCE: "),
    ],
)
def test_wrong_arguments_say_what_is_right(arguments, message, capsys):
    assert main(["decode", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_it_reads_standard_input_and_needs_no_settings(monkeypatch, capsysbinary):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TRADE.encode())))
    assert main(["decode", "binance"]) == 0
    assert len(capsysbinary.readouterr().out.splitlines()) == 2


def test_a_reader_that_stops_early_is_no_error(tmp_path):
    file = tmp_path / "messages"
    file.write_text(f"{TRADE}\n" * 20_000)
    command = f"{sys.executable} -m collector decode BINANCE {file} | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


# -- recordings --------------------------------------------------------------------------------------------

#: Recorded messages, which are not the project's to publish.
RECORDINGS = Path(__file__).parents[3] / "shared" / "messages"
EXPECTED = json.loads(Path(__file__).with_name("recordings.json").read_text())


def counted(shown):
    """How many records, events and malformed lines there are, by kind, and the reasons of the latter."""
    counts, reasons = {}, []
    for each in shown:
        if record := each.get("record"):
            kind = record["channel"]
        elif reason := each.get("malformed"):
            kind = "malformed"
            reasons.append(reason)
        else:
            kind = each["event"]
        counts[kind] = counts.get(kind, 0) + 1
    return counts | ({"reasons": reasons} if reasons else {})


@pytest.mark.skipif(not RECORDINGS.exists(), reason="there are no recorded messages beside the project")
@pytest.mark.parametrize("exchange", sorted({name.split("/")[0] for name in EXPECTED}))
def test_recorded_messages_are_read_as_before(exchange, capsysbinary):
    files = {
        f"{exchange}/{path.name}": path
        for path in sorted((RECORDINGS / exchange).glob("*.json*"))
        if not path.name.endswith("received_ns.jsonl")
    }
    found = {}
    for name, path in files.items():
        status = main(["decode", exchange, "--receipt", "1800000000", str(path)])
        found[name] = counted(json.loads(line) for line in capsysbinary.readouterr().out.splitlines())
        assert status == (65 if "malformed" in found[name] else 0)
    assert found == {name: counts for name, counts in EXPECTED.items() if name.split("/")[0] == exchange}


def test_every_native_exchange_has_recordings():
    assert {name.split("/")[0] for name in EXPECTED} == set(EXCHANGES) - {"BINANCE_US"}  # as BINANCE's


def test_the_transcript_in_the_documentation_is_real(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "exchanges.md").read_text()
    transcript = page.split("```console\n")[1].split("```")[0]
    _, messages, shown = re.split(r"^\$ .*\n", transcript, flags=re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    Path("messages.jsonl").write_text(messages)
    status = main(["decode", "BINANCE", "--receipt", "1", "messages.jsonl"])
    assert f"{capsys.readouterr().out}exit status {status}\n" == shown


@pytest.mark.parametrize("receipt", ["now", "-1", "inf", "2026-11-28"])
def test_an_invalid_receipt_time_is_refused(receipt, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["decode", "BINANCE", "--receipt", receipt])
    assert ended.value.code == 2
    assert f"--receipt: '{receipt}' is not a time in seconds since 1970" in capsys.readouterr().err
