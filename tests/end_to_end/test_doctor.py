"""``doctor`` and ``up`` agree on what is wrong inside the containers, collector by collector."""

import asyncio
import contextlib
import io
import json
import os
import subprocess

import asyncpg
import pytest
import redis
from engines import LABEL
from stage import Stage, docker
from test_fleet import Fleet
from waiting import wait_until
from worlds import IN_CONTAINER, PARQUET, PASSWORD, READER, STORE

from collector.settings import Settings
from collector.stores import StoreUnavailableError
from collector.stores.postgres import PostgresStore
from launcher import cli

pytestmark = [pytest.mark.docker, pytest.mark.slow]

#: Each collector of the fleet lives in one of them; only root makes a disk that is full.
BROKEN = {world.name: world for world in IN_CONTAINER if not (os.geteuid() and world.name == "full-folder")}
FINE = ("fine", "fine-in-files", "fine-in-log")


def postgres(stage, image):
    """Starts a Postgres whose reader may only read: a database with tables, and an empty one."""
    command = f"echo {PASSWORD} >/tmp/password && exec docker-entrypoint.sh postgres"
    name = stage.run(
        "postgres", image, "--network-alias", "postgres", "--publish", "127.0.0.1::5432",
        "--user", "postgres", "--env", "POSTGRES_USER=cryptostore", "--env", "POSTGRES_DB=made",
        "--env", "POSTGRES_PASSWORD_FILE=/tmp/password", "--env", "PGDATA=/var/lib/postgresql/data/data",
        "--entrypoint", "sh", command=("-c", command),
    )  # fmt: skip
    port = docker("port", name, "5432/tcp").rpartition(":")[2]
    url = f"postgresql://cryptostore:{PASSWORD}@127.0.0.1:{port}/made"
    wait_until(lambda: asyncio.run(_has_tables(url)))


async def _has_tables(url):
    about = {
        "EXCHANGE": "KRAKEN",
        "SYMBOLS": "BTC-USD",
        "CHANNELS": "trades",
        "BACKEND": "POSTGRES",
        "URL": url,
    }
    with contextlib.suppress(StoreUnavailableError):
        await PostgresStore(Settings.read(about)).initialise()
        owner = await asyncpg.connect(url)
        for statement in (
            f"CREATE ROLE reader LOGIN PASSWORD '{READER}'",
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
            "CREATE DATABASE empty",
        ):
            await owner.execute(statement)
        await owner.close()
        return True
    return False


@pytest.fixture(scope="module")
def fleet(redis_image, servers_image, image, tmp_path_factory):
    """A fleet beside a simulated exchange, which it takes for the real one."""
    stage = Stage(redis_image)
    fleet = Fleet(tmp_path_factory.mktemp("worlds"), stage, image)
    try:
        stage.simulator(image)
        docker("cp", f"{stage.name}-simulator:/simulator/ca.pem", str(fleet.folder / "ca.pem"))
        with stage.client() as client:
            client.config_set("requirepass", PASSWORD)
            rights = ("+@read", "+@connection", "+info", "+config|get", "+time", "+script", "+evalsha")
            client.execute_command("ACL", "SETUSER", "reader", "on", f">{READER}", "~*", *rights)
        with redis.Redis(port=stage.port, db=1, password=PASSWORD) as client:
            client.xadd("trades-KRAKEN-BTC-USD", {"some": "body's"})
        postgres(stage, servers_image)
        yield fleet
    finally:
        for container in fleet.containers().values():
            docker("rm", "--force", "--volumes", container["Id"])
        stage.remove()  # volumes, too: their names begin with the stage's
        if (full := fleet.folder / "full-folder").is_mount():
            subprocess.run(["umount", full], check=True)


def write(fleet, names):
    fine = {"fine": STORE, "fine-in-files": PARQUET, "fine-in-log": {"backend": "TTY"}}
    stores, collectors = {}, []
    for name in names:
        store = dict(BROKEN[name].store if name in BROKEN else fine[name])
        if store["backend"] == "PARQUET":
            store["path"] = str(fleet.folder / name)
            (fleet.folder / name).mkdir(exist_ok=True)
        stores[name] = {key: value for key, value in store.items() if value}
        common = {
            "exchange": "KRAKEN",
            "channels": ["trades"],
            "symbols": "BTC-USD",
            "store": name,
            "name": name,
        }
        collectors.append(common | (BROKEN[name].keys if name in BROKEN else {}))
    if "fine-in-files" in names:
        (fleet.folder / "fine-in-files").chmod(0o777)
    if "full-folder" in names:
        fill(fleet.folder / "full-folder")
    file = {
        "fleet": fleet.name,
        "image": fleet.image,
        "network": {"name": fleet.stage.name, "external": True},
        "stores": stores,
        "defaults": {"ssl_cert_file": "ca.pem", "restart": "no", "allow_overlap": True},
        "collectors": collectors,
    }
    fleet.path.write_text(json.dumps(file))


def fill(folder):
    """Makes a folder a disk of its own without room for a file, where that is allowed."""
    if not os.geteuid() and not folder.is_mount():
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,mode=777", "tmpfs", folder], check=True)


def take_spool(fleet, name):
    """The volume of a collector's spool is somebody else's, and the collector gone."""
    container = fleet.containers()[name]
    volume = next(each["Name"] for each in container["Mounts"] if each["Destination"] == "/spool")
    docker("rm", "--force", "--volumes", container["Id"])
    command = "touch /spool/theirs && chown -R 0 /spool && chmod 700 /spool"
    docker(
        "run", "--rm", "--label", LABEL, "--user", "0", "--volume", f"{volume}:/spool", "--entrypoint", "sh",
        fleet.image, "-c", command,
    )  # fmt: skip


@pytest.fixture(scope="module")
def told(fleet):
    """What ``doctor`` finds wrong and ``up`` fails with, by collector; each runs once for all worlds."""
    write(fleet, ["foreign-spool"])
    assert fleet.launch("up", "--wait-timeout", "0") == 0
    take_spool(fleet, "foreign-spool")
    write(fleet, [*BROKEN, *FINE])
    status, findings = said(fleet, "doctor")
    found = {}
    for each in findings[0]:
        if each["state"] not in ("fine", "warning"):
            found.setdefault(each["collector"], []).append(each)
    ended, events = said(fleet, "up", "--only", "!fine*", "--wait-timeout", "40s")
    # Those that wait for their store go on trying, and take time from the others.
    docker("kill", *(each["Id"] for each in fleet.containers().values()), check=False)
    assert (status, ended) == (1, 1)
    failed = {each["collector"]: each for each in events if each.get("state") == "failed"}
    return found, failed, (json.dumps(findings), json.dumps(events))


def said(fleet, command, *arguments):
    """The exit status of a command, and all that it printed as JSON."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = cli.main([command, str(fleet.path), "--json", *arguments])
    decoder, text, values = json.JSONDecoder(), printed.getvalue().strip(), []
    while text:
        value, end = decoder.raw_decode(text)
        values.append(value)
        text = text[end:].strip()
    return status, values


@pytest.mark.parametrize("name", BROKEN)
def test_doctor_names_what_up_fails_with_and_its_remedy(told, fleet, name):
    found, failed, _ = told
    world = BROKEN[name]
    (fault,) = [each for each in found[name] if each["state"] == "fault"]
    assert (fault["collector"], fault["what"]) == (world.whose, world.what)
    text = f"{fault['detail']}; {fault['remedy']}"
    assert world.said in text
    assert world.remedy.format(folder=fleet.folder / name) in text
    assert fault["remedy"]
    if world.said not in json.dumps(failed[name]):  # on a busy machine `up` may give up before it is told why
        again = ("up", "--only", name, "--wait-timeout", "5s")
        wait_until(lambda: world.said in json.dumps([said(fleet, "logs", name), said(fleet, *again)]))


def test_up_succeeds_if_doctor_finds_nothing(told, fleet):
    found, failed, _ = told
    assert {*found} == {*failed} == {*BROKEN}
    assert fleet.launch("up", "--only", "fine*", "--wait-timeout", "3m") == 0


def test_no_password_is_shown(told):
    assert not [text for text in told[2] if "canary" in text]


def test_without_its_network_the_other_checks_are_made_and_the_store_is_named(fleet):
    write(fleet, ["fine"])
    network = {"name": f"{fleet.name}-nowhere", "external": True}
    lonely = Fleet(fleet.folder, fleet.stage, fleet.image)
    lonely.path = fleet.folder / "lonely.yaml"
    file = json.loads(fleet.path.read_text())
    lonely.path.write_text(json.dumps(file | {"fleet": f"{fleet.name}-lonely", "network": network}))
    status, (findings,) = said(lonely, "doctor")
    states = {each["what"]: each["state"] for each in findings}
    assert status == 1
    assert (states["network"], states["store"], states["spool"]) == ("fault", "skipped", "fine")
