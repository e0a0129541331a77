import json
import os
import re
import shlex
import sys

import pytest
from engines import unique
from hypothesis import given
from hypothesis import strategies as st
from rendering import BRIEFLY, IMAGE, ODD, VALUES, command, with_environment

from launcher import fleet, render
from launcher.engines.docker import DockerEngine

FLEET = """
fleet: {name}
image: {image}
source: simulated
stores:
  redis: {{backend: REDIS, host: redis, password: 'it''s $5 "a\\b" $${{x'}}
  files: {{backend: PARQUET, path: "records, too"}}
defaults: {{channels: trades, limits: {{memory: 64MiB, cpus: 0.1}}}}
collectors:
  - {{exchange: COINBASE, symbols: [BTC-USD, ETH-USD], store: redis}}
  - exchange: KRAKEN
    symbols: BTC-USD
    store: files
    config: feed.yaml
    limits: {{cpus: 1.5, pids: 99}}
    restart: on-failure:3
  - {{exchange: BINANCE, symbols: BTC-USDT, store: redis, restart: no}}
"""


def load(folder, name="desk", image=IMAGE):
    (folder / "records, too").mkdir(exist_ok=True)
    (folder / "feed.yaml").write_text("log: {}")
    path = folder / "fleet.yaml"
    path.write_text(FLEET.format(name=name, image=image))
    return fleet.load(path, {})


@pytest.fixture(scope="module")
def engine(users_engine, compose):
    """A Docker engine with compose; a name for this module's things on it."""
    name, api = unique("render"), users_engine.client()
    yield name
    for container in api.containers.list(all=True, filters={"name": name}):
        container.remove(force=True, v=True)
    for kept in (*api.networks.list(names=[name]), *api.volumes.list(filters={"name": name})):
        kept.remove()
    api.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rendered")


@pytest.mark.programs
def test_the_same_fleet_gives_the_same_bytes(tmp_path):
    load(tmp_path)
    program = (
        "import sys, pathlib; from launcher import fleet, render\n"
        "spec = fleet.load(pathlib.Path(sys.argv[1]), {})\n"
        "print(render.compose(spec), *map(render.env_set, spec.collectors))"
    )
    texts = {
        command(
            sys.executable, "-c", program, tmp_path / "fleet.yaml", env={**os.environ, "PYTHONHASHSEED": seed}
        )
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_rendered_files_are_private_and_other_files_stay(tmp_path):
    spec = load(tmp_path)
    folder = tmp_path / "out" / "deep"
    written = render.write(spec, folder)
    assert [path.name for path in written] == [
        "compose.yaml", "coinbase.env", "kraken.env", "binance.env",
        "coinbase.password", "kraken.config.yaml", "binance.password",
    ]  # fmt: skip
    assert (folder / "secrets").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in written[4:]} == {0o444}
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "mine.txt").write_text("stays")
    written[1].chmod(0o644)
    old = written[1].stat().st_ino
    assert render.write(spec, folder) == written
    assert {path.stat().st_mode & 0o777 for path in written[:4]} == {0o600}
    assert written[1].stat().st_ino != old  # replaced in one step
    assert {path.name for path in folder.iterdir()} == {
        *(path.name for path in written[:4]), "secrets", "mine.txt",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("a\nb", "coinbase: PASSWORD has a line break, which no env file can hold"),
        ("a\r", "coinbase: PASSWORD has a line break, which no env file can hold"),
        ("a" * 65535, "coinbase: PASSWORD is too long, an env file's line holds 65535 bytes"),
    ],
)
def test_a_value_that_no_env_file_can_hold_is_named_and_nothing_is_written(tmp_path, value, fault):
    spec = with_environment(load(tmp_path), {"PASSWORD": value, "SYMBOLS": "BTC-USD"})
    with pytest.raises(render.RenderError) as caught:
        render.write(spec, tmp_path / "out")
    assert caught.value.faults == (fault,)
    assert not (tmp_path / "out").exists()
    assert "SYMBOLS" in render.compose(spec)


@pytest.mark.docker
@BRIEFLY
@given(
    st.lists(VALUES.filter(lambda text: "\n" not in text and text[-1:] != "\r"), min_size=50, max_size=200)
)
def test_every_value_survives_docker_run(engine, folder, values):
    environment = {f"V{number}": value for number, value in enumerate((*ODD, "a" * 65500, *values))}
    spec = with_environment(load(folder, engine), environment)
    (_, env_file) = render.write(spec, folder)
    show = "import os, json; print(json.dumps({k: v for k, v in os.environ.items() if k[0] == 'V'}))"
    output = command("docker", "run", "--rm", "--env-file", env_file, IMAGE, "python3", "-c", show)
    assert json.loads(output) == environment


@pytest.mark.docker
@BRIEFLY
@given(st.lists(VALUES, min_size=50, max_size=200))
def test_every_value_survives_docker_compose(engine, folder, values):
    environment = {f"V{number}": value for number, value in enumerate((*ODD, "a\nb\n", "a\r\n", *values))}
    spec = with_environment(load(folder, engine), environment)
    path = folder / "compose.yaml"
    path.write_text(render.compose(spec))
    compose = ("docker", "compose", "--file", path)
    config = json.loads(command(*compose, "config", "--format", "json"))
    read = config["services"]["coinbase"]["environment"]
    assert {name: value.replace("$$", "$") for name, value in read.items()} == environment
    command(*compose, "create", "--force-recreate")
    assert json.loads(command(*compose, "ps", "--all", "--format", "json"))
    (inspected,) = json.loads(command("docker", "inspect", f"{engine}-coinbase"))
    given = dict(line.split("=", 1) for line in inspected["Config"]["Env"])
    assert {name: given[name] for name in environment} == environment


@pytest.mark.docker
def test_each_way_in_makes_the_same_container(engine, tmp_path):
    """Through the launcher's engine, through compose, and through the command in the env file's comment."""
    spec = load(tmp_path, f"{engine}-same")
    render.write(spec, tmp_path)
    names = [each.container.name for each in (*spec.collectors, spec.simulator)]

    command("docker", "compose", "--file", tmp_path / "compose.yaml", "create")
    by_compose = {name: inspected(name) for name in names}
    command("docker", "compose", "--file", tmp_path / "compose.yaml", "down", "--volumes")

    docker_engine = DockerEngine.connect(1)
    docker_engine.make_network(spec)
    for each in (*spec.collectors, spec.simulator):
        docker_engine.create(docker_engine.seal(each, b"key"), key=b"key")
    by_launcher = {name: inspected(name) for name in names}
    command("docker", "rm", "--volumes", *names)

    for each in spec.collectors:
        comment = [
            line[1:].rstrip("\\") for line in render.env_set(each).splitlines() if line.startswith("#")
        ]
        arguments = shlex.split(" ".join(comment[1:]))
        assert arguments[:3] == ["docker", "run", "--detach"]
        command("docker", "create", *arguments[3:], cwd=tmp_path)
    by_hand = {each.container.name: inspected(each.container.name) for each in spec.collectors}

    for name in names:
        assert by_compose[name] == by_launcher[name], name
    for name, container in by_hand.items():
        assert container == by_launcher[name], name


def inspected(name):
    """What counts of a container: all but ids, times, labels, and the names that compose adds."""
    (found,) = json.loads(command("docker", "inspect", name))
    config, host = found["Config"], found["HostConfig"]
    ((network, endpoint),) = found["NetworkSettings"]["Networks"].items()
    kept = ("Image", "User", "Entrypoint", "Cmd", "StopTimeout", "StopSignal", "Healthcheck", "WorkingDir")
    said_otherwise = ("Binds", "Mounts", "ConsoleSize")  # the mounts as they are come below
    return {
        **{key: config.get(key) for key in kept},
        **{key: value for key, value in host.items() if value and key not in said_otherwise},
        # A password is a file but for who writes a command by hand, and Docker has no way to hand files out:
        # the launcher puts secrets into a volume, compose mounts each.
        "environment": sorted(_without_password(config["Env"])),
        "mounts": sorted(
            (each["Type"], each.get("Name") or each["Source"], each["Destination"], each["RW"])
            for each in found["Mounts"]
            if not each["Destination"].startswith("/run/secrets")
        ),
        "network": network,
        "aliases": {alias for alias in endpoint["Aliases"] or () if "." in alias},
    }


def _without_password(lines):
    return [line for line in lines if not line.startswith(("PASSWORD=", "PASSWORD_FILE="))]


@pytest.mark.parametrize("form", list(render.FORMATS))
def test_rendered_files_of_a_fleet_with_an_id_name_the_fleet_and_not_the_user(tmp_path, form, monkeypatch):
    rendered = {}
    for folder, user in (("one", "ann"), ("two", "bob")):
        monkeypatch.setenv("LOGNAME", user)
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "fleet.yaml"
        path.write_text(
            "{fleet: desk, id: id-of-the-desk, stores: {out: {backend: TTY}}, "
            "collectors: [{exchange: KRAKEN, symbols: BTC-USD, channels: trades}]}"
        )
        spec = fleet.load(path, {})
        assert spec.owner.user == user
        render.write(spec, tmp_path / folder / "out", form)
        there = sorted((tmp_path / folder / "out").glob("*"))
        rendered[folder] = "".join(each.read_text() for each in there if each.is_file())
    assert rendered["one"] == rendered["two"]
    text = rendered["one"]
    in_cluster = form == "kubernetes"  # where a claim has its name from the StatefulSet
    assert text.count(spec.owner.mark) >= (1 if in_cluster else 2)  # of the container and of its volume
    assert text.count("cryptostore.seal") == text.count(spec.owner.mark)
    assert ("desk_kraken_spool" in text) != in_cluster
    assert "id-of-the-desk" not in text


@pytest.mark.parametrize("form", list(render.FORMATS))
def test_rendered_files_without_an_id_keep_their_names_and_labels(tmp_path, form):
    """Other ones would make compose and systemd begin with empty spools."""
    path = tmp_path / "fleet.yaml"
    path.write_text(
        "{fleet: desk, stores: {out: {backend: TTY}}, "
        "collectors: [{exchange: KRAKEN, name: k-1, symbols: BTC-USD, channels: trades}]}"
    )
    written = render.write(fleet.load(path, {}), tmp_path / "out", form)
    text = "".join(each.read_text() for each in written)
    assert "cryptostore.owner" not in text
    assert ("desk-k-1-spool" in text) == (form != "kubernetes")


@pytest.mark.parametrize("form", list(render.FORMATS))
def test_rendered_files_state_how_many_share_the_limit_of_an_exchange(tmp_path, form):
    path = tmp_path / "fleet.yaml"
    collectors = (
        f"{{exchange: BINANCE, name: {name}, symbols: '{name.upper()}-*', channels: trades, shards: 2}}"
        for name in ("a", "b")
    )
    path.write_text(
        "{fleet: desk, stores: {out: {backend: TTY}}, collectors: ["
        f"{', '.join(collectors)}, {{exchange: KRAKEN, symbols: BTC-USD, channels: trades}}]}}"
    )
    spec = fleet.load(path, {})
    written = render.write(spec, tmp_path / "out", form)
    told = re.findall(
        r"REQUESTS_SHARED_BY[\"']?(?:,\s*value)?[:=]\s*[\"']?(\d+)",
        "".join(each.read_text() for each in written),
    )
    ways = {"compose": 8, "kubernetes": 2}.get(form, 4)
    assert told == ["4"] * ways, "".join(each.read_text() for each in written)[:3000]
