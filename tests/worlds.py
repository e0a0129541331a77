"""Broken worlds: what is not as a fleet needs it where it is to run.

In each, ``doctor`` and ``up`` are both run, and have to name the same obstacle. tests/launcher/test_doctor.py
does that for what the file and the engine show, with a stand-in for the collector, and
tests/end_to_end/test_doctor.py for what a collector finds from inside its container.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import certifi
from engines import LABEL
from fleets import docker

from launcher import cli

ONE = {"one": "BTC-USD"}
#: Nothing is ever tagged with it.
NOT_BUILT = "cryptostore-not-built:test"
#: What the stand-in is built on: no collector, no simulator and no server.
BASE = "python:3.13-slim-trixie"


class Scene:
    """A fleet and its engine, which a scene breaks and ``mend`` mends.

    Attributes:
        fleet: the fleet.
        collectors: its collectors, each with its symbols.
        keys: what its file has beside the usual keys.
    """

    def __init__(self, fleet):
        self.fleet = fleet
        self.folder = fleet.path.parent
        self.collectors = ONE
        self.keys = {}
        self.undo = []

    def write(self):
        self.fleet.write(self.collectors, **self.keys)

    def make(self, *words):
        """Has Docker make something of somebody else's; ``mend`` removes it."""
        verb = next(place for place, word in enumerate(words) if word in ("create", "run")) + 1
        made = docker(*words[:verb], "--label", LABEL, *words[verb:])
        kind = words[0] if words[0] in ("network", "volume") else "container"
        options = ("--force", "--volumes") if kind == "container" else ()
        self.undo.append(lambda: docker(kind, "rm", *options, made))

    def mend(self):
        for undo in reversed(self.undo):
            undo()
        self.undo.clear()


def missing_image(scene):
    good, scene.fleet.image = scene.fleet.image, NOT_BUILT
    scene.undo.append(lambda: setattr(scene.fleet, "image", good))


def missing_network(scene):
    scene.keys["network"] = {"name": f"{scene.fleet.name}-outside", "external": True}
    scene.undo.append(lambda: docker("network", "create", "--label", LABEL, f"{scene.fleet.name}-outside"))


def taken_network(scene):
    scene.make("network", "create", scene.fleet.name)


def taken_container(scene):
    scene.make("create", "--name", f"{scene.fleet.name}-one", scene.fleet.image)


def taken_by_compose(scene):
    labels = f"--label=cryptostore.fleet={scene.fleet.name}", "--label=cryptostore.collector=one"
    scene.make("create", *labels, "--name", f"{scene.fleet.name}-one", scene.fleet.image)


def _changed(scene):
    """A fleet that runs, and whose collector has to be replaced."""
    scene.write()
    assert scene.fleet.launch("up") == 0
    scene.collectors = {"one": "ETH-USD"}


def taken_successor(scene):
    _changed(scene)
    scene.make("create", "--name", f"{scene.fleet.name}-one.next", scene.fleet.image)


def taken_predecessor(scene):
    _changed(scene)
    scene.make("create", "--name", f"{scene.fleet.name}-one.previous", scene.fleet.image)


def taken_simulator(scene):
    scene.keys["source"] = "simulated"
    scene.make("create", "--name", f"{scene.fleet.name}-simulator", scene.fleet.image)


def taken_lock(scene):
    scene.make("run", "--detach", "--name", f"{scene.fleet.name}.lock", scene.fleet.image, "sleep")


def too_many_processors(scene):
    scene.keys["defaults"] = {"limits": {"cpus": 4000}}
    scene.undo.append(scene.keys.clear)


def missing_folder(scene):
    folder = scene.folder / "records"
    scene.keys["stores"] = {"files": {"backend": "PARQUET", "path": str(folder)}}
    scene.undo.append(folder.mkdir)


def file_for_folder(scene):
    path = scene.folder / "records"
    path.touch()
    scene.keys["stores"] = {"files": {"backend": "PARQUET", "path": str(path)}}
    scene.undo += [path.mkdir, path.unlink]


def anothers_fleet(scene):
    scene.write()
    theirs = scene.folder / "theirs" / "fleet.yaml"
    theirs.parent.mkdir()
    theirs.write_text(scene.fleet.path.read_text())
    assert cli.main(["up", str(theirs)]) == 0
    scene.undo.append(lambda: cli.main(["down", str(theirs), "--volumes"]))


def anothers_volume(scene):
    label = "cryptostore.fleet=of-somebody-else"
    scene.make("volume", "create", "--label", label, f"{scene.fleet.name}-one-spool")


def nobodys_volume(scene):
    scene.make("volume", "create", f"{scene.fleet.name}-one-spool")


def volume_of_another_collector(scene):
    labels = f"--label=cryptostore.fleet={scene.fleet.name}", "--label=cryptostore.collector=other"
    scene.make("volume", "create", *labels, f"{scene.fleet.name}-one-spool")


def held_lock(scene):
    who = "--label=cryptostore.locked-by=alice on other (process 7) since 2026-11-28"
    name = f"{scene.fleet.name}.lock"
    scene.make("run", "--detach", who, "--name", name, "--entrypoint", "sleep", scene.fleet.image, "infinity")


def wrong_settings(scene):
    scene.collectors = {"one": "WRONG-SETTINGS"}
    scene.undo.append(lambda: setattr(scene, "collectors", ONE))


def image_of_another_program(scene):
    good, scene.fleet.image = scene.fleet.image, BASE
    scene.undo.append(lambda: setattr(scene.fleet, "image", good))


def simulator_that_ends(scene):
    good, scene.fleet.image = scene.fleet.image, f"{scene.fleet.name}:broken"
    scene.fleet.build(f'FROM {BASE}\nENTRYPOINT ["python", "-m", "collector"]\n', scene.folder)
    scene.undo.append(lambda: docker("rmi", "--force", f"{scene.fleet.name}:broken"))
    scene.undo.append(lambda: setattr(scene.fleet, "image", good))
    scene.keys["source"] = "simulated"


def _managed(scene, image):
    scene.keys["stores"] = {"db": {"backend": "REDIS", "manage": True, "image": image}}


def missing_image_of_a_store(scene):
    _managed(scene, NOT_BUILT)
    scene.undo.append(scene.keys.clear)


def store_that_ends(scene):
    _managed(scene, BASE)
    scene.undo.append(scene.keys.clear)


def lost_password(scene):
    store = {"backend": "POSTGRES", "manage": True, "database": "market", "image": scene.fleet.image}
    scene.keys["stores"] = {"db": store}
    label = f"cryptostore.fleet={scene.fleet.name}"
    scene.make("volume", "create", "--label", label, f"{scene.fleet.name}-db-postgres-data")
    scene.undo.append(scene.keys.clear)


class World(NamedTuple):
    """One way in which a world is broken.

    Attributes:
        name: what it is called; where it is about a container, the collector has that name, too.
        said: what ``doctor`` and ``up`` both say of it.
        whose: the collector or server that it is about; None is the machine's.
        what: what ``doctor`` calls that which is wrong.
        breaks: breaks a scene.
        keys: of the fleet file or, in a container, of the collector.
        store: the collector's store; a path is added where it is a folder.
        remedy: what ``doctor`` says to do, where only it says so.
        address: of the engine, where the world is about that.
        is_slow: whether it takes more than a few seconds to find out.
    """

    name: str
    said: str
    whose: str | None = None
    what: str = ""
    breaks: Callable[[Scene], None] | None = None
    keys: Mapping[str, Any] = {}
    store: Mapping[str, Any] = {}
    remedy: str = ""
    address: str = ""
    is_slow: bool = False


def _on_engine(breaks, whose, what, said, *, is_slow=False):
    return World(breaks.__name__, said, whose, what, breaks, is_slow=is_slow)


#: What the file alone shows.
IN_FILE = (
    World(
        "little_memory",
        "memory '5MiB': takes at least 6MiB",
        keys={"defaults": {"limits": {"memory": "5MiB"}}},
    ),
    World("no_configuration", "there is no such file", keys={"defaults": {"config": "keys.yaml"}}),
    World(
        "no_password_file",
        "there is no such file",
        keys={"stores": {"r": {"backend": "REDIS", "password_file": "secret"}}},
    ),
    World(
        "no_variable",
        "NOT_SET_ANYWHERE",
        keys={"stores": {"r": {"backend": "REDIS", "host": "${NOT_SET_ANYWHERE}"}}},
    ),
    World("host_network", "not bridge, host or none", keys={"network": "host"}),
    World(
        "twice_the_same",
        "into the same store, too",
        keys={
            "collectors": [
                {"exchange": "KRAKEN", "channels": "trades", "symbols": "BTC-USD", "name": name}
                for name in ("one", "two")
            ]
        },
    ),
    World(
        "closed_exchange",
        "closed since 2026",
        keys={"collectors": [{"exchange": "ASCENDEX", "channels": "trades", "symbols": "BTC-USD"}]},
    ),
)

#: What an engine shows.
ON_ENGINE = (
    _on_engine(missing_image, "one", "image", "the engine has no image cryptostore-not-built:test"),
    _on_engine(missing_image_of_a_store, "db", "image", "`docker pull cryptostore-not-built:test`"),
    _on_engine(missing_network, None, "network", "-outside does not exist"),
    _on_engine(taken_network, None, "network", "exists and does not belong to fleet"),
    _on_engine(taken_container, "one", "name", "-one is taken by container"),
    _on_engine(taken_by_compose, "one", "name", "managed by compose"),
    _on_engine(taken_successor, "one", "name", "-one.next is taken by container"),
    _on_engine(taken_predecessor, "one", "name", "-one.previous is taken by container"),
    _on_engine(taken_simulator, "simulator", "name", "-simulator is taken by container", is_slow=True),
    _on_engine(taken_lock, None, "lock", ".lock is there, and it is no lock of a launcher"),
    _on_engine(held_lock, None, "lock", "is being changed by alice on other"),
    _on_engine(anothers_fleet, None, "fleet", "runs here: one by "),
    _on_engine(anothers_volume, "one", "volume", "-one-spool belongs to fleet of-somebody-else"),
    _on_engine(nobodys_volume, "one", "volume", "-one-spool already exists, and its labels name no fleet"),
    _on_engine(
        volume_of_another_collector,
        "one",
        "volume",
        "-one-spool belongs to collector other according to its labels",
    ),
    _on_engine(too_many_processors, "one", "limits", "limits.cpus 4000: the engine's machine has"),
    _on_engine(missing_folder, "one", "container", "records is not on the engine's machine; make it there"),
    _on_engine(
        file_for_folder, "one", "container", "records on the engine's machine is a file, not a folder; "
    ),
    _on_engine(wrong_settings, "one", "settings", "SYMBOLS = 'WRONG-SETTINGS': no such symbol"),
    _on_engine(image_of_another_program, "one", "image", "is another program's: it starts `python3`"),
    _on_engine(simulator_that_ends, "simulator", "server", "No module named 'collector'", is_slow=True),
    _on_engine(store_that_ends, "db", "server", "exec redis-server failed", is_slow=True),
    _on_engine(lost_password, "db", "store", "the password that it opens to is lost"),
)

#: What an address that leads to no engine of use shows.
NO_ENGINE = (
    World(
        "no_engine",
        "no Docker engine is reachable",
        what="engine",
        address="unix:///nowhere/docker.sock",
    ),
    World("no_manager", "is no manager of a swarm", what="engine", keys={"engine": "swarm"}),
)

PASSWORD = "canary-of-the-store-5e1b"
STORE = {"backend": "REDISSTREAM", "host": "redis", "password": PASSWORD}
#: The password of a user of that store who may read everything, and write nothing.
READER = "canary-of-a-reader-5e1d"
#: Postgres, where the reader may look at the tables, and no more.
TABLES = {"backend": "POSTGRES", "host": "postgres", "user": "reader", "password": READER}
PARQUET = {"backend": "PARQUET"}


def _in_container(name, what, said, remedy, store=STORE, **keys):
    return World(name, said, name, what, remedy=remedy, store=store, keys=keys)


#: What a collector finds from inside its container.
IN_CONTAINER = (
    _in_container(
        "nowhere", "store", "Name or service not known", "is HOST = nowhere", STORE | {"host": "nowhere"}
    ),
    _in_container(
        "localhost",
        "store",
        "Redis at localhost:6379: Connection refused",
        "in a container localhost is the container itself",
        STORE | {"host": "localhost"},
    ),
    _in_container(
        "wrong-password",
        "store",
        "USER or PASSWORD is wrong",
        "check USER, PASSWORD",
        STORE | {"password": "wrong-canary-5e1c"},
    ),
    _in_container(
        "unknown-user",
        "store",
        "USER or PASSWORD is wrong",
        "check USER, PASSWORD",
        STORE | {"user": "nobody"},
    ),
    _in_container(
        "no-password", "store", "it wants a password", "check USER, PASSWORD", STORE | {"password": None}
    ),
    _in_container(
        "wrong-port",
        "store",
        "Redis at redis:6380: Connection refused",
        "is it running",
        STORE | {"port": 6380},
    ),
    _in_container(
        "no-database", "store", "there is no such DATABASE", "DATABASE", STORE | {"database": "99"}
    ),
    _in_container(
        "other-kind",
        "store",
        "the key trades-KRAKEN-BTC-USD is a stream",
        "choose that BACKEND",
        STORE | {"backend": "REDIS", "database": "1"},
    ),
    _in_container(
        "reading-user",
        "store",
        "the user lacks a right",
        "ACL SETUSER reader +xadd +hset",
        STORE | {"user": "reader", "password": READER},
    ),
    _in_container(
        "no-right-to-create",
        "store",
        "the user lacks a right",
        "GRANT USAGE, CREATE ON SCHEMA public TO reader",
        TABLES | {"database": "empty"},
    ),
    _in_container(
        "no-right-to-insert",
        "store",
        "the user lacks a right",
        "GRANT INSERT, UPDATE ON cryptostore_position, cryptostore_note TO reader",
        TABLES | {"database": "made"},
    ),
    _in_container(
        "no-symbol",
        "symbols",
        "KRAKEN lists no such symbol",
        "write them as cryptofeed does",
        symbols="NO-SUCH",
    ),
    _in_container(
        "no-pattern",
        "symbols",
        "KRAKEN lists no symbols like that",
        "write them as cryptofeed does",
        symbols="NOPE-*",
    ),
    _in_container(
        "no-proxy",
        "exchange",
        "Cannot connect to host nowhere:3128",
        "can this network reach the exchange",
        https_proxy="http://nowhere:3128",
    ),
    _in_container(
        "other-authority",
        "exchange",
        "CERTIFICATE_VERIFY_FAILED",
        "can this network reach the exchange",
        ssl_cert_file=certifi.where(),
    ),
    _in_container("little-memory", "memory", "limits.memory", "at least 150 MiB", limits={"memory": "24MiB"}),
    _in_container(
        "foreign-folder",
        "store",
        "cannot write to /data/_positions: Permission denied",
        "chown -R 10001 {folder}",
        PARQUET,
    ),
    _in_container("foreign-spool", "spool", "Permission denied", "-spool:/spool --entrypoint chown"),
    _in_container("full-folder", "store", "No space left on device", "free some space there", PARQUET),
)

#: All of them.
WORLDS = (*IN_FILE, *ON_ENGINE, *NO_ENGINE, *IN_CONTAINER)
