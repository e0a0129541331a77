import base64
import re
import subprocess

import kubernetes_validate
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import Missing, program
from rendering import ODD, VALUES, with_environment

from launcher import cli, fleet, render

FLEET = """
fleet: desk
stores:
  redis: {backend: REDIS, host: redis, port: 7000, password: ' se"c$$ret '}
  files: {backend: PARQUET}
  far: {backend: REDIS, url_file: url}
defaults: {channels: trades, spool_max_bytes: 1GiB, limits: {memory: 64MiB, cpus: 0.1}}
collectors:
  - {exchange: COINBASE, symbols: [BTC-USD, ETH-USD], store: redis}
  - {exchange: KRAKEN, symbols: BTC-USD, store: files, config: keys.yaml, https_proxy: "http://me:pass@proxy:3128"}
  - {exchange: BITSTAMP, symbols: BTC-USD, backend: TTY, store: redis, limits: {cpus: 0.3333}}
  - {exchange: GEMINI, symbols: BTC-USD, store: far}
"""
#: The newest versions of Kubernetes, three of which are maintained at any time.
VERSIONS = [f"1.{int(kubernetes_validate.latest_version().split('.')[1]) - older}" for older in range(3)]


def load(folder, text=FLEET):
    (folder / "url").write_text("redis+sentinel://one:6380,two/main\n")
    (folder / "keys.yaml").write_bytes(b"key: \xc3\xa9\n")
    path = folder / "fleet.yaml"
    path.write_text(text)
    return fleet.load(path, {})


def manifests(folder, spec):
    """What is rendered, by kind and name."""
    render.write(spec, folder / "out", "kubernetes")
    documents = [
        document
        for name in ("fleet.yaml", "secrets.yaml")
        if (folder / "out" / name).exists()
        for document in yaml.safe_load_all((folder / "out" / name).read_text())
        if document
    ]
    return {(each["kind"], each["metadata"]["name"]): each for each in documents}


def pod(found, name):
    return found["StatefulSet", name]["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_fit_the_published_schemas(tmp_path, version):
    found = manifests(tmp_path, load(tmp_path))
    assert {kind for kind, _ in found} == {
        *("StatefulSet", "Service", "Secret", "NetworkPolicy", "PodDisruptionBudget")
    }
    for manifest in found.values():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_secrets_are_in_secrets_alone(tmp_path):
    spec = load(tmp_path)
    found = manifests(tmp_path, spec)
    secret = found["Secret", "desk-coinbase"]["data"]
    assert {name: base64.b64decode(data) for name, data in secret.items()} == {"password": b'se"c$$ret'}
    keys = found["Secret", "desk-kraken"]["data"]
    assert {name: base64.b64decode(data) for name, data in keys.items()} == {
        "config.yaml": b"key: \xc3\xa9\n",
        "https_proxy": b"http://me:pass@proxy:3128",
    }
    assert ("Secret", "desk-bitstamp") in found  # it has the store's password, though it needs none
    assert "ret" not in (tmp_path / "out" / "fleet.yaml").read_text().replace("secret", "")
    (container,) = pod(found, "desk-coinbase")["containers"]
    assert {"name": "PASSWORD_FILE", "value": "/etc/cryptostore/password"} in container["env"]
    assert {"name": "secrets", "mountPath": "/etc/cryptostore", "readOnly": True} in container["volumeMounts"]
    (container,) = pod(found, "desk-kraken")["containers"]
    assert {"name": "CONFIG", "value": "/etc/cryptostore/config.yaml"} in container["env"]


def test_a_changed_secret_restarts_its_pods_alone(tmp_path):
    before = manifests(tmp_path, load(tmp_path))
    after = manifests(tmp_path, load(tmp_path, FLEET.replace('se"c', "other")))
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {
        (kind, name) for kind in ("Secret", "StatefulSet") for name in ("desk-coinbase", "desk-bitstamp")
    }


def test_pods_are_locked_down(tmp_path):
    found = manifests(tmp_path, load(tmp_path))
    for name in ("desk-coinbase", "desk-kraken", "desk-bitstamp"):
        spec = pod(found, name)
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            **dict.fromkeys(("runAsUser", "runAsGroup", "fsGroup"), 10001),
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert spec["enableServiceLinks"] is False
        assert spec["automountServiceAccountToken"] is False
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["exec"]["command"] == ["python", "-m", "collector", "health"]
    (container,) = pod(found, "desk-bitstamp")["containers"]
    assert container["resources"]["limits"] == {"memory": str(64 * 2**20), "cpu": "334m"}


def test_each_collector_may_reach_what_it_needs_alone(tmp_path):
    found = manifests(tmp_path, load(tmp_path))

    def ports(name):
        spec = found["NetworkPolicy", name]["spec"]
        assert spec["ingress"] == []
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        names, others = spec["egress"]
        assert {(each["protocol"], each["port"]) for each in names["ports"]} == {("UDP", 53), ("TCP", 53)}
        return [each["port"] for each in others["ports"]]

    assert ports("desk-coinbase") == [443, 7000, 8443, 9443]
    assert ports("desk-kraken") == [443, 3128, 8443, 9443]
    assert ports("desk-gemini") == [443, 6379, 6380, 8443, 9443]
    selector = found["NetworkPolicy", "desk-kraken"]["spec"]["podSelector"]["matchLabels"]
    assert (
        selector.items()
        <= found["StatefulSet", "desk-kraken"]["spec"]["template"]["metadata"]["labels"].items()
    )


def test_volumes_are_claimed(tmp_path):
    found = manifests(tmp_path, load(tmp_path))
    claims = {
        claim["metadata"]["name"]: claim["spec"]["resources"]["requests"]["storage"]
        for claim in found["StatefulSet", "desk-kraken"]["spec"]["volumeClaimTemplates"]
    }
    assert claims == {"spool": "1536Mi", "data": "100Gi"}
    mounts = {
        each["name"]: each["mountPath"] for each in pod(found, "desk-kraken")["containers"][0]["volumeMounts"]
    }
    assert mounts == {"spool": "/spool", "data": "/data", "tmp": "/tmp", "secrets": "/etc/cryptostore"}


def test_what_has_no_meaning_in_a_cluster_is_refused(tmp_path, capsys):
    text = (
        FLEET.partition("  - {exchange: GEMINI")[0]
        .replace("PARQUET}", "PARQUET, path: data}")
        .replace("TTY,", "TTY, restart: on-failure:3,")
    )
    path = tmp_path / "fleet.yaml"
    load(
        tmp_path,
        f"source: simulated\n{text}".replace("BITSTAMP", "BINANCE").replace(
            ', https_proxy: "http://me:pass@proxy:3128"', f", name: {'k' * 48}"
        ),
    )
    assert cli.main(["render", str(path), "--format", "kubernetes", "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.splitlines()[-4:] == [
        "fleet desk: `source: simulated` is for trying out on one machine, not for Kubernetes; use "
        "`launcher run`, `launcher up` or the compose file, or `source: live`",
        f"{'k' * 48}: the name desk-{'k' * 48} is too long, a StatefulSet's has at most 52 characters",
        f"{'k' * 48}: path {tmp_path}/data: a folder of one machine is none of a cluster; leave `path` out, "
        "and each collector claims a volume",
        "binance: restart on-failure:3: a StatefulSet always restarts its pods; leave `restart` out",
    ]
    assert not (tmp_path / "out").exists()


def test_kustomize_builds_it(tmp_path):
    if not program("kubectl"):
        raise Missing("kubectl", "it is not on PATH", "apt-get install kubernetes-client")
    found = manifests(tmp_path, load(tmp_path))
    done = subprocess.run(
        ["kubectl", "kustomize", tmp_path / "out"], capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    assert {(each["kind"], each["metadata"]["name"]) for each in built} == found.keys()
    (kraken,) = [
        each for each in built if each["metadata"]["name"] == "desk-kraken" and each["kind"] == "StatefulSet"
    ]
    assert kraken == found["StatefulSet", "desk-kraken"]


@settings(deadline=None, max_examples=20)
@given(st.lists(VALUES, min_size=20, max_size=50))
def test_every_value_survives(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("values")
    environment = {
        f"V{number}": value for number, value in enumerate((*ODD, "a\nb\n", "$(V0)", "$$(V0)", *values))
    }
    environment |= {"BACKEND": "TTY"}
    found = manifests(folder, with_environment(load(folder), environment))
    (container,) = pod(found, "desk-coinbase")["containers"]
    assert {each["name"]: expanded(each["value"], environment) for each in container["env"]} == environment


def expanded(value, environment):
    """A value as the kubelet passes it on: ``$$`` is ``$``, ``$(NAME)`` a variable."""

    def replacement(match):
        return "$" if match[0] == "$$" else environment.get(match["name"], match[0])

    return re.sub(r"\$\$|\$\((?P<name>[^)]*)\)", replacement, value)
