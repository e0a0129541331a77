"""``collector check --connect`` against a real Redis and simulated exchanges."""

import asyncio
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from collectors import Collector
from servers import PostgresServer, RedisServer
from simulated import Simulator
from waiting import wait_until

from collector import cli, preflight
from collector.gaps import marks
from collector.settings import Settings
from collector.stores.postgres import PostgresStore

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def simulator():
    with Simulator(symbols={"KRAKEN": ["BTC-USD", "ETH-USD"]}) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def redis():
    with RedisServer(password="canary-password") as server:
        yield server


def variables(folder, simulator, redis, **others):
    return {
        "EXCHANGE": "KRAKEN",
        "SYMBOLS": "BTC-USD",
        "CHANNELS": "trades",
        "BACKEND": "REDISSTREAM",
        "HOST": redis.host,
        "PORT": str(redis.port),
        "PASSWORD": redis.password,
        "SPOOL_DIR": str(folder),
        "NAME": "test",
        "HTTPS_PROXY": simulator.proxy,
        "SSL_CERT_FILE": str(simulator.ca),
    } | others


def check(environment, **options):
    """The exit status, and the findings by what was tried."""

    async def findings():
        return [each async for each in preflight.findings(Settings.read(environment), **options)]

    found = asyncio.run(findings())
    encoded = {each.what: preflight.encode(each) for each in found}
    assert "canary" not in json.dumps(encoded) + "".join(map(str, found))
    return preflight.exit_status(found), encoded


@pytest.mark.parametrize("option", [["--json"], ["--without", "store"], ["--replacing", "other"]])
def test_an_option_that_needs_connect_says_so(option, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["check", *option])
    assert ended.value.code == 2
    assert "are of use with --connect only" in capsys.readouterr().err


def test_everything_is_fine(tmp_path, simulator, redis):
    done = subprocess.run(
        [sys.executable, "-m", "collector", "check", "--connect", "--json"],
        env=variables(tmp_path, simulator, redis),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    status, found = (
        done.returncode,
        {each["what"]: each for each in map(json.loads, done.stdout.splitlines())},
    )
    assert "canary" not in done.stdout + done.stderr
    assert status == preflight.FINE
    assert {what: each["state"] for what, each in found.items() if what != "spool"} == {
        "settings": "fine", "store": "fine", "symbols": "fine", "clock": "fine",
    }  # fmt: skip
    assert found["settings"]["detail"].endswith(
        " on KRAKEN, native: a lost message is noticed in trades (ids)"
    )
    assert "for the first time" in found["store"]["detail"]
    assert found["symbols"]["detail"] == "1 of KRAKEN's 2"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "status", "what", "said"),
    [
        ({"PASSWORD": "canary-wrong"}, 78, "store", "refuses the collector"),
        ({"PORT": "1"}, 69, "store", "is not reachable"),
        ({"SYMBOLS": "BTC-USD,ETH-USDX"}, 78, "symbols", "did you mean ETH-USD"),
        ({"HTTPS_PROXY": "http://127.0.0.1:1"}, 69, "exchange", "does not return its symbols"),
        ({"SPOOL_DIR": "/proc/nowhere"}, 69, "spool", "cannot be written to"),
    ],
)
def test_each_fault_has_its_remedy(tmp_path, simulator, redis, wrong, status, what, said):
    ended, found = check(variables(tmp_path, simulator, redis, **wrong))
    assert ended == status
    assert found[what]["state"] == "fault"
    assert said in found[what]["detail"]
    assert found[what]["remedy"]
    assert [each["what"] for each in found.values() if each["state"] == "fault"] == [what]


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, as small as a test wants it; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size):
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("no small file system can be mounted here")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], check=False, capture_output=True)


async def of_dataset(folder, spool):
    """What is found of a folder of Parquet files: state, exit status, detail."""
    about = {"EXCHANGE": "KRAKEN", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "PARQUET"}
    settings = Settings.read(about | {"PARQUET_DIR": str(folder), "SPOOL_DIR": str(spool)})
    (found,) = [each async for each in preflight.findings(settings, ["exchange"]) if each.what == "store"]
    assert found.remedy.startswith("free some space there") == (found.state != "fine")
    return found.state, found.exit_status, found.detail


@pytest.mark.parametrize(
    ("size", "state", "status", "said"),
    [
        ("48k", "fault", 69, "No space left on device"),
        ("1m", "fault", 69, "has 1.0 MiB free; the files of a batch may take 8.0 MiB"),
        ("100m", "warning", 0, "has 100.0 MiB free, 100% of it"),
        ("3g", "fine", 0, "sees this collector for the first time"),
    ],
)
async def test_the_free_space_of_a_dataset_is_checked(tmp_path, disk, size, state, status, said):
    found = await of_dataset(disk(size), tmp_path)
    assert found[:2] == (state, status)
    assert said in found[2]


@pytest.mark.parametrize(("what", "variable"), [("store", "PARQUET_DIR"), ("spool", "SPOOL_DIR")])
async def test_a_file_in_place_of_a_folder_is_named_and_no_owner_is_blamed(tmp_path, what, variable):
    file = tmp_path / "file"
    file.touch()
    about = {"EXCHANGE": "KRAKEN", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "PARQUET"}
    about |= {"PARQUET_DIR": str(tmp_path), "SPOOL_DIR": str(tmp_path)}
    settings = Settings.read(about | {variable: str(file)})
    found = {each.what: each async for each in preflight.findings(settings, ["exchange"])}
    assert found[what].state == "fault"
    assert str(file) in found[what].detail
    assert found[what].remedy.startswith("there is a file where the folder should be: move it away")


async def test_a_large_nearly_full_disk_is_reported(tmp_path, monkeypatch):
    usage = SimpleNamespace(total=2000 << 30, free=40 << 30)  # no test makes such a disk
    monkeypatch.setattr(preflight, "disk_usage", lambda _: usage)
    found = await of_dataset(tmp_path, tmp_path)
    assert found[:2] == ("warning", 0)
    assert "has 40.0 GiB free, 2% of it" in found[2]


def test_a_full_disk_of_a_spool_is_found(tmp_path, simulator, redis, disk):
    status, found = check(variables(disk("1m"), simulator, redis))
    assert (status, found["spool"]["state"]) == (preflight.UNAVAILABLE, "fault")
    assert "a collector needs" in found["spool"]["detail"]


def test_servers_that_do_not_exist_yet_are_skipped(tmp_path, simulator, redis):
    away = variables(tmp_path, simulator, redis, PORT="1", HTTPS_PROXY="http://127.0.0.1:1")
    status, found = check(away, without=["store", "exchange"])
    assert (status, {*found}) == (preflight.FINE, {"settings", "spool"})
    status, found = check(away, without=["store"])
    assert (status, {*found}) == (preflight.UNAVAILABLE, {"settings", "spool", "exchange"})


async def test_postgres_is_inspected_and_left_unchanged(tmp_path, simulator, redis):
    with PostgresServer() as postgres:
        about = variables(tmp_path, simulator, redis, BACKEND="POSTGRES", URL=postgres.url)
        about = {name: value for name, value in about.items() if name not in ("HOST", "PORT", "PASSWORD")}
        for create, status, said in ("true", 0, "creates them"), ("false", 78, "collector db init"):
            ended, found = await asyncio.to_thread(check, about | {"CREATE_TABLES": create})
            assert ended == status
            assert said in found["store"]["detail"]
            assert postgres.url.rpartition("@")[2].partition("/")[0] in found["store"]["detail"]
        done = await PostgresStore(preflight.Settings.read(about)).initialise()
        assert "created table trades" in done
        status, found = await asyncio.to_thread(check, about | {"CREATE_TABLES": "false"})
        assert (status, found["store"]["state"]) == (0, "fine")


def test_preflight_does_not_disturb_the_collector_that_it_replaces(tmp_path, simulator, redis):
    """It disturbs nothing, and knows a symbol that was listed once."""
    environment = variables(tmp_path, simulator, redis, SYMBOLS="ETH-USD", NAME="beside")
    with Collector(tmp_path, **environment) as collector:
        collector.wait_until_ready()
        wait_until(lambda: marks.listed("KRAKEN", "ETH-USD") in preflight._Known(collector.home))
        status, found = check(environment)
        assert status == preflight.FINE
        assert "knows this collector" in found["store"]["detail"]
        with Simulator(symbols={"KRAKEN": ["BTC-USD"]}) as delisted:
            other = variables(tmp_path, delisted, redis, SYMBOLS="BTC-USD,ETH-USD", NAME="beside")
            status, found = check(other)
        assert (status, found["symbols"]["detail"]) == (preflight.FINE, "1 of KRAKEN's 1")
        assert collector.stop() == 0


def test_another_process_that_writes_under_its_name_is_a_fault(tmp_path, simulator, redis):
    """It is named, unless it hands over, or it is the one whose spool this is."""
    environment = variables(tmp_path, simulator, redis, NAME="twice", ALLOW_OVERLAP="true")
    elsewhere = environment | {"SPOOL_DIR": str(tmp_path / "elsewhere")}
    with Collector(tmp_path, **environment) as collector:
        collector.wait_until_ready()
        status, found = check(elsewhere)
        assert (status, found["store"]["state"]) == (preflight.UNAVAILABLE, "fault")
        told = f"process {collector.process.pid} on "
        assert told in found["store"]["detail"]
        assert "under the name 'twice' already" in found["store"]["detail"]
        assert "another NAME" in found["store"]["remedy"]
        assert check(environment)[0] == preflight.FINE
        assert check(elsewhere, replacing=["twice"])[0] == preflight.FINE
        assert collector.stop() == 0
    assert check(elsewhere)[0] == preflight.FINE


READS = ("+@read", "+@connection", "+info", "+config|get", "+time", "+script")
WRITES = {"REDISSTREAM": "+xadd", "REDIS": "+zadd"}


@pytest.mark.parametrize("backend", WRITES)
def test_a_missing_right_to_write_is_found_without_writing(tmp_path, simulator, redis, backend):
    login = {"USER": "reader", "PASSWORD": "canary-of-a-reader", "DATABASE": "1"}
    environment = variables(tmp_path, simulator, redis, NAME="reader", BACKEND=backend, **login)
    rights = [*READS, "+hset", "+evalsha", WRITES[backend]]
    with redis.client() as client:
        for lacking in rights[len(READS) :]:
            granted = [right for right in rights if right != lacking]
            client.execute_command(
                "ACL", "SETUSER", "reader", "reset", "on", ">canary-of-a-reader", "~*", *granted
            )
            status, found = check(environment)
            assert (status, found["store"]["state"]) == (preflight.MISCONFIGURED, "fault")
            assert "the user lacks a right" in found["store"]["detail"]
            assert lacking.removeprefix("+") in found["store"]["detail"]
        client.execute_command("ACL", "SETUSER", "reader", "~*", *rights)
        assert check(environment)[0] == preflight.FINE
        assert client.execute_command("INFO", "keyspace").get("db1") is None


def test_a_server_that_takes_no_writes_is_found(tmp_path, simulator):
    with RedisServer() as server, server.client() as client:
        environment = variables(tmp_path, simulator, server, PASSWORD="")
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        client.config_set("replica-serve-stale-data", "yes")
        status, found = check(environment)
        assert (status, found["store"]["state"]) == (preflight.UNAVAILABLE, "fault")
        assert "takes no records: Redis at 127.0.0.1:" in found["store"]["detail"]
        assert "READONLY" in found["store"]["detail"]
        client.execute_command("REPLICAOF", "NO", "ONE")
        assert check(environment)[0] == preflight.FINE


def test_a_subscription_that_another_collector_stores_is_a_fault(tmp_path, simulator, redis):
    """It is named, with its process; unless it hands over, or both are wanted."""
    folder = tmp_path / "spools"
    running = variables(folder, simulator, redis, SYMBOLS="BTC-USD,ETH-USD", NAME="holder")
    asked = variables(folder, simulator, redis, SYMBOLS="ETH-*", NAME="second")
    with Collector(tmp_path, **running) as collector:
        collector.wait_until_ready()
        wait_until(lambda: check(asked)[0] == preflight.MISCONFIGURED)  # once it has claimed both symbols
        _, found = check(asked)
        assert found["overlap"]["state"] == "fault"
        assert "collector holder (process" in found["overlap"]["detail"]
        assert "stores trades ETH-USD" in found["overlap"]["detail"]
        assert "ALLOW_OVERLAP=true" in found["overlap"]["remedy"]
        for variables_, replacing in (
            (asked, ["holder"]),
            (asked | {"ALLOW_OVERLAP": "true"}, []),
            (asked | {"CHANNELS": "l2_book"}, []),
        ):
            status, found = check(variables_, replacing=replacing)
            assert (status, found.get("overlap")) == (preflight.FINE, None)
        assert collector.stop() == 0
    assert check(asked)[0] == preflight.FINE  # it has ended


def test_localhost_in_a_container_is_explained(tmp_path, monkeypatch, simulator, redis):
    monkeypatch.setattr(preflight, "_IN_A_CONTAINER", tmp_path)
    settings = preflight.Settings.read(variables(tmp_path, simulator, redis, HOST="localhost"))
    assert "is the container itself" in preflight._store_remedy(settings)
