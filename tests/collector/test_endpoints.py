"""ENDPOINT: addresses in place of an exchange's own, what they mean and what is said of wrong ones."""

import pytest

from collector.endpoints import Endpoint
from collector.exchanges.directory import EXCHANGES
from collector.exchanges.protocol import Options
from collector.settings import Settings, SettingsError

GOOD = {"EXCHANGE": "OKX", "SYMBOLS": "BTC-USDT", "CHANNELS": "trades", "BACKEND": "TTY"}


@pytest.mark.parametrize(
    ("exchange", "text", "addresses"),
    [
        (
            "OKX",
            "EEA",
            {"websocket": "wss://wseea.okx.com:443/ws/v5", "rest": "https://eea.okx.com/api/v5"},
        ),
        (
            "BINANCE",
            "market-data",
            {
                "websocket": "wss://data-stream.binance.vision:443",
                "rest": "https://data-api.binance.vision/api/v3",
            },
        ),
        (
            "BYBIT",
            "kz",
            {"websocket": "wss://stream.bybit.kz/v5/public", "rest": "https://api.bybit.kz/v5/market"},
        ),
        (
            "BYBIT",
            "eu",
            {"websocket": "wss://stream.bybit.eu/v5/public", "rest": "https://api.bybit.eu/v5/market"},
        ),
        # the path is the usual one, unless there is another
        ("OKX", "websocket=wss://ws.okx.com:8443", {"websocket": "wss://ws.okx.com:8443/ws/v5"}),
        ("OKX", "REST=https://[::1]:9/v6/", {"rest": "https://[::1]:9/v6"}),
        (
            "KRAKEN",
            "websocket=wss://a, rest=https://b",
            {"websocket": "wss://a/v2", "rest": "https://b/0/public"},
        ),
    ],
)
def test_an_endpoint_replaces_the_address_of_the_exchange(exchange, text, addresses):
    settings = Settings.read(GOOD | {"EXCHANGE": exchange, "ENDPOINT": text})
    assert settings.endpoint == addresses
    ours = EXCHANGES[exchange]
    assert {ours(Options(endpoints=settings.endpoint)).endpoint(name) for name in ours.endpoints} == {
        *({**ours.endpoints, **addresses}.values())
    }


@pytest.mark.parametrize(
    ("exchange", "text", "said"),
    [
        ("OKX", "eae", "OKX has no region of that name; did you mean eea?: it has eea, us; else NAME=URL"),
        ("COINBASE", "eu", "COINBASE has no region of that name: it has none; else NAME=URL pairs"),
        ("OKX", "wss://ws.okx.com", "takes the name of a region, or NAME=URL pairs such as websocket=wss://"),
        ("OKX", "websocket=wss://a,https://b", "takes the name of a region, or NAME=URL pairs"),
        ("OKX", "ws=wss://a", "OKX has no address called ws; choose from websocket, rest"),
        ("OKX", "websocket=https://a", "websocket: takes an address that begins with wss://"),
        ("OKX", "rest=http://a", "rest: takes an address that begins with https://"),
        ("OKX", "rest=https://a:99999", "rest: the address has no valid host and port"),
        ("OKX", "rest=https://a?b=c", "rest: takes a host, a port and a path"),
        ("OKX", "rest=https://me:canary@a", "rest: the address has a user in it"),
        ("OKX", "rest=https://a,rest=https://b", "gives rest twice"),
        ("OKX", "rest=", "rest: the address has no scheme"),
        ("BITSTAMP", "eu", "BITSTAMP is recorded through cryptofeed, whose addresses cannot be replaced"),
    ],
)
def test_a_bad_address_is_explained(exchange, text, said):
    with pytest.raises(SettingsError) as caught:
        Settings.read(GOOD | {"EXCHANGE": exchange, "ENDPOINT": text})
    (fault,) = caught.value.faults
    assert fault.variable == "ENDPOINT"
    assert said in str(fault)
    assert "canary" not in str(fault)


def test_a_region_has_the_same_addresses_as_its_exchange():
    for name, exchange in EXCHANGES.items():
        for region, addresses in exchange.regions.items():
            assert addresses.keys() == exchange.endpoints.keys(), (name, region)
            assert Endpoint(region).of(name) == addresses
            for scheme, kind in (("wss", "websocket"), ("https", "rest")):
                assert addresses[kind].startswith(f"{scheme}://")
