"""Renews the leases of a played cluster's nodes, as kubelets do, until its folder is gone.

    python node_leases.py KUBECTL KUBECONFIG

Without one a node is taken for lost after 50 s, and its pods are not ready from then on.
"""

import datetime as dt
import json
import subprocess
import sys
import time
from pathlib import Path

PERIOD = 10  # seconds, as kubelets have it
NODES = 4


def lease(node: str) -> dict[str, object]:
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": node, "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": now},
    }


def main(kubectl: str, kubeconfig: Path) -> None:
    while kubeconfig.exists():
        leases = [lease(f"node-{number}") for number in range(NODES)]
        subprocess.run(
            [kubectl, "--kubeconfig", kubeconfig, "apply", "--server-side", "--filename", "-"],
            input="\n".join(map(json.dumps, leases)),
            text=True,
            capture_output=True,
            check=False,
        )
        time.sleep(PERIOD)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
