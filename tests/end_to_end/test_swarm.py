"""Real collectors as services of a real swarm: a fleet goes up, is edited and taken down."""

import json

import pytest
from stage import Stage, docker
from test_fleet import Fleet
from waiting import wait_until

pytestmark = pytest.mark.docker

PASSWORD = "canary-of-a-swarm"


class Services(Fleet):
    def write(self, symbols):
        """Two exchanges into a Redis that asks for a password."""
        self.path.write_text(
            json.dumps(
                {
                    "fleet": self.name,
                    "engine": "swarm",
                    "image": self.image,
                    "network": {"name": self.stage.name, "external": True},
                    "stores": {"redis": {"backend": "REDISSTREAM", "host": "redis", "password": PASSWORD}},
                    "defaults": {"channels": ["trades"], "ssl_cert_file": str(self.folder / "ca.pem")},
                    "collectors": [
                        {"exchange": exchange, "symbols": symbols} for exchange in ("COINBASE", "KRAKEN")
                    ],
                }
            )
        )

    def stored(self):
        """How many records each stream has."""
        with self.stage.client(password=PASSWORD) as client:
            return {key.decode(): client.xlen(key) for key in client.keys("trades-*")}


@pytest.fixture
def fleet(swarm, redis_image, image, tmp_path):
    for each in (image, redis_image):
        swarm.give(each)
    stage = Stage(redis_image, "--driver", "overlay", "--attachable")
    node, label = docker("node", "ls", "--quiet"), f"cryptostore.{stage.name}-fleet"
    fleet = Services(tmp_path, stage, image)
    try:
        with stage.client() as client:
            client.config_set("requirepass", PASSWORD)
        stage.simulator(image)
        docker("cp", f"{stage.name}-simulator:/simulator/ca.pem", str(tmp_path))
        docker("node", "update", "--label-add", f"{label}=true", node)
        fleet.write(["BTC-USD"])
        yield fleet
        fleet.launch("down", "--volumes", "--yes")
    finally:
        docker("node", "update", "--label-rm", label, node)
        stage.remove()


@pytest.mark.slow
def test_a_real_fleet_on_a_swarm(fleet, capsys):
    assert fleet.launch("doctor") == 0
    assert "REDISSTREAM at redis:6379" in capsys.readouterr().out
    assert fleet.launch("up") == 0
    wait_until(lambda: all(fleet.stored().get(f"trades-{each}-BTC-USD") for each in ("COINBASE", "KRAKEN")))
    assert fleet.launch("plan") == 0
    capsys.readouterr()

    fleet.write(["BTC-USD", "ETH-USD"])
    assert fleet.launch("up") == 0
    said = capsys.readouterr().out
    assert "2 updated" in said
    assert said.count(" s unseen") == 2
    wait_until(lambda: all(fleet.stored().get(f"trades-{each}-ETH-USD") for each in ("COINBASE", "KRAKEN")))

    def rows(*command):
        assert fleet.launch(*command, "--json") == 0
        return json.loads(capsys.readouterr().out)

    told = rows("status")
    assert [(row["collector"], row["state"]) for row in told] == [("coinbase", "ready"), ("kraken", "ready")]
    wait_until(lambda: all(row["status"]["channels"]["trades"]["stored"] for row in rows("status")))
    wait_until(lambda: all(row["until"] for row in rows("complete")))

    assert fleet.launch("down", "--volumes") == 0
    assert "2 removed" in capsys.readouterr().out
    assert fleet.things() == []
