"""What counts as a fault, and when one strikes."""

import msgspec
import pytest

from collector.simulator.faults import Fault, Faults


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"fault": "explode"}, "explode"),
        ({"fault": "reset", "exchange": "NYSE"}, "NYSE"),
        ({"fault": "reset", "colour": "red"}, "colour"),
        ({"fault": "reset", "count": 0}, "count is 1 or more"),
        ({"fault": "quiet", "seconds": -1}, "seconds is more than 0"),
        ({"fault": "close", "code": 7}, "websocket close code"),
        ({"fault": "refuse_reference", "status": 200}, "200"),
        ({}, "fault"),
    ],
)
def test_wrong_requests_say_what_is_wrong(request_, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(request_, Fault)


def test_a_fault_strikes_as_often_as_it_should():
    faults = Faults()
    faults.add(Fault(fault="malformed"))
    faults.add(Fault(fault="reset", count=2, exchange="KRAKEN"))
    assert faults.take("malformed", "COINBASE", 1)
    assert not faults.take("malformed", "COINBASE", 1)
    assert not faults.take("reset", "COINBASE", 1)
    assert [bool(faults.take("reset", "KRAKEN", 2)) for _ in range(3)] == [True, True, False]


def test_a_fault_strikes_what_it_is_meant_for():
    faults = Faults()
    faults.add(Fault(fault="refuse_subscription", channel="trades", symbol="BTC-USD"))
    assert faults.take("refuse_subscription", "KRAKEN", 1, ("trades", "BTC-USD"))
    assert not faults.take("refuse_subscription", "KRAKEN", 1, ("ticker", "BTC-USD"))
    assert not faults.take("refuse_subscription", "KRAKEN", 1, ("trades", "ETH-USD"))
    faults.clear()
    assert not faults.take("refuse_subscription", "KRAKEN", 1, ("trades", "BTC-USD"))


def test_a_fault_ends_after_its_seconds():
    faults = Faults()
    faults.add(Fault(fault="deaf", seconds=1e-9))
    assert not faults.take("deaf", "KRAKEN", 1)
    assert faults.standing() == []
