"""What is rendered for Kubernetes, and what docs/kubernetes.md has people do with it.

On a real API server with its controllers and its scheduler, one test after the other: one drains a node.
"""

import datetime as dt
import json
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from clusters import Namespace, kubeconfig, kubectl_program
from fleet_texts import ROOT
from waiting import wait_until

from launcher import cli

pytestmark = pytest.mark.slow

HEAD = """
fleet: desk
stores:
  redis: {backend: REDIS, host: redis, password: s3cret}
  files: {backend: PARQUET}
defaults: {channels: trades, store: redis}
collectors:
"""
COINBASE = "  - {exchange: COINBASE, symbols: [BTC-USD, ETH-USD]}\n"
KRAKEN = "  - {exchange: KRAKEN, symbols: BTC-USD}\n"
SHARDED = "  - {exchange: BINANCE, symbols: '*-USDT', shards: 2}\n"
PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
BLOCK = re.compile(r"^```(yaml|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ (.*\n(?:> .*\n)*)((?:(?!\$ ).*\n)*)", re.MULTILINE)
#: What `docs/kubernetes.md` prunes by.
KINDS = (
    "core/v1/Secret",
    "core/v1/Service",
    "apps/v1/StatefulSet",
    "networking.k8s.io/v1/NetworkPolicy",
    "policy/v1/PodDisruptionBudget",
)


@pytest.fixture
def namespace():
    namespace = Namespace(f"test-{uuid.uuid4().hex[:8]}")
    yield namespace
    namespace.remove()


@pytest.fixture
def rendered(tmp_path):
    """Renders a fleet of collectors; the folder."""

    def render(*collectors, head=HEAD):
        (tmp_path / "fleet.yaml").write_text(head + "".join(collectors))
        out = str(tmp_path / "rendered")
        file = str(tmp_path / "fleet.yaml")
        assert cli.main(["render", file, "--format", "kubernetes", "--output", out]) == 0
        return out

    return render


@pytest.fixture
def apply_in_waves(namespace, tmp_path):
    """Runs the script of a rendered folder; its exit status, and what it says."""
    (tmp_path / "kubectl").symlink_to(kubectl_program())
    shell = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TIMEOUT": "5s"}

    def apply(folder, **variables):
        where = ("--kubeconfig", kubeconfig(), "--namespace", namespace.name)
        command = ["sh", f"{folder}/apply.sh", *where]
        done = subprocess.run(
            command, env=shell | variables, capture_output=True, text=True, check=False, timeout=120
        )
        return done.returncode, done.stdout + done.stderr

    return apply


def labelled(namespace, label):
    """The value of a label of each pod."""
    return {name: pod["metadata"]["labels"][label] for name, pod in namespace.get("pods").items()}


@pytest.mark.parametrize("way", [(), ("--server-side",)], ids=["client", "server"])
def test_a_fleet_is_applied_without_warnings_and_unchanged_the_next_time(namespace, rendered, way):
    namespace.kubectl("create", "quota", "all", "--hard=requests.cpu=1,requests.memory=1Gi")
    folder = rendered(COINBASE, KRAKEN.replace("BTC-USD", "BTC-USD, store: files"), SHARDED)
    apply = ("apply", *way, "--kustomize", folder, "--warnings-as-errors")
    assert "server dry run" in namespace.kubectl(*apply, "--dry-run=server")
    assert namespace.get("statefulsets") == {}
    namespace.kubectl(*apply)
    namespace.wait_until_ready(4)
    assert namespace.kubectl("diff", *way, "--kustomize", folder) == ""
    assert {pod["status"]["qosClass"] for pod in namespace.get("pods").values()} == {"Burstable"}
    before = namespace.pods()
    namespace.kubectl(*apply)
    assert {each["metadata"]["generation"] for each in namespace.get("statefulsets").values()} == {1}
    assert namespace.pods() == before


def test_a_fleet_that_was_applied_by_the_client_is_taken_over_by_the_server(namespace, rendered):
    folder = rendered(COINBASE)
    namespace.kubectl("apply", "--kustomize", folder)
    namespace.wait_until_ready(1)
    before = namespace.pods()
    namespace.kubectl("apply", "--server-side", "--force-conflicts", "--kustomize", folder)
    assert namespace.kubectl("diff", "--server-side", "--kustomize", folder) == ""
    assert namespace.pods() == before


def test_a_change_replaces_one_pod_and_no_other(namespace, rendered):
    namespace.kubectl("apply", "--kustomize", rendered(COINBASE, KRAKEN))
    namespace.wait_until_ready(2)
    before = namespace.pods()
    change = ", spool_max_bytes: 1GiB, log_level: DEBUG, limits: {memory: 1GiB}}"
    folder = rendered(COINBASE, KRAKEN.replace("}", change))
    namespace.kubectl("apply", "--kustomize", folder, "--warnings-as-errors")
    namespace.kubectl("rollout", "status", "statefulset/desk-kraken", "--timeout=60s")
    after = namespace.pods()
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {"desk-kraken-0"}


def test_changing_the_kind_of_store_takes_the_documented_steps(namespace, rendered, capsys):
    namespace.kubectl("apply", "--kustomize", rendered(COINBASE, KRAKEN))
    namespace.wait_until_ready(2)
    before, claims = namespace.pods(), namespace.get("persistentvolumeclaims")
    folder = rendered(COINBASE, KRAKEN.replace("}", ", store: files}"))
    (step,) = (part for part in capsys.readouterr().err.split("`") if part.startswith("kubectl delete"))
    status, said = namespace.kubectl("apply", "--kustomize", folder, "--dry-run=server", check=False)
    assert (status, "updates to statefulset spec" in said) == (1, True)
    namespace.kubectl(*step.split()[1:])
    namespace.kubectl("apply", "--kustomize", folder)
    namespace.kubectl("rollout", "status", "statefulset/desk-kraken", "--timeout=60s")
    after = namespace.pods()
    assert {name for name in after if after[name] != before[name]} == {"desk-kraken-0"}
    now = namespace.get("persistentvolumeclaims")
    assert now.keys() - claims.keys() == {"data-desk-kraken-0"}
    for name, claim in claims.items():
        assert now[name]["metadata"]["uid"] == claim["metadata"]["uid"]


def test_enlarging_a_claim_takes_the_documented_steps_and_replaces_no_pod(namespace, rendered, capsys):
    namespace.kubectl("apply", "--kustomize", rendered(COINBASE, KRAKEN))
    namespace.wait_until_ready(2)
    before = namespace.pods()
    folder = rendered(COINBASE, KRAKEN.replace("}", ", kubernetes: {spool_size: 6GiB}}"))
    (step,) = (part for part in capsys.readouterr().err.split("`") if part.startswith("kubectl delete"))
    larger = {"spec": {"resources": {"requests": {"storage": "6Gi"}}}}
    namespace.kubectl("patch", "pvc", "spool-desk-kraken-0", "--patch", json.dumps(larger))
    namespace.kubectl(*step.split()[1:])
    namespace.kubectl("apply", "--kustomize", folder)
    namespace.kubectl("rollout", "status", "statefulset/desk-kraken", "--timeout=60s")
    assert namespace.pods() == before
    assert namespace.kubectl("diff", "--kustomize", folder) == ""


def is_observed(it):
    """Whether the cluster acts on what an object says now."""
    return it["status"].get("observedGeneration") == it["metadata"]["generation"]


def test_one_collector_of_a_fleet_is_evicted_at_a_time(namespace, rendered):
    namespace.kubectl("apply", "--kustomize", rendered(COINBASE, KRAKEN))
    namespace.wait_until_ready(2)
    nowhere = {
        "updateStrategy": {"type": "OnDelete", "rollingUpdate": None},
        "template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": "nowhere"}}},
    }
    namespace.kubectl("patch", "statefulset", "desk-coinbase", "--patch", json.dumps({"spec": nowhere}))
    wait_until(lambda: is_observed(namespace.get("statefulset")["desk-coinbase"]))
    before = namespace.pods()
    status, said = namespace.evict("desk-coinbase-0")
    assert status == 0, said
    wait_until(lambda: namespace.pods().get("desk-coinbase-0") not in (None, before["desk-coinbase-0"]))
    status, said = namespace.evict("desk-kraken-0")  # while the other one is pending
    assert status == 1
    assert "would violate the pod's disruption budget" in said
    assert namespace.pods()["desk-kraken-0"] == before["desk-kraken-0"]


def test_two_copies_in_one_namespace_are_two_fleets(namespace, rendered, tmp_path):
    folder = rendered(COINBASE, KRAKEN)
    namespace.kubectl("apply", "--kustomize", folder)
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "kustomization.yaml").write_text("namePrefix: staging-\nresources: [../rendered]\n")
    namespace.kubectl("apply", "--kustomize", copy, "--warnings-as-errors")
    namespace.wait_until_ready(4)
    assert {name: budget["status"]["expectedPods"] for name, budget in namespace.get("pdb").items()} == {
        "cryptostore-desk": 2,
        "staging-cryptostore-desk": 2,
    }
    assert labelled(namespace, "app.kubernetes.io/instance") == {
        f"{prefix}desk-{name}-0": f"{prefix}desk-{name}"
        for prefix in ("", "staging-")
        for name in ("coinbase", "kraken")
    }
    # A pod that two budgets select is never evicted.
    assert namespace.evict("desk-coinbase-0")[0] == 0
    assert namespace.evict("staging-desk-coinbase-0")[0] == 0

    rendered(COINBASE)
    mine = namespace.pods()
    namespace.kubectl(*pruning(copy, "staging-cryptostore-desk"))
    assert namespace.get("statefulsets").keys() == {"desk-coinbase", "desk-kraken", "staging-desk-coinbase"}
    assert mine["desk-kraken-0"] == namespace.pods()["desk-kraken-0"]


def pruning(folder, fleet):
    kinds = (f"--prune-allowlist={kind}" for kind in KINDS)
    return ("apply", "--kustomize", folder, "--prune", "--selector", f"cryptostore/fleet={fleet}", *kinds)


def test_a_collector_removed_from_the_file_is_deleted_and_its_claims_stay(namespace, rendered):
    namespace.kubectl("apply", "--kustomize", rendered(COINBASE, KRAKEN))
    namespace.wait_until_ready(2)
    claims = namespace.get("persistentvolumeclaims").keys()
    folder = rendered(COINBASE)
    namespace.kubectl(*pruning(folder, "cryptostore-desk"), "--warnings-as-errors")
    namespace.wait_until_ready(1)
    for kind in ("statefulsets", "networkpolicies", "secrets"):
        assert namespace.get(kind).keys() == {"desk-coinbase"}
    assert namespace.get("persistentvolumeclaims").keys() == claims
    assert namespace.kubectl("diff", "--kustomize", folder) == ""


def test_the_shards_of_a_collector_are_replaced_one_after_the_other(namespace, rendered):
    namespace.kubectl("apply", "--kustomize", rendered(SHARDED))
    namespace.wait_until_ready(2)
    assert namespace.pods().keys() == {"desk-binance-1", "desk-binance-2"}
    assert labelled(namespace, "apps.kubernetes.io/pod-index") == {
        "desk-binance-1": "1",
        "desk-binance-2": "2",
    }
    folder = rendered(SHARDED, head=f"image: cryptostore:2{HEAD}")
    namespace.kubectl("apply", "--kustomize", folder)
    namespace.kubectl("rollout", "status", "statefulset/desk-binance", "--timeout=120s")
    began = {
        name: dt.datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
        for name, pod in namespace.get("pods").items()
    }
    assert (began["desk-binance-1"] - began["desk-binance-2"]).total_seconds() >= 10


def test_a_collector_that_does_not_become_ready_halts_those_of_later_waves(
    namespace, rendered, apply_in_waves
):
    head = f"parallelism: 1{HEAD}"
    status, said = apply_in_waves(rendered(COINBASE, KRAKEN, head=head))
    assert status == 0, said
    before = namespace.pods()
    assert before.keys() == {"desk-coinbase-0", "desk-kraken-0"}

    def place(selector):
        patch = json.dumps({"spec": {"template": {"spec": {"nodeSelector": selector}}}})
        namespace.kubectl("patch", "statefulset", "desk-coinbase", "--patch", patch)

    place({"kubernetes.io/hostname": "nowhere"})
    folder = rendered(COINBASE, KRAKEN, head=f"image: cryptostore:2\n{head}")
    status, said = apply_in_waves(folder)
    assert (status, "timed out" in said) == (1, True), said
    assert namespace.pods()["desk-kraken-0"] == before["desk-kraken-0"]

    place(None)
    namespace.kubectl("delete", "pod", "desk-coinbase-0")
    status, said = apply_in_waves(folder)
    assert status == 0, said
    assert {pod["spec"]["containers"][0]["image"] for pod in namespace.get("pods").values()} == {
        "cryptostore:2"
    }
    assert namespace.kubectl("diff", "--kustomize", folder) == ""


def test_a_shard_that_does_not_become_ready_halts_the_others(namespace, rendered):
    namespace.kubectl("apply", "--kustomize", rendered(SHARDED))
    namespace.wait_until_ready(2)
    before = namespace.pods()
    nowhere = {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": "nowhere"}}}}
    namespace.kubectl("patch", "statefulset", "desk-binance", "--patch", json.dumps({"spec": nowhere}))
    wait_until(lambda: namespace.pods().get("desk-binance-2") not in (None, before["desk-binance-2"]))
    status, said = namespace.kubectl(
        "rollout", "status", "statefulset/desk-binance", "--timeout=15s", check=False
    )
    assert (status, "timed out" in said) == (1, True)
    assert namespace.pods()["desk-binance-1"] == before["desk-binance-1"]


def test_the_page_does_what_it_says(tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "kubectl").symlink_to(kubectl_program())
    (tmp_path / "kubeconfig").write_bytes(kubeconfig().read_bytes())
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    shell = {**os.environ, "PATH": path, "KUBECONFIG": str(tmp_path / "kubeconfig")}
    folder = tmp_path / "work"
    folder.mkdir()
    variables = ""
    for kind, block in BLOCK.findall(PAGE):
        if kind == "yaml":
            name = re.match(r"# (.*)\n", block)[1]
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(block)
            continue
        for written, output in COMMAND.findall(block):
            command = written.replace("\n> ", "\n").rstrip()
            if re.match(r"\w+=", command):
                variables += f"{command}\n"
            done = subprocess.run(
                ["bash", "-c", f"{variables}{command}"],
                cwd=folder,
                env=shell,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=300,
            )
            assert (done.stdout, done.returncode) == (output, 0), command
