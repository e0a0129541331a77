"""The probes of what is rendered for Kubernetes, in a container, as no cluster of the tests runs one."""

import subprocess

import pytest
import yaml
from waiting import wait_until

from launcher import cli

pytestmark = pytest.mark.docker

FLEET = """
fleet: desk
stores: {redis: {backend: REDIS, host: redis, password: mistaken}}
collectors: [{exchange: COINBASE, symbols: BTC-USD, channels: trades}]
"""


@pytest.fixture
def container_of_the_pod(tmp_path):
    """The container that is rendered."""
    (tmp_path / "fleet.yaml").write_text(FLEET)
    file, out = str(tmp_path / "fleet.yaml"), tmp_path / "out"
    assert cli.main(["render", file, "--format", "kubernetes", "--output", str(out)]) == 0
    documents = yaml.safe_load_all((out / "fleet.yaml").read_text())
    (stateful_set,) = (each for each in documents if each and each["kind"] == "StatefulSet")
    return stateful_set["spec"]["template"]["spec"]["containers"][0]


def test_a_collector_that_cannot_store_is_alive_and_not_ready(stage, image, container_of_the_pod):
    stage.simulator(image, "--rate", "40")
    with stage.client() as client:
        client.config_set("requirepass", "right")
    variables = {each["name"]: each.get("value", "desk-coinbase") for each in container_of_the_pod["env"]}
    variables |= {"SSL_CERT_FILE": "/simulator/ca.pem", "PASSWORD": "mistaken"}
    del variables["PASSWORD_FILE"]
    collector = stage.run(
        "collector",
        image,
        *(part for name, value in variables.items() for part in ("--env", f"{name}={value}")),
        *("--volume", f"{stage.name}-simulator:/simulator:ro"),
    )

    def probe(name):
        command = container_of_the_pod[name]["exec"]["command"]
        done = subprocess.run(["docker", "exec", collector, *command], capture_output=True, check=False)
        return done.returncode, done.stdout.decode()

    def passes(name):
        return probe(name)[0] == 0

    wait_until(lambda: "WRONGPASS" in probe("readinessProbe")[1] or "password" in probe("readinessProbe")[1])
    assert not passes("readinessProbe")
    assert passes("startupProbe")
    assert passes("livenessProbe")

    with stage.client(password="right") as client:
        client.config_set("requirepass", "mistaken")
    wait_until(lambda: passes("readinessProbe"))

    with stage.client(password="mistaken") as client:
        client.config_set("requirepass", "right")
        client.client_kill_filter(_type="normal")
    wait_until(lambda: not passes("readinessProbe"))
    assert passes("livenessProbe")
