"""What is known not to work is refused with its date and who says so, and nothing that is shipped uses it."""

from pathlib import Path

import pytest
import yaml

from collector import catalog, known_issues, settings
from collector.exchanges.directory import EXCHANGES
from collector.settings import Settings, SettingsError

DEPLOYMENTS = sorted((Path(__file__).parents[2] / "deployments").glob("*.yaml"))
GIVEN = {"CHANNELS": "trades", "BACKEND": "TTY"}


def read(exchange, **more):
    return Settings.read(GIVEN | {"EXCHANGE": exchange, "SYMBOLS": "BTC-USDT"} | more)


@pytest.mark.parametrize("exchange", [*known_issues.CLOSED, *known_issues.BROKEN])
def test_closed_and_broken_exchanges_are_refused_with_date_and_source(exchange):
    issue = known_issues.CLOSED.get(exchange) or next(iter(known_issues.BROKEN[exchange].values()))
    with pytest.raises(SettingsError) as raised:
        read(exchange)
    assert f"EXCHANGE = '{exchange}': {issue.what} ({issue.source}); choose from " in str(raised.value)
    assert catalog.exchanges()[exchange].state.endswith(f" since {issue.since}")
    assert exchange not in catalog.usable()


def test_a_channel_that_is_broken_is_refused_and_the_others_are_not(monkeypatch):
    issue = known_issues.KnownIssue("brings nothing since 2025", "2025", "the exchange")
    known = catalog.Exchange(by="cryptofeed", channels=("ticker",), broken={"trades": issue})
    monkeypatch.setattr(catalog, "exchanges", lambda: {"HALF": known})
    with pytest.raises(SettingsError) as raised:
        read("HALF")
    assert "HALF's trades brings nothing since 2025 (the exchange); leave it out" in str(raised.value)
    assert read("HALF", CHANNELS="ticker").channels == ("ticker",)
    assert catalog.usable() == ["HALF"]


def test_recording_an_unverified_exchange_is_warned_about():
    (warning,) = read("HITBTC").warnings
    assert warning == "HITBTC: nobody has been able to verify that recording it still works"
    assert catalog.exchanges()["HITBTC"].state == "not verified"
    assert not read("COINBASE").warnings


def test_channels_that_need_keys_are_refused_without_them(tmp_path):
    keys = tmp_path / "keys.yaml"
    keys.write_text("deribit: {key_id: a, key_secret: b}\n")
    with pytest.raises(SettingsError) as raised:
        read("DERIBIT", CHANNELS="trades,funding")
    (fault,) = raised.value.faults
    assert fault.variable == "CHANNELS"
    assert "DERIBIT's trades needs API keys (CONFIG) since 2022-01-15" in str(fault)
    assert not read("DERIBIT", CONFIG=str(keys)).warnings
    assert not read("DERIBIT", CHANNELS="funding").warnings
    assert catalog.exchanges()["DERIBIT"].state == "partly needs API keys"


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_unused_keys_are_reported(exchange, tmp_path):
    keys = tmp_path / "keys.yaml"
    keys.write_text("coinbase: {key_id: a, key_secret: b}\n")
    (warning,) = read(exchange, CONFIG=str(keys)).warnings
    assert warning.startswith(f"CONFIG is not used: {exchange} is recorded without cryptofeed")


def test_every_known_issue_is_of_a_cryptofeed_exchange_and_has_a_year():
    of_exchanges = {*known_issues.CLOSED, *known_issues.BROKEN, *known_issues.NOT_VERIFIED}
    assert of_exchanges <= catalog.exchanges().keys()
    assert not of_exchanges & EXCHANGES.keys()
    for each in [
        *known_issues.CLOSED.values(),
        *(one for many in known_issues.BROKEN.values() for one in many.values()),
    ]:
        assert 2020 <= int(each.since[:4]) <= 2026
        assert each.source


def test_every_channel_of_a_native_exchange_is_described():
    for name in EXCHANGES:
        exchange = catalog.exchanges()[name]
        assert exchange.about.keys() == {*exchange.channels}
        assert all(about.records and about.loss for about in exchange.about.values())


@pytest.mark.parametrize("path", DEPLOYMENTS, ids=lambda path: path.stem)
def test_deployments_name_exchanges_that_can_be_recorded(path):
    for collector in yaml.safe_load(path.read_text())["collectors"]:
        assert settings.exchange(collector["exchange"]) in catalog.usable()
