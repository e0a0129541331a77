"""The commands on a real engine, with a stand-in for the collector's image."""

import json
import os
import subprocess
import threading

import pytest
from engines import STANDIN
from fleets import docker, inspect
from recording_engine import recording
from waiting import wait_until

from launcher import local_run
from launcher.fleet import load

pytestmark = pytest.mark.docker

TWO = {"one": "BTC-USD", "two": "ETH-USD"}


def test_a_second_up_changes_nothing_and_says_so(fleet, capsys):
    fleet.write(TWO)
    assert fleet.launch("up") == 0
    said = capsys.readouterr().out
    assert "2 created" in said
    assert said.count("ready") == 2
    before = fleet.identities()
    assert fleet.launch("up") == 0
    assert fleet.identities() == before
    assert capsys.readouterr().out == f"fleet {fleet.name}: 2 unchanged\n"


def test_a_second_up_of_a_fleet_that_does_not_work_fails_too(fleet, capsys):
    fleet.write({"fine": "BTC-USD"})
    assert fleet.launch("up") == 0
    fleet.write({"fine": "BTC-USD", "slow": "NEVER-READY"})
    assert fleet.launch("up", "--wait-timeout", "1s") == 1
    before = fleet.identities()
    wait_until(lambda: _row("slow", fleet, capsys)["detail"].startswith("store away"))
    assert fleet.launch("up", "--wait-timeout", "2s") == 1
    said = capsys.readouterr()
    assert "not ready after 2 s: store away: connection refused" in said.err
    assert "1 unchanged, 1 failed" in said.out
    assert fleet.launch("up", "--wait-timeout", "0") == 0
    assert fleet.identities() == before
    fleet.write({"fine": "BTC-USD", "slow": "NEVER-READY", "new": "ETH-USD"})
    capsys.readouterr()
    assert fleet.launch("up", "--wait-timeout", "0") == 0
    assert "absent" not in capsys.readouterr().out
    assert fleet.launch("restart", "--wait-timeout", "0") == 0


def test_a_shared_cause_is_reported_once_with_its_remedy(fleet, capsys):
    """Neither while it is met nor in the table, but below it."""
    fleet.write({"one": "NEVER-READY", "two": "NEVER-READY", "three": "ENDS-EARLY", "fine": "BTC-USD"})
    assert fleet.launch("up", "--wait-timeout", "8s") == 1
    said = capsys.readouterr()
    assert said.err.count("connection refused") == said.err.count("`launcher doctor` tries the store") + 2
    assert "2 collectors (one, two) failed: not ready after 8 s: store away: connection refused\n" in said.err
    assert "three: failed\n" in said.err
    assert said.err.count("the last lines of its log say why\n  | ") == 1
    assert "feed died" in said.err  # more than once in a log, if the engine has started it again
    assert said.out.count("see below") == 3
    assert "connection refused" not in said.out


def test_a_second_up_believes_the_health_check_and_reads_no_status(fleet, tmp_path, monkeypatch):
    fleet.write(TWO)
    assert fleet.launch("up") == 0
    wait_until(lambda: all(_said(each).startswith("ready: ") for each in fleet.containers().values()))
    with recording(tmp_path / "engine.sock") as requests:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine.sock")
        assert fleet.launch("up") == 0
    assert not [target for _, target in requests if "status.json" in target]


def _row(name, fleet, capsys):
    """What `status` says of a collector."""
    capsys.readouterr()
    assert fleet.launch("status", "--json") == 0
    return next(row for row in json.loads(capsys.readouterr().out) if row["collector"] == name)


def _said(container):
    checks = container["State"]["Health"]["Log"]
    return checks[-1]["Output"] if checks else ""


def test_an_edit_recreates_one_and_a_removal_removes_one(fleet, capsys):
    fleet.write(TWO)
    assert fleet.launch("up") == 0
    before = fleet.identities()
    fleet.write(TWO | {"two": "SOL-USD", "three": "ADA-USD"})
    assert fleet.launch("up") == 0
    after = fleet.identities()
    assert after["one"] == before["one"]
    assert after["two"] != before["two"]
    assert "SYMBOLS=SOL-USD" in fleet.containers()["two"]["Config"]["Env"]
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up", "--keep-orphans") == 0
    assert fleet.identities() == after
    assert "2 kept" in capsys.readouterr().out
    assert fleet.launch("up", "--yes") == 0
    assert fleet.identities() == {"one": before["one"]}


def test_a_container_stopped_by_hand_is_started(fleet, capsys):
    fleet.write(TWO)
    assert fleet.launch("up") == 0
    before = fleet.identities()
    docker("stop", before["one"][0])
    docker("pause", before["two"][0])
    assert fleet.launch("up") == 0
    after = fleet.identities()
    assert after["one"][0] == before["one"][0]
    assert after["two"] == before["two"]
    assert all(container["State"]["Status"] == "running" for container in fleet.containers().values())
    assert "2 started" in capsys.readouterr().out


def test_an_image_that_changed_under_its_name_is_used(fleet, tmp_path):
    fleet.image = f"{fleet.name}:latest"
    docker("tag", STANDIN, fleet.image)
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 0
    before = fleet.identities()
    fleet.build(f"FROM {STANDIN}\nLABEL newer=yes\n", tmp_path)
    try:
        assert fleet.launch("up") == 0
        assert fleet.identities() != before
        assert fleet.containers()["one"]["Config"]["Labels"]["newer"] == "yes"
    finally:
        fleet.remove()
        docker("rmi", fleet.image)


def test_the_container_is_as_its_spec(fleet):
    limits = {"limits": {"memory": "64MiB", "cpus": 0.5, "pids": 50}}
    fleet.write({"one": "BTC-USD"}, defaults=limits)
    assert fleet.launch("up") == 0
    container = fleet.containers()["one"]
    host = container["HostConfig"]
    assert container["Config"]["User"] == "10001:10001"
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (
        64 << 20,
        64 << 20,
        500_000_000,
        50,
    )
    assert host["Init"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert [(mount["Name"], mount["Destination"]) for mount in container["Mounts"]] == [
        (f"{fleet.name}-one-spool", "/spool")
    ]
    assert list(container["NetworkSettings"]["Networks"]) == [fleet.name]


def test_status_agrees_with_docker(fleet, capsys):
    fleet.write(TWO)
    assert fleet.launch("up") == 0
    docker("stop", fleet.containers()["two"]["Id"])
    fleet.write(TWO | {"one": "SOL-USD", "three": "ADA-USD"})
    capsys.readouterr()
    assert fleet.launch("status", "--json") == 0
    rows = {row["collector"]: row for row in json.loads(capsys.readouterr().out)}
    for name, container in fleet.containers().items():
        assert rows[name]["container"]["id"] == container["Id"]
        assert rows[name]["container"]["state"] == container["State"]["Status"]
    assert {name: (row["state"], row["config"]) for name, row in rows.items()} == {
        "one": ("ready", "changed"),
        "two": ("exited", "current"),
        "three": ("absent", None),
    }
    assert rows["one"]["status"]["channels"]["trades"]["stored"] > 0
    assert rows["two"]["detail"].endswith("`launcher up` starts it again")
    assert fleet.launch("status", "t*") == 0
    table = capsys.readouterr().out
    assert "two" in table
    assert "one" not in table


def test_down_leaves_what_was_stored_unless_asked(fleet, capsys):
    fleet.write(TWO)
    assert fleet.launch("up") == 0
    assert fleet.launch("down", "one") == 0
    assert list(fleet.containers()) == ["two"]
    assert fleet.things("network") == [fleet.name]
    assert fleet.launch("down") == 0
    assert not fleet.containers()
    assert not fleet.things("network")
    assert len(fleet.things("volume")) == 2
    assert "2 volumes kept" in capsys.readouterr().out
    assert fleet.launch("down", "--volumes") == 0
    assert not fleet.things("volume")


def test_a_collector_that_fails_is_named_with_its_last_lines(fleet, capsys):
    stores = {"redis": {"backend": "REDIS", "host": "redis", "user": "u", "password": "s3cret-canary"}}
    parts = {"fine": "BTC-USD", "wrong": "WRONG-SETTINGS", "early": "ENDS-EARLY", "refused": "REFUSED-USD"}
    fleet.write(parts, stores=stores)
    assert fleet.launch("up") == 1
    said = capsys.readouterr()
    assert "1 created, 3 failed" in said.out
    assert "| SYMBOLS = 'WRONG-SETTINGS': no such symbol" in said.err
    assert "feed died" in said.err
    assert "refused by the exchange: trades REFUSED-USD: no such product" in said.err
    assert "s3cret-canary" not in said.out + said.err
    assert "careless line with ***" in said.err
    # The next one does not take the restarting ones for fine.
    assert fleet.launch("up") == 1


def test_restart_waits_for_the_new_process(fleet, capsys):
    fleet.write(TWO)
    assert fleet.launch("up") == 0
    before = fleet.identities()
    assert fleet.launch("restart", "one") == 0
    after = fleet.identities()
    assert after["two"] == before["two"]
    assert after["one"][0] == before["one"][0]
    assert after["one"][1] != before["one"][1]
    assert "1 restarted" in capsys.readouterr().out


def test_a_collector_without_a_container_cannot_be_restarted(fleet, capsys):
    fleet.write(TWO)
    assert fleet.launch("up", "--only", "one") == 0
    before = fleet.identities()
    capsys.readouterr()
    assert fleet.launch("restart", "two") == 1
    said = capsys.readouterr()
    assert said.err == "two has no container; `launcher up` creates it\n"
    assert said.out == f"fleet {fleet.name}: nothing restarted\n"
    assert fleet.identities() == before
    assert fleet.launch("restart", "two", "o*") == 1
    said = capsys.readouterr()
    assert "two has no container" in said.err
    assert "1 restarted" in said.out
    assert fleet.launch("restart", "!two") == 0


@pytest.mark.parametrize("left", [".next", ".previous", ".check", ".secrets"])
def test_what_an_interrupted_command_left_is_not_restarted(fleet, capsys, left):
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 0
    name = f"{fleet.name}-one"
    labels = fleet.containers()["one"]["Config"]["Labels"]
    copied = [f"--label={key}={value}" for key, value in labels.items()]
    docker("create", "--name", f"{name}{left}", *copied, fleet.image, "sleep", "60")
    capsys.readouterr()
    assert fleet.launch("restart") == 0
    said = capsys.readouterr()
    assert f"{name}{left} is left over from an interrupted update; `launcher up` removes it\n" in said.err
    assert "1 restarted" in said.out
    assert docker("inspect", "--format", "{{.State.Status}}", f"{name}{left}") == "created"


def test_a_run_in_this_folder_is_named_by_plan_and_up(fleet, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fleet.write({"one": "BTC-USD"})
    state = local_run.folder(fleet.name)
    with local_run.held(state, ["one"], simulated=False):
        for command, status in ("plan", 2), ("up", 0), ("plan", 0):
            assert fleet.launch(command) == status
            said = capsys.readouterr().err
            assert f"`launcher run` is running this fleet in this folder (process {os.getpid()})" in said
        (tmp_path / "elsewhere").mkdir()
        theirs = tmp_path / "elsewhere" / "fleet.yaml"
        theirs.write_text(fleet.path.read_text())
        local_run.take_possession(state, load(theirs, {}), adopt=True)
        assert fleet.launch("plan") == 0
        assert "launcher run" not in capsys.readouterr().err
    assert fleet.launch("plan") == 0
    assert "launcher run" not in capsys.readouterr().err


def test_the_simulator_starts_before_the_others(fleet):
    fleet.write({"one": "BTC-USD"}, source="simulated")
    assert fleet.launch("up") == 0
    containers = fleet.containers()
    assert containers["simulator"]["State"]["StartedAt"] < containers["one"]["State"]["StartedAt"]
    aliases = containers["simulator"]["NetworkSettings"]["Networks"][fleet.name]["Aliases"]
    assert "api.coinbase.com" in aliases
    assert fleet.launch("down", "--volumes") == 0
    assert [fleet.containers(), fleet.things("volume"), fleet.things("network")] == [{}, [], []]


def test_an_external_network_is_joined_and_stays(fleet, capsys):
    network = f"{fleet.name}-outside"
    fleet.write({"one": "BTC-USD"}, network={"name": network, "external": True})
    assert fleet.launch("up") == 1
    assert f"network {network} does not exist" in capsys.readouterr().err
    docker("network", "create", network)
    assert fleet.launch("up") == 0
    assert fleet.launch("down") == 0
    assert fleet.things("network") == [network]


def test_a_network_of_another_owner_is_not_used(fleet, capsys):
    docker("network", "create", fleet.name)
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 1
    assert "exists and does not belong to fleet" in capsys.readouterr().err
    assert not fleet.containers()


def test_rendering_warns_of_a_volume_that_compose_would_take_from_others(fleet, capsys):
    fleet.write({"one": "BTC-USD"})
    folder = str(fleet.path.parent / "rendered")
    assert fleet.launch("render", "--output", folder) == 0
    assert not capsys.readouterr().err
    docker("volume", "create", f"{fleet.name}-one-spool")
    assert fleet.launch("render", "--output", folder) == 0
    taken = f"warning: volume {fleet.name}-one-spool already exists, and its labels name no fleet"
    assert taken in capsys.readouterr().err


def test_containers_made_by_compose_are_left_alone(fleet, compose, capsys):
    fleet.write(TWO)
    assert fleet.launch("render", "--output", str(fleet.path.parent)) == 0
    compose = [*compose, "--file", str(fleet.path.parent / "compose.yaml")]
    subprocess.run([*compose, "up", "--detach"], check=True, capture_output=True)
    try:
        before = fleet.identities()
        capsys.readouterr()
        assert fleet.launch("up") == 1
        assert "managed by compose" in capsys.readouterr().err
        fleet.launch("status")
        assert capsys.readouterr().out.count("managed by compose") == 2
        assert fleet.launch("restart") == 0
        assert fleet.launch("down") == 0
        assert fleet.identities() == before
    finally:
        subprocess.run([*compose, "down", "--volumes", "--timeout", "2"], check=True, capture_output=True)


def test_a_compose_project_of_the_same_name_takes_nothing_of_a_fleet(fleet, compose):
    fleet.write({"one": "BTC-USD"}, stores={"files": {"backend": "PARQUET"}})
    assert fleet.launch("up") == 0
    before, volumes, networks = fleet.identities(), fleet.things("volume"), fleet.things("network")
    file = fleet.path.with_name("other.yaml")
    other = {"services": {"web": {"image": fleet.image}}, "volumes": {"data": {}, "one-spool": {}}}
    file.write_text(json.dumps({"name": fleet.name, **other}))
    removal = ("down", "--volumes", "--remove-orphans")
    subprocess.run([*compose, "--file", str(file), *removal], check=True, capture_output=True)
    subprocess.run([*compose, "--project-name", fleet.name, *removal], check=True, capture_output=True)
    assert fleet.identities() == before
    assert (fleet.things("volume"), fleet.things("network")) == (volumes, networks)
    assert len(volumes) == 2


def test_a_name_taken_by_an_unrelated_container_is_reported(fleet, capsys):
    fleet.write({"one": "BTC-USD"})
    stranger = docker("create", "--name", f"{fleet.name}-one", fleet.image)
    try:
        assert fleet.launch("up") == 1
        assert f"the name {fleet.name}-one is taken by container {stranger[:12]}" in capsys.readouterr().err
    finally:
        docker("rm", "--volumes", stranger)


def test_a_missing_image_names_the_command_that_makes_it(fleet, capsys):
    fleet.image = "cryptostore-not-built:test"
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 1
    assert "docker build . -t cryptostore-not-built:test" in capsys.readouterr().err


def test_an_update_that_the_engine_refuses_leaves_the_old_one_running(fleet, capsys):
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 0
    before = fleet.identities()
    config = fleet.path.with_name("config.yaml")
    config.write_text("{}")
    store = {"backend": "PARQUET", "path": str(fleet.path.with_name("nowhere"))}
    fleet.write({"one": "BTC-USD"}, defaults={"config": "config.yaml"}, stores={"files": store})
    assert fleet.launch("up") == 1
    assert "cannot be created" in capsys.readouterr().err
    assert fleet.identities() == before


def test_a_successor_left_over_by_a_crash_is_removed(fleet):
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 0
    container = fleet.containers()["one"]
    labels = [f"--label={name}={value}" for name, value in container["Config"]["Labels"].items()]
    docker("create", "--name", f"{fleet.name}-one.next", *labels, fleet.image)
    assert fleet.launch("up", "--keep-orphans") == 0
    assert [each["Name"] for each in inspect(*_ids(fleet))] == [f"/{fleet.name}-one"]


def _ids(fleet):
    return docker("ps", "-aq", "--filter", f"label=cryptostore.fleet={fleet.name}").split()


def test_logs_of_several_are_one_in_order(fleet, capsys):
    fleet.write(TWO)
    assert fleet.launch("up") == 0
    capsys.readouterr()
    assert fleet.launch("logs", "--tail", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line.split()[0] for line in lines) == ["one", "two"]
    assert fleet.launch("logs", "one") == 0
    assert "starting BTC-USD" in capsys.readouterr().out
    for since in "1h", "1969-01-01":
        assert fleet.launch("logs", "one", "--since", since) == 0
        assert "starting BTC-USD" in capsys.readouterr().out
    docker("kill", *_ids(fleet))
    for how in [], ["--follow"]:
        assert fleet.launch("logs", "--since", "2100-01-01", *how) == 0
        assert capsys.readouterr() == ("", "")
    assert fleet.launch("down") == 0
    assert fleet.launch("logs") == 0
    assert f"fleet {fleet.name} has no containers" in capsys.readouterr().err


def test_following_a_log_ends_when_its_collector_stops(fleet, capsys):
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 0
    following = threading.Thread(target=fleet.launch, args=("logs", "-f"))
    following.start()
    docker("stop", fleet.containers()["one"]["Id"])
    following.join(15)
    assert not following.is_alive()
    assert "standin: stopped" in capsys.readouterr().out


def test_a_pattern_that_matches_nothing(fleet, capsys):
    fleet.write(TWO)
    assert fleet.launch("status", "ones") == 2
    assert "no collector ones; did you mean one?" in capsys.readouterr().err
