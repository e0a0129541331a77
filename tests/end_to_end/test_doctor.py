"""``doctor`` and ``up`` agree on what is wrong inside the containers, collector by collector."""

import contextlib
import io
import json
import os
import subprocess

import certifi
import pytest
import redis
from engines import LABEL
from stage import Stage, docker
from test_fleet import Fleet

from launcher import cli

pytestmark = [pytest.mark.docker, pytest.mark.slow]

PASSWORD = "canary-of-the-store-5e1b"
STORE = {"backend": "REDISSTREAM", "host": "redis", "password": PASSWORD}
#: What is wrong with the store of a collector: keys that differ from STORE.
STORES = {
    "nowhere": {"host": "nowhere"},
    "localhost": {"host": "localhost"},
    "wrong-password": {"password": "wrong-canary-5e1c"},
    "no-password": {"password": None},
    "wrong-port": {"port": 6380},
    "no-database": {"database": "99"},
    "other-kind": {"backend": "REDIS", "database": "1"},
}
#: What is wrong with a collector itself.
COLLECTORS = {
    "no-symbol": {"symbols": "NO-SUCH"},
    "no-proxy": {"https_proxy": "http://nowhere:3128"},
    "other-authority": {"ssl_cert_file": certifi.where()},
    "little-memory": {"limits": {"memory": "24MiB"}},
    "foreign-folder": {"store": "foreign-folder"},
    "foreign-spool": {},
    "full-folder": {"store": "full-folder"},
}
FINE = ("fine", "fine-in-files", "fine-in-log")
#: Whose what ``doctor`` finds wrong, and a word of what it says.
WORLDS = {
    "nowhere": ("store", "Name or service not known"),
    "localhost": ("store", "in a container localhost is the container itself"),
    "wrong-password": ("store", "refuses us"),
    "no-password": ("store", "refuses us"),
    "wrong-port": ("store", "is not reachable"),
    "no-database": ("store", "DB index is out of range"),
    "other-kind": ("store", "the key trades-KRAKEN-BTC-USD is a stream"),
    "no-symbol": ("symbols", "no such symbol"),
    "no-proxy": ("exchange", "can this network reach the exchange"),
    "other-authority": ("exchange", "KRAKEN does not tell its symbols"),
    "little-memory": ("memory", "limits.memory = 24 MiB"),
    "foreign-folder": ("store", "chown -R 10001 {folder}"),
    "foreign-spool": ("spool", "-spool:/spool --entrypoint chown"),
    "full-folder": ("store", "No space left on device; make room"),
}
if os.geteuid():  # only root makes a disk that is full
    del WORLDS["full-folder"]


@pytest.fixture(scope="module")
def fleet(redis_image, image, tmp_path_factory):
    """A fleet beside a simulated exchange, which it takes for the real one."""
    stage = Stage(redis_image)
    fleet = Fleet(tmp_path_factory.mktemp("worlds"), stage, image)
    try:
        stage.simulator(image)
        docker("cp", f"{stage.name}-simulator:/simulator/ca.pem", str(fleet.folder / "ca.pem"))
        with stage.client() as client:
            client.config_set("requirepass", PASSWORD)
        with redis.Redis(port=stage.port, db=1, password=PASSWORD) as client:
            client.xadd("trades-KRAKEN-BTC-USD", {"some": "body's"})
        yield fleet
    finally:
        for container in fleet.containers().values():
            docker("rm", "--force", "--volumes", container["Id"])
        stage.remove()  # volumes, too: their names begin with the stage's
        if (full := fleet.folder / "full-folder").is_mount():
            subprocess.run(["umount", full], check=True)


def write(fleet, names):
    folders = {name: fleet.folder / name for name in ("foreign-folder", "fine-in-files", "full-folder")}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    folders["fine-in-files"].chmod(0o777)
    fill(folders["full-folder"])
    stores = {
        "good": STORE,
        "log": {"backend": "TTY"},
        **{name: {"backend": "PARQUET", "path": str(folder)} for name, folder in folders.items()},
        **{
            name: {key: value for key, value in (STORE | keys).items() if value}
            for name, keys in STORES.items()
        },
    }
    common = {"exchange": "KRAKEN", "channels": ["trades"], "symbols": "BTC-USD", "store": "good"}
    special = {"fine-in-files": {"store": "fine-in-files"}, "fine-in-log": {"store": "log"}}
    collectors = [
        common
        | ({"store": name} if name in STORES else {})
        | COLLECTORS.get(name, {})
        | special.get(name, {})
        | {"name": name}
        for name in names
    ]
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
    docker("rm", "--force", container["Id"])
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
    write(fleet, [*WORLDS, *FINE])
    status, findings = said(fleet, "doctor")
    found = {}
    for each in findings[0]:
        if each["state"] not in ("fine", "warning"):
            found.setdefault(each["collector"], []).append(each)
    ended, events = said(fleet, "up", "--only", "!fine*", "--wait-timeout", "20s")
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


@pytest.mark.parametrize("name", WORLDS)
def test_what_up_fails_with_doctor_has_named_with_its_remedy(told, fleet, name):
    found, failed, _ = told
    what, word = WORLDS[name]
    faults = [each for each in found[name] if each["state"] == "fault"]
    assert [each["what"] for each in faults] == [what]
    text = f"{faults[0]['detail']}; {faults[0]['remedy']}"
    assert word.format(folder=fleet.folder / "foreign-folder") in text
    assert faults[0]["remedy"]
    assert name in failed


def test_where_doctor_finds_nothing_up_succeeds(told, fleet):
    found, failed, _ = told
    assert {*found} == {*failed} == {*WORLDS}
    assert fleet.launch("up", "--only", "fine*", "--wait-timeout", "3m") == 0


def test_no_password_is_told(told):
    assert not [text for text in told[2] if "canary" in text]


def test_without_its_network_the_rest_is_tried_and_the_store_is_named(fleet):
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
