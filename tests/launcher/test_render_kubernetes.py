import base64
import re
import subprocess

import kubernetes_validate
import pytest
import yaml
from clusters import kubectl_program
from fleet_texts import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from rendering import ODD, VALUES, with_environment

from launcher import cli, fleet, fleet_keys, render

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
        for document in yaml.load_all((folder / "out" / name).read_text(), yaml.CSafeLoader)
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


def test_secrets_appear_only_in_secrets(tmp_path):
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


def test_a_changed_secret_restarts_only_its_pods(tmp_path):
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
        alive = ["python", "-m", "collector", "health"]
        for probe, command in (
            ("startupProbe", alive),
            ("livenessProbe", alive),
            ("readinessProbe", [*alive, "--ready"]),
        ):
            assert container[probe]["exec"]["command"] == command
    (container,) = pod(found, "desk-bitstamp")["containers"]
    assert container["resources"]["limits"] == {"memory": "64Mi", "cpu": "334m"}
    assert container["resources"]["requests"] == {"memory": "64Mi", "cpu": "100m"}


#: Of each kind of store, the ports of its servers, and of those that they name.
ADDRESSES = {
    "backend: REDIS, host: a": [6379],
    "backend: REDISSTREAM, host: a, port: 7000": [7000],
    "backend: REDIS, url: 'rediss://a:7001/2'": [7001],
    "backend: REDIS, url: 'redis+sentinel://a,b:26380/main'": [6379, 26379, 26380],
    "backend: REDIS, url: 'rediss+sentinel://a:7/main/1', kubernetes: {ports: [7002, 7003]}": [
        *(7, 6379),
        *(7002, 7003),
    ],
    "backend: REDIS, url: 'unix:///run/redis.sock'": [],
    "backend: MONGO, host: a, database: d": [27017],
    "backend: MONGO, url: 'mongodb://a:27018,b:27019/d?replicaSet=rs'": [27017, 27018, 27019],
    "backend: MONGO, url: 'mongodb+srv://cluster.example.com/d'": [27017],
    "backend: POSTGRES, host: a, database: d": [5432],
    "backend: POSTGRES, url: 'postgresql://a:5433,b/d'": [5432, 5433],
    "backend: PARQUET": [],
    "backend: TTY": [],
    "backend: POSTGRES, database: d, kubernetes: {secret: s, secret_keys: url, ports: 5433}": [5432, 5433],
}


@pytest.mark.parametrize("store", ADDRESSES)
def test_a_collector_may_reach_only_its_store_exchanges_and_dns(tmp_path, store):
    text = (
        f"fleet: desk\nstores: {{main: {{{store}}}}}\ncollectors:\n"
        '  - {exchange: KRAKEN, symbols: BTC-USD, channels: trades, https_proxy: "http://me:pass@proxy:3128"}\n'
    )
    found = manifests(tmp_path, load(tmp_path, text))
    spec = found["NetworkPolicy", "desk-kraken"]["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in spec  # nothing is let in; an empty list would come back as none, a difference
    names, others = spec["egress"]
    assert {(each["protocol"], each["port"]) for each in names["ports"]} == {("UDP", 53), ("TCP", 53)}
    assert all(each["protocol"] == "TCP" for each in others["ports"])
    assert sorted(each["port"] for each in others["ports"]) == sorted(
        [443, 3128, 8443, 9443, *ADDRESSES[store]]
    )
    labels = found["StatefulSet", "desk-kraken"]["spec"]["template"]["metadata"]["labels"]
    assert spec["podSelector"]["matchLabels"].items() <= labels.items()


def test_ports_that_an_endpoint_names_are_open(tmp_path):
    text = (
        "fleet: desk\nstores: {main: {backend: PARQUET}}\ncollectors:\n"
        "  - exchange: KRAKEN\n    symbols: BTC-USD\n    channels: trades\n"
        "    endpoint: [websocket=wss://a.example:7443, rest=https://b.example]\n"
    )
    found = manifests(tmp_path, load(tmp_path, text))
    _, others = found["NetworkPolicy", "desk-kraken"]["spec"]["egress"]
    assert [each["port"] for each in others["ports"]] == [443, 7443, 8443, 9443]


def test_volumes_are_claimed(tmp_path):
    found = manifests(tmp_path, load(tmp_path))
    claims = {
        claim["metadata"]["name"]: claim["spec"]["resources"]["requests"]["storage"]
        for claim in found["StatefulSet", "desk-kraken"]["spec"]["volumeClaimTemplates"]
    }
    assert claims == {"spool": "3Gi", "data": "100Gi"}
    mounts = {
        each["name"]: each["mountPath"] for each in pod(found, "desk-kraken")["containers"][0]["volumeMounts"]
    }
    assert mounts == {"spool": "/spool", "data": "/data", "tmp": "/tmp", "secrets": "/etc/cryptostore"}


def collector(more, store="backend: TTY"):
    return (
        f"fleet: desk\nstores: {{main: {{{store}}}}}\ncollectors:\n"
        f"  - {{exchange: KRAKEN, symbols: BTC-USD, channels: trades, {more}}}\n"
    )


def test_claims_are_as_large_and_of_the_class_that_the_file_says(tmp_path):
    text = collector(
        "kubernetes: {spool_size: 20GiB, data_class: slow}",
        "backend: PARQUET, kubernetes: {spool_class: fast, data_size: 2TiB, data_class: other}",
    )
    found = manifests(tmp_path, load(tmp_path, text))
    spool, data = found["StatefulSet", "desk-kraken"]["spec"]["volumeClaimTemplates"]
    assert spool["spec"]["storageClassName"] == "fast"
    assert spool["spec"]["resources"] == {"requests": {"storage": "20Gi"}}
    assert data["spec"]["storageClassName"] == "slow"
    assert data["spec"]["resources"] == {"requests": {"storage": "2Ti"}}


def test_a_different_spool_size_leaves_the_claim_alone(tmp_path):
    before, after = (
        manifests(tmp_path, load(tmp_path, collector(f"spool_max_bytes: {size}")))[
            "StatefulSet", "desk-kraken"
        ]
        for size in ("1GiB", "2GiB")
    )
    assert before["spec"]["volumeClaimTemplates"] == after["spec"]["volumeClaimTemplates"]
    assert before["spec"]["template"] != after["spec"]["template"]


def test_a_claim_too_small_for_the_spool_is_refused(tmp_path, capsys):
    load(tmp_path, collector("spool_max_bytes: 4GiB"))
    file, out = str(tmp_path / "fleet.yaml"), str(tmp_path / "out")
    assert cli.main(["render", file, "--format", "kubernetes", "--output", out]) == 2
    assert capsys.readouterr().err == (
        "launcher: kraken: a claim of 3Gi for the spool is too small for `spool_max_bytes`; set "
        "`kubernetes: {spool_size: 6144MiB}` or more\n"
    )
    load(tmp_path, collector("spool_max_bytes: 4GiB, kubernetes: {spool_size: 6144MiB}"))
    assert cli.main(["render", file, "--format", "kubernetes", "--output", out]) == 0


def test_changed_claims_come_with_their_steps(tmp_path, capsys):
    file, out = str(tmp_path / "fleet.yaml"), str(tmp_path / "out")
    said = []
    larger = "kubernetes: {spool_size: 4GiB}"
    for store, more in (("TTY", ""), ("TTY", ""), ("TTY", larger), ("PARQUET", larger)):
        load(tmp_path, "image: registry/cryptostore\n" + collector(more, f"backend: {store}"))
        assert cli.main(["render", file, "--format", "kubernetes", "--output", out]) == 0
        said.append(capsys.readouterr().err)
    assert said[:2] == ["", ""]
    assert "desk-kraken: its claims changed" in said[2]
    assert "`kubectl delete statefulset desk-kraken --cascade=orphan`" in said[2]
    assert "`kubectl delete statefulset desk-kraken`" in said[3]


def test_an_image_without_a_registry_is_warned_about(tmp_path, capsys):
    load(tmp_path, collector(""))
    file, out = str(tmp_path / "fleet.yaml"), str(tmp_path / "out")
    assert cli.main(["render", file, "--format", "kubernetes", "--output", out]) == 0
    assert "hint: image cryptostore:latest names no registry" in capsys.readouterr().err


def test_an_existing_secret_is_named_and_not_rendered(tmp_path):
    text = collector(
        "",
        "backend: REDIS, host: redis, password: s3cret, "
        "kubernetes: {secret: market-login, secret_keys: [password, ca.pem]}",
    )
    found = manifests(tmp_path, load(tmp_path, text))
    assert not [name for kind, name in found if kind == "Secret"]
    spec = pod(found, "desk-kraken")
    (volume,) = (each for each in spec["volumes"] if each["name"] == "secrets")
    (source,) = volume["projected"]["sources"]
    keys = [{"key": key, "path": key} for key in ("password", "ca.pem")]
    assert source == {"secret": {"name": "market-login", "items": keys}}
    environment = {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}
    assert environment["PASSWORD_FILE"] == "/etc/cryptostore/password"
    assert environment["SSL_CERT_FILE"] == "/etc/cryptostore/ca.pem"
    assert "s3cret" not in "".join(each.read_text() for each in (tmp_path / "out").iterdir())


def test_a_url_in_an_existing_secret_replaces_what_it_says(tmp_path):
    text = collector("", "backend: REDIS, host: redis, port: 7, kubernetes: {secret: s, secret_keys: url}")
    (container,) = pod(manifests(tmp_path, load(tmp_path, text)), "desk-kraken")["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert environment["URL_FILE"] == "/etc/cryptostore/url"
    assert not environment.keys() & {"URL", "HOST", "PORT"}


def test_urls_in_two_secrets_are_two_stores(tmp_path):
    stores = ", ".join(
        f"{name}: {{backend: REDIS, kubernetes: {{secret: {name}, secret_keys: url}}}}" for name in ("a", "b")
    )
    same = "exchange: KRAKEN, symbols: BTC-USD, channels: trades"
    collectors = f"{{{same}, store: a}}, {{{same}, store: b, name: k}}"
    text = f"fleet: desk\nstores: {{{stores}}}\ncollectors: [{collectors}]\n"
    assert load(tmp_path, text).hints == ()
    with pytest.raises(fleet.FleetError, match="into the same store"):
        load(tmp_path, text.replace("store: b", "store: a"))


def test_every_key_is_on_the_page():
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    assert not [key for key in fleet_keys.KUBERNETES if f"`{key}`" not in page]


def test_secrets_of_an_earlier_rendering_are_removed(tmp_path):
    found = manifests(
        tmp_path, load(tmp_path, collector("", "backend: REDIS, host: redis, password: s3cret"))
    )
    assert ("Secret", "desk-kraken") in found
    found = manifests(tmp_path, load(tmp_path, collector("", "backend: REDIS, host: redis")))
    assert ("Secret", "desk-kraken") not in found
    assert not (tmp_path / "out" / "secrets.yaml").exists()


def test_shards_are_the_pods_of_one_stateful_set(tmp_path, capsys):
    text = collector("name: k, shards: 3")
    found = manifests(tmp_path, load(tmp_path, text))
    assert [name for kind, name in found if kind == "StatefulSet"] == ["desk-k"]
    spec = found["StatefulSet", "desk-k"]["spec"]
    assert (spec["replicas"], spec["ordinals"]) == (3, {"start": 1})
    (container,) = spec["template"]["spec"]["containers"]
    name, index, share, *_ = container["env"]
    assert name["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert index["valueFrom"] == {
        "fieldRef": {"fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}
    }
    assert share == {"name": "SHARD", "value": "$(POD_INDEX)/3"}
    out = ["--output", str(tmp_path / "out")]
    assert (
        cli.main(["render", str(tmp_path / "fleet.yaml"), "--format", "kubernetes", "--only", "k-1", *out])
        == 2
    )
    assert "k: 1 of its 3 shards are selected, and one StatefulSet has them all" in capsys.readouterr().err


def test_waves_follow_the_parallelism_and_change_no_pod(tmp_path):
    before = manifests(tmp_path, load(tmp_path))
    found = manifests(tmp_path, load(tmp_path, f"parallelism: 3{FLEET}"))
    waves = {
        name: (
            each["metadata"]["labels"]["cryptostore/wave"],
            each["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"],
        )
        for (kind, name), each in found.items()
        if kind == "StatefulSet"
    }
    assert list(waves.values()) == [("0", "0")] * 3 + [("1", "1")]
    assert "for wave in 0 1; do" in (tmp_path / "out" / "apply.sh").read_text()
    for key, each in found.items():
        assert each.get("spec") == before[key].get("spec")


def test_settings_without_meaning_in_a_cluster_are_refused(tmp_path, capsys):
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
    said = capsys.readouterr().err.splitlines()[-4:]
    assert [line.removeprefix("launcher: ") for line in said] == [
        "fleet desk: `source: simulated` is for trying out on one machine, not for Kubernetes; use "
        "`launcher run`, `launcher up` or the compose file, or `source: live`",
        f"{'k' * 48}: the name desk-{'k' * 48} is too long, a StatefulSet's has at most 52 characters",
        f"{'k' * 48}: path {tmp_path}/data: a folder on one machine cannot be used in a cluster; leave "
        "`path` out, and each collector claims a volume",
        "binance: restart on-failure:3: a StatefulSet always restarts its pods; leave `restart` out",
    ]
    assert not (tmp_path / "out").exists()


def built(folder):
    """What kustomize makes of a folder, by kind and name."""
    done = subprocess.run(
        [kubectl_program(), "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    return {
        (each["kind"], each["metadata"]["name"]): each
        for each in yaml.load_all(done.stdout, yaml.CSafeLoader)
    }


def test_kustomize_builds_it(tmp_path):
    found = manifests(tmp_path, load(tmp_path))
    assert built(tmp_path / "out") == found


def test_a_name_prefix_reaches_selectors_and_the_collectors_name_in_the_store(tmp_path):
    found = manifests(tmp_path, load(tmp_path))
    (tmp_path / "kustomization.yaml").write_text("namePrefix: staging-\nresources: [out]\n")
    copy = built(tmp_path)
    assert copy.keys() == {(kind, f"staging-{name}") for kind, name in found}
    for name in ("desk-coinbase", "desk-kraken"):
        template = copy["StatefulSet", f"staging-{name}"]["spec"]["template"]
        labels = template["metadata"]["labels"]
        called = template["spec"]["containers"][0]["env"][0]
        assert called["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['app.kubernetes.io/instance']"
        assert labels["app.kubernetes.io/instance"] == f"staging-{name}"
        selectors = [
            copy["StatefulSet", f"staging-{name}"]["spec"]["selector"]["matchLabels"],
            copy["NetworkPolicy", f"staging-{name}"]["spec"]["podSelector"]["matchLabels"],
            copy["PodDisruptionBudget", "staging-cryptostore-desk"]["spec"]["selector"]["matchLabels"],
            copy["Service", "staging-cryptostore-desk"]["spec"]["selector"],
        ]
        others = found["StatefulSet", name]["spec"]["template"]["metadata"]["labels"]
        for selector in selectors:
            assert selector.items() <= labels.items()
            assert not selector.items() <= others.items()
        (volume,) = (each for each in template["spec"]["volumes"] if each["name"] == "secrets")
        assert volume["projected"]["sources"] == [{"secret": {"name": f"staging-{name}"}}]


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
    name, *others = container["env"]
    assert name["name"] == "NAME"
    assert {each["name"]: expanded(each["value"], environment) for each in others} == environment


def expanded(value, environment):
    """A value as the kubelet passes it on: ``$$`` is ``$``, ``$(NAME)`` a variable."""

    def replacement(match):
        return "$" if match[0] == "$$" else environment.get(match["name"], match[0])

    return re.sub(r"\$\$|\$\((?P<name>[^)]*)\)", replacement, value)
