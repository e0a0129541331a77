"""Updates of real collectors: what cannot work is found before the old one stops."""

import json

import pytest
from stage import docker
from test_fleet import Fleet
from waiting import wait_until

pytestmark = pytest.mark.docker

PASSWORD = "canary-of-the-store"


class OneCollector(Fleet):
    def write(self, symbols, password=PASSWORD, host="redis"):
        """One simulated exchange into a Redis that asks for a password."""
        file = {
            "fleet": self.name,
            "image": self.image,
            "network": {"name": self.stage.name, "external": True},
            "source": "simulated",
            "stores": {"redis": {"backend": "REDISSTREAM", "host": host, "password": password}},
            "collectors": [{"exchange": "KRAKEN", "symbols": symbols, "channels": ["trades"]}],
        }
        self.path.write_text(json.dumps(file))


@pytest.fixture
def fleet(tmp_path, stage, image):
    with stage.client() as client:
        client.config_set("requirepass", PASSWORD)
    fleet = OneCollector(tmp_path, stage, f"{stage.name}:pinned")
    docker("tag", image, fleet.image)  # another build would be an update of its own
    yield fleet
    fleet.launch("down", "--volumes", "--yes")
    docker("rmi", fleet.image)


def stored(fleet):
    with fleet.stage.client(password=PASSWORD) as client:
        return sum(client.xlen(key) for key in client.keys("trades-*"))


def waiting(fleet):
    """How many records the collector says are in its spool."""
    found = docker("exec", fleet.containers()["kraken"]["Id"], "sh", "-c", "cat /spool/*/status.json")
    return json.loads(found)["spool"]["records"]


@pytest.mark.slow
def test_good_updates_succeed_and_bad_ones_are_rolled_back(fleet, capsys):
    fleet.write(["BTC-USD"])
    assert fleet.launch("doctor") == 0  # the simulator is not up: there is little to try
    assert fleet.launch("up") == 0
    assert fleet.launch("doctor") == 0
    said = capsys.readouterr()
    assert "ready to start" in said.out
    assert "REDISSTREAM at redis:6379 knows this collector" in said.out
    assert said.err.count("kraken: ready") == 1
    before = fleet.identities()

    for symbols, options, why in (
        (["BTC-USDX"], {}, "KRAKEN lists no such symbol; did you mean BTC-USD"),
        (["BTC-USD"], {"password": "wrong"}, "refuses the collector"),
        (["BTC-USD"], {"host": "nowhere"}, "is not reachable"),
    ):
        fleet.write(symbols, **options)
        assert fleet.launch("up") == 1
        said = capsys.readouterr().err
        assert why in said
        assert "the old container was left as it is" in said
        assert fleet.identities() == before
    assert fleet.launch("doctor") == 1
    count = stored(fleet)
    wait_until(lambda: stored(fleet) > count)

    fleet.write(["BTC-USD", "ETH-USD"])
    assert fleet.launch("up") == 0
    said = capsys.readouterr()
    assert "s unseen" in said.out
    assert {name for name in before if fleet.identities()[name] != before[name]} == {"kraken"}
    with fleet.stage.client(password=PASSWORD) as client:
        wait_until(lambda: client.xlen("trades-KRAKEN-ETH-USD"))

    assert PASSWORD not in docker("inspect", *(each["Id"] for each in fleet.containers().values()))


def test_undelivered_records_are_kept_across_an_update(fleet, capsys):
    fleet.write(["BTC-USD"])
    assert fleet.launch("up") == 0
    docker("pause", fleet.stage.redis)
    try:
        wait_until(lambda: waiting(fleet))  # or a quick stop would find nothing received since
        capsys.readouterr()
        assert fleet.launch("down", "kraken", "--volumes") == 1
        assert "records that are not stored" in capsys.readouterr().err
    finally:
        docker("unpause", fleet.stage.redis)
    assert fleet.launch("up") == 0
    wait_until(lambda: stored(fleet))
