import json
import re

import pytest
import yaml
from engines import unique
from hypothesis import given
from hypothesis import strategies as st
from parts import Missing, program
from rendering import BRIEFLY, IMAGE, ODD, VALUES, command, with_environment
from waiting import wait_until

from launcher import cli, fleet, render

FLEET = """
fleet: {name}
image: {image}
stores:
  redis: {{backend: REDIS, host: redis, password: ' se"c$$ret '}}
  files: {{backend: PARQUET, path: data}}
defaults: {{channels: trades, limits: {{memory: 64MiB, cpus: 0.1}}}}
collectors:
  - {{exchange: COINBASE, symbols: [BTC-USD, ETH-USD], store: redis}}
  - exchange: KRAKEN
    symbols: BTC-USD
    store: files
    config: keys.yaml
    limits: {{cpus: 1.5, pids: 99}}
    restart: on-failure:3
"""


def load(folder, name="desk", image="cryptostore:latest"):
    (folder / "data").mkdir(exist_ok=True)
    (folder / "keys.yaml").write_bytes(b"key: \xc3\xa9")
    path = folder / "fleet.yaml"
    path.write_text(FLEET.format(name=name, image=image))
    return fleet.load(path, {})


@pytest.fixture(scope="module")
def stack_command():
    if not program("docker"):
        raise Missing("Docker", "no docker command", "apt-get install docker.io")
    return ("docker", "stack", "config", "--compose-file")


def read(stack_command, folder):
    """The stack file as the client that deploys it reads it."""
    return yaml.safe_load(command(*stack_command, folder / "stack.yaml"))


def test_the_stack_file_is_what_docker_reads(stack_command, tmp_path):
    written = render.write(load(tmp_path), tmp_path / "out", "swarm")
    assert [str(path.relative_to(tmp_path / "out")) for path in written] == [
        *("stack.yaml", "secrets/coinbase.password", "secrets/kraken.config.yaml")
    ]
    assert written[0].stat().st_mode & 0o777 == 0o600
    assert written[1].parent.stat().st_mode & 0o777 == 0o700
    assert written[1].read_text() == 'se"c$$ret'
    stack = read(stack_command, tmp_path / "out")
    coinbase, kraken = stack["services"]["coinbase"], stack["services"]["kraken"]
    assert coinbase["environment"]["PASSWORD_FILE"] == "/run/secrets/password"
    assert "ret" not in json.dumps(stack).replace("secret", "")
    owner = {"uid": "10001", "gid": "10001", "mode": 0o400}
    assert coinbase["secrets"] == [
        {"source": "coinbase-password", "target": "/run/secrets/password", **owner}
    ]
    assert kraken["secrets"] == [
        {"source": "kraken-config.yaml", "target": "/run/secrets/config.yaml", **owner}
    ]
    assert stack["secrets"]["kraken-config.yaml"]["file"] == str(written[2])
    assert written[2].read_bytes() == b"key: \xc3\xa9"
    deploy = coinbase["deploy"]
    assert deploy["endpoint_mode"] == "dnsrr"
    assert deploy["update_config"]["order"] == deploy["rollback_config"]["order"] == "stop-first"
    assert deploy["placement"]["constraints"] == ["node.labels.cryptostore.desk == true"]
    assert deploy["restart_policy"]["condition"] == "any"
    assert kraken["deploy"]["restart_policy"] == {"condition": "on-failure", "delay": "2s", "max_attempts": 3}
    assert kraken["deploy"]["resources"]["limits"] == {"cpus": "1.5", "memory": str(64 * 2**20), "pids": 99}
    assert {(each["type"], each.get("source"), each["target"]) for each in kraken["volumes"]} == {
        ("volume", "desk-kraken-spool", "/spool"),
        ("bind", str(tmp_path / "data"), "/data"),
        ("tmpfs", None, "/tmp"),
    }


def test_a_changed_password_is_a_new_secret(stack_command, tmp_path):
    names = []
    for password in ("one", "two", "one"):
        path = tmp_path / "fleet.yaml"
        load(tmp_path)
        path.write_text(path.read_text().replace('se"c', password))
        render.write(fleet.load(path, {}), tmp_path / "out", "swarm")
        names.append(read(stack_command, tmp_path / "out")["secrets"]["coinbase-password"]["name"])
    assert names[0] == names[2] != names[1]
    assert names[0].startswith("desk-coinbase-password-")


def test_a_simulated_fleet_is_refused(tmp_path, capsys):
    load(tmp_path)
    path = tmp_path / "fleet.yaml"
    path.write_text(f"source: simulated\n{path.read_text()}")
    assert cli.main(["render", str(path), "--format", "swarm", "--output", str(tmp_path / "out")]) == 2
    assert "`source: simulated` is for trying out on one machine, not for a swarm" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


#: `docker stack config` itself writes texts with line breaks wrongly; the compose file's test covers them.
WRITTEN = VALUES.map(lambda text: re.sub(r"[\n\r\x85\u2028\u2029]", "", text))


@BRIEFLY
@given(st.lists(WRITTEN, min_size=50, max_size=100))
def test_every_value_survives(stack_command, tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("values")
    environment = {f"V{number}": value for number, value in enumerate((*ODD, *values))}
    render.write(with_environment(load(folder), environment), folder, "swarm")
    text = command(*stack_command, folder / "stack.yaml")
    services = yaml.load(text, yaml.CBaseLoader)["services"]  # a value such as = is a text for others
    assert services["coinbase"]["environment"] == environment


@pytest.mark.docker
@pytest.mark.slow
def test_a_real_swarm_runs_it(swarm, tmp_path):
    """The service gets its secret, its limits and a place; removing the stack leaves the spool."""
    name = unique("stack")
    swarm.give(IMAGE)
    api = swarm.client()
    render.write(load(tmp_path, name, IMAGE), tmp_path / "out", "swarm")
    stack = tmp_path / "out" / "stack.yaml"
    file = yaml.safe_load(stack.read_text())
    del file["services"]["kraken"], file["secrets"]["kraken-config.yaml"]
    # What the image would do: it says what it was given, and stays.
    program = (
        "import os, time; path = os.environ['PASSWORD_FILE']\n"
        "print(open(path).read(), oct(os.stat(path).st_mode), os.getuid(), flush=True); time.sleep(600)"
    )
    file["services"]["coinbase"] |= {"command": ["python3", "-c", program], "user": "10001:10001"}
    stack.write_text(yaml.safe_dump(file))
    node = api.nodes.list()[0]
    label = f"cryptostore.{name}"
    try:
        command("docker", "stack", "deploy", "--compose-file", stack, name, cwd=tmp_path)
        (service,) = api.services.list(filters={"name": f"{name}_coinbase"})
        wait_until(
            lambda: any("no suitable node" in task["Status"].get("Err", "") for task in service.tasks())
        )
        command("docker", "node", "update", "--label-add", f"{label}=true", node.id)
        (task,) = wait_until(
            lambda: [task for task in service.tasks() if task["Status"]["State"] == "running"]
        )
        container = api.containers.get(task["Status"]["ContainerStatus"]["ContainerID"])
        assert wait_until(container.logs) == b'se"c$$ret 0o100400 10001\n'
        host = container.attrs["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 * 2**20, 10**8, 256)
        assert host["Init"]
        assert not any("ret" in value.replace("secret", "") for value in container.attrs["Config"]["Env"])
    finally:
        command("docker", "stack", "rm", name)
        wait_until(lambda: not api.containers.list(all=True, filters={"name": name}, ignore_removed=True))
        command("docker", "node", "update", "--label-rm", label, node.id)
    api.volumes.get(f"{name}-coinbase-spool").remove()
