"""The launcher on an engine of another machine: by the docker command's own variables and contexts."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from fleet_texts import ROOT
from fleets import docker
from parts import Missing, program
from recording_engine import recording
from remote_hosts import HOST, Sshd, TlsPort, authority, certificates
from transcripts import alike
from waiting import wait_until

from launcher import cli

pytestmark = pytest.mark.docker

PASSWORD = "canary-of-a-remote-store"


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No way to an engine is chosen but the one that was there before."""
    for name in ("DOCKER_CONTEXT", "DOCKER_TLS", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


@pytest.fixture
def recorded(tmp_path):
    """A socket of the engine, and what is asked there."""
    path = tmp_path / "engine.sock"
    with recording(path) as requests:
        yield path, requests


@pytest.fixture(scope="module")
def trusted():
    return authority()


@pytest.fixture
def tls_port(recorded, trusted):
    with TlsPort(recorded[0], trusted) as port:
        yield port.port


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with Sshd(tmp_path_factory.mktemp("ssh") / "sshd") as server:
        yield server


def lead_by_tls(request, tmp_path, monkeypatch):
    trusted = request.getfixturevalue("trusted")
    monkeypatch.setenv("DOCKER_HOST", f"tcp://{HOST}:{request.getfixturevalue('tls_port')}")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates(tmp_path / "certificates", trusted, trusted)))


def lead_by_context(request, tmp_path, monkeypatch):
    """A context with certificates, which the docker command itself makes and chooses."""
    folder = certificates(tmp_path / "certificates", *[request.getfixturevalue("trusted")] * 2)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "of-docker"))
    files = ",".join(f"{name}={folder}/{name}.pem" for name in ("ca", "cert", "key"))
    address = f"tcp://{HOST}:{request.getfixturevalue('tls_port')}"
    docker("context", "create", "elsewhere", "--docker", f"host={address},{files}")
    docker("context", "use", "elsewhere")


def lead_by_ssh(request, tmp_path, monkeypatch):
    sshd, (path, _) = (request.getfixturevalue(name) for name in ("sshd", "recorded"))
    lead(monkeypatch, sshd.client(tmp_path / "client"))
    monkeypatch.setenv("DOCKER_HOST", f"{sshd.address}{path}")


def lead(monkeypatch, folder):
    """What is in ``folder`` comes before other commands of that name."""
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize("lead_there", [lead_by_tls, lead_by_context, lead_by_ssh])
def test_every_command_works_over_each_transport(
    lead_there, fleet, recorded, request, tmp_path, monkeypatch, capsys
):
    (tmp_path / "password").write_text(PASSWORD)
    store = {"backend": "REDIS", "host": "redis", "password_file": str(tmp_path / "password")}
    fleet.write({"one": "BTC-USD", "two": "ETH-USD"}, stores={"redis": store})
    _, requests = recorded
    with monkeypatch.context() as patched:
        lead_there(request, tmp_path, patched)
        launch = fleet.launch
        assert launch("plan") == 2
        assert {method for method, _ in requests} <= {"GET", "HEAD"}
        assert launch("up") == 0, capsys.readouterr().err
        assert launch("plan") == 0
        assert launch("up") == 0
        capsys.readouterr()
        assert launch("status", "--json") == 0
        said = json.loads(capsys.readouterr().out)
        assert [(row["collector"], row["state"]) for row in said] == [("one", "ready"), ("two", "ready")]
        assert launch("logs") == 0
        said = capsys.readouterr().out
        assert "starting BTC-USD" in said
        assert "starting ETH-USD" in said
        assert launch("restart", "one") == 0
        containers = fleet.containers()  # by the docker command, over the same way
        assert launch("down", "--volumes", "--yes") == 0
    assert containers.keys() == {"one", "two"}
    assert fleet.containers() == {}
    assert [method for method, _ in requests].count("DELETE") > 4

    made = [*requests.creations()]
    assert len(made) > 4, "collectors, their checks, and what fills and locks"
    for body in made:
        host = body.get("HostConfig", {})
        assert not host.get("Binds")
        assert {mount["Type"] for mount in host.get("Mounts", [])} <= {"volume"}
        assert PASSWORD not in json.dumps(body)


def test_the_docs_show_every_transport(fleet, sshd, tmp_path, monkeypatch):
    """With the stand-in, of which docs/launcher.md shows the real one's output."""
    text = (ROOT / "docs" / "launcher.md").read_text().partition("\n## On another machine\n")[2]
    text = text.replace("tokyo", fleet.name).replace("PARQUET connected", "REDIS connected")
    file, transcript = re.findall(r"^```(?:yaml|text)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[:2]
    (tmp_path / "remote.yaml").write_text(f"{file}image: {fleet.image}\n")
    lead(monkeypatch, sshd.client(tmp_path / "client", host=f"{fleet.name}.example.com"))
    lead(monkeypatch, Path(sys.executable).parent)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", transcript, re.MULTILINE)
    assert len(commands) == 7
    for command, shown in commands:
        ended = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
        said = ended.stderr if ended.returncode else ended.stdout
        said = said.replace("1 subscription,", "1 subscriptions,")  # the real ones have several
        assert alike(said, shown), f"$ {command}\n{said}"
    docker("context", "use", "default")


@pytest.fixture
def temporary():
    """A folder of so short a name that ssh can make sockets in it."""
    with tempfile.TemporaryDirectory(prefix="test-") as folder:
        yield Path(folder)


def test_a_killed_launcher_holds_no_lock_over_ssh(fleet, sshd, recorded, tmp_path, temporary, capsys):
    """The lock is a connection: over ssh, too, it ends with the launcher, however that ends."""
    fleet.write({"one": "NEVER-READY"})
    environment = os.environ | {
        "TMPDIR": str(temporary),
        "PATH": f"{sshd.client(tmp_path / 'client')}:{os.environ['PATH']}",
        "DOCKER_HOST": f"{sshd.address}{recorded[0]}",
    }
    command = [sys.executable, "-m", "launcher", "up", str(fleet.path)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as first:
        assert any("waiting" in line for line in first.stderr)
        assert fleet.launch("down") == 1
        assert "is being changed by" in capsys.readouterr().err
        first.kill()
    wait_until(lambda: fleet.launch("down") == 0)  # the end of a connection takes its way
    (folder,) = temporary.glob("launcher-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    wait_until(lambda: not [*folder.iterdir()])
    folder.chmod(0o755)
    command = [sys.executable, "-m", "launcher", "status", str(fleet.path)]
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert refused.stderr == f"launcher: {folder} has to be a folder that only you can access; remove it\n"


def refused(capsys):
    """What a command says that does not reach an engine."""
    assert cli.main(["status", "--fleet", "desk"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("key", "hosts", "says"),
    [
        ("stranger", "known_hosts", "Permission denied (publickey); it accepts none of your keys"),
        ("key", "no_hosts", f"Host key verification failed; `ssh {HOST}` shows the key of that machine"),
        ("bare", "known_hosts", "there is no docker command on that machine; install it there"),
    ],
)
def test_a_failure_of_ssh_is_explained(key, hosts, says, sshd, tmp_path, monkeypatch, capsys):
    lead(monkeypatch, sshd.client(tmp_path / "client", key, hosts))
    monkeypatch.setenv("DOCKER_HOST", sshd.address)
    said = refused(capsys)
    assert f"no Docker engine is reachable at {sshd.address} (DOCKER_HOST)" in said
    assert says in said


def test_a_missing_sshd_is_explained(monkeypatch, capsys):
    monkeypatch.setenv("DOCKER_HOST", f"ssh://{HOST}:1")
    if not program("ssh"):
        raise Missing("ssh", "no ssh command", "apt-get install openssh-client")
    assert f"port 1: Connection refused; `ssh {HOST}` has to work, and `docker version` there" in refused(
        capsys
    )


def test_a_missing_ssh_command_is_explained(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DOCKER_HOST", f"ssh://{HOST}:1")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no ssh command; install it (openssh-client)" in refused(capsys)


def test_a_failure_of_tls_is_explained(trusted, tls_port, sshd, tmp_path, monkeypatch, capsys):
    address = f"tcp://{HOST}:{tls_port}"
    other = authority()
    monkeypatch.setenv("DOCKER_HOST", address)
    assert "where it asks for TLS: DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH" in refused(capsys)
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")

    def by(folder):
        monkeypatch.setenv("DOCKER_CERT_PATH", str(folder))
        return refused(capsys)

    said = by(certificates(tmp_path / "distrusting", other, trusted))
    assert f"the certificate of the Docker engine at {address} (DOCKER_HOST) is not trusted" in said
    assert f"trusted is {tmp_path}/distrusting/ca.pem" in said
    for client, name in ((other, "foreign"), (None, "nobody")):
        said = by(certificates(tmp_path / name, trusted, client))
        assert f"the Docker engine at {address} (DOCKER_HOST) refuses the connection: " in said
        assert f"cert.pem and key.pem in {tmp_path}/{name} have to be signed by whom it trusts" in said

    half = certificates(tmp_path / "half", trusted, trusted)
    (half / "key.pem").unlink()
    assert f"{half} has cert.pem, but no key.pem, which belongs to it" in by(half)
    (half / "ca.pem").write_text("nothing")
    (half / "cert.pem").unlink()
    assert f"{half}/ca.pem cannot be used for TLS" in by(half)

    monkeypatch.setenv("DOCKER_HOST", f"tcp://{HOST}:{sshd.port}")
    assert "nothing speaks TLS there (wrong version number); is it the right port?" in by(tmp_path / "nobody")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("tcp://host:99999", "it has no valid host and port"),
        ("ssh://***@host", "it has more than a user, a host, a port and a path"),
        ("http://host", "an engine is at unix://PATH, tcp://HOST:PORT or ssh://USER@HOST:PORT"),
        ("tcp://[::1", "it has no valid host and port"),
        ("tcp://exchange..example:2375", "it has no valid host and port"),
        ("tcp://", "an engine is at unix://PATH, tcp://HOST:PORT or ssh://USER@HOST:PORT"),
    ],
)
def test_an_invalid_address_is_explained(address, says, monkeypatch, capsys):
    monkeypatch.setenv("DOCKER_HOST", address.replace("***", "me:secret"))
    assert f"DOCKER_HOST = {address!r}: {says}" in refused(capsys)
