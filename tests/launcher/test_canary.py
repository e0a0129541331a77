"""Secrets are planted wherever one may be given; nothing that anybody gets to see may hold one."""

import json
import subprocess

import pytest
from fleets import docker
from process_list import process_list

pytestmark = pytest.mark.docker

#: Where a secret is given -> the secret itself.
CANARIES = {
    "password": "canary-inline-7f1e",
    "password_file": "canary-file-93aa",
    "variable": "canary-variable-05c2",
    "url": "canary-url-d8b4",
    "config": "canary-config-61fe",
    "https_proxy": "canary'proxy-2b9d",
    "https_proxy_file": "canary'proxyfile-e417",
}


@pytest.fixture
def secret_fleet(fleet, monkeypatch):
    folder = fleet.path.parent
    (folder / "password").write_text(CANARIES["password_file"])
    (folder / "config.yaml").write_text(f"kraken: {{key_id: {CANARIES['config']}}}")
    (folder / "proxy").write_text(f"http://me:{CANARIES['https_proxy_file']}@proxy:3128")
    monkeypatch.setenv("SECRET", CANARIES["variable"])
    stores = {
        "inline": {"backend": "REDIS", "host": "redis", "password": CANARIES["password"]},
        "file": {"backend": "REDIS", "host": "redis", "password_file": "password"},
        "variable": {"backend": "REDIS", "host": "redis", "password": "${SECRET}"},
        "url": {"backend": "REDIS", "url": f"redis://me:{CANARIES['url']}@redis:6379/0"},
    }
    common = {"exchange": "COINBASE", "channels": ["trades"], "symbols": ["BTC-USD"], "config": "config.yaml"}
    common["allow_overlap"] = True
    collectors = [{"name": name, "store": name, **common} for name in stores]
    proxy = {"https_proxy": f"http://me:{CANARIES['https_proxy']}@proxy:3128"}
    collectors[0] |= proxy
    collectors[1] |= {"https_proxy_file": "proxy"}
    collectors.append({**common, **proxy, "name": "broken", "store": "inline", "symbols": ["WRONG-SETTINGS"]})
    fleet.write({}, stores=stores)
    file = json.loads(fleet.path.read_text())
    fleet.path.write_text(json.dumps(file | {"collectors": collectors}))
    return fleet


def leaks(text):
    return [where for where, canary in CANARIES.items() if canary in text]


def test_no_command_shows_a_secret(secret_fleet, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with process_list() as listed:
        for arguments in (
            ("validate",), ("plan",), ("plan", "--json", "--out", "plan.json"), ("up", "--dry-run"), ("up",),
            ("plan", "--json"), ("status",), ("status", "--json"), ("logs",), ("restart",),
        ):  # fmt: skip
            secret_fleet.launch(*arguments)
        edited = secret_fleet.path.read_text().replace(CANARIES["password"], "canary-inline-7f1e-new")
        edited = edited.replace(CANARIES["https_proxy"], f"{CANARIES['https_proxy']}-new")
        secret_fleet.path.write_text(edited.replace("BTC-USD", "ETH-USD"))
        for arguments in (("plan",), ("plan", "--json"), ("up",), ("logs", "--tail", "all")):
            secret_fleet.launch(*arguments)
        said = capsys.readouterr()
        assert "a careless line with ***" in said.out
        assert "a careless proxy at ***" in said.out
        assert "a careless key *** of a library" in said.out
        assert "secret https_proxy: *** -> ***" in said.out
        assert [line for line in said.out.splitlines() if leaks(line)] == []
        assert [line for line in said.err.splitlines() if leaks(line)] == []
        assert "a careless line with ***" in said.err
        assert leaks((tmp_path / "plan.json").read_text()) == []
        assert leaks(inspected(secret_fleet)) == []
        secret_fleet.launch("down", "--volumes", "--yes")
        assert leaks("".join(capsys.readouterr())) == []
    assert leaks("".join(listed)) == []


def inspected(fleet):
    """All that Docker tells of the fleet's things."""
    of_fleet = ("--quiet", "--filter", f"name={fleet.name}")
    kinds = {"container": ("--all",), "volume": (), "network": ()}
    found = {kind: docker(kind, "ls", *of_fleet, *more).split() for kind, more in kinds.items()}
    assert all(found.values())
    return "".join(docker(kind, "inspect", *names) for kind, names in found.items())


@pytest.mark.parametrize("form", ["compose", "swarm", "kubernetes", "quadlet"])
def test_rendered_secrets_are_readable_by_their_owner_only(secret_fleet, form, tmp_path, capsys):
    assert secret_fleet.launch("render", "--format", form, "--output", str(tmp_path / "out")) == 0
    assert leaks("".join(capsys.readouterr())) == []
    with_secrets = [
        path for path in (tmp_path / "out").rglob("*") if path.is_file() and leaks(path.read_text())
    ]
    for path in with_secrets:
        mode = path.stat().st_mode & 0o077
        assert not mode or not path.parent.stat().st_mode & 0o077, path
    assert not [path for path in with_secrets if path.name in ("compose.yaml", "stack.yaml", "fleet.yaml")]


def test_a_compose_file_passes_secrets_as_files(secret_fleet, compose, tmp_path):
    file = json.loads(secret_fleet.path.read_text())
    file["collectors"] = file["collectors"][:2]
    secret_fleet.path.write_text(json.dumps(file))
    secret_fleet.launch("render", "--output", str(tmp_path / "out"))
    compose = [*compose, "--file", str(tmp_path / "out" / "compose.yaml")]
    subprocess.run([*compose, "up", "--detach"], check=True, capture_output=True)
    try:
        assert leaks(inspected(secret_fleet)) == []
        inside = docker("exec", f"{secret_fleet.name}-inline", "cat", "/run/secrets/password")
        assert inside == CANARIES["password"]
    finally:
        subprocess.run([*compose, "down", "--volumes", "--timeout", "2"], check=True, capture_output=True)


def test_an_update_without_a_secrets_file_says_so(secret_fleet, capsys):
    secret_fleet.path.with_name("password").unlink()
    assert secret_fleet.launch("up") in (1, 2)
    said = capsys.readouterr().err
    assert "password" in said
    assert "Traceback" not in said
