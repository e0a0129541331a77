"""How collectors become services of a swarm, both for `up` and for `render`."""

from launcher.secrets import Secret, digest

#: Never two tasks on one spool: the old one stops first, and returns if the new one does not start.
ORDER, ON_FAILURE = "stop-first", "rollback"
#: Seconds within which a failing new task is rolled back, and between the end of a task and a restart.
MONITOR, RESTART_DELAY = 30, 2
#: The DNS name is the task's address: there is only one task, and nobody connects to it.
ENDPOINT_MODE = "dnsrr"
#: A swarm allows 64 characters in a secret's name; `-config.yaml-` and the digest take 21.
LONGEST_NAME = 43


def node_label(fleet: str) -> str:
    """Return the label, with the value ``true``, of the node that has the fleet's spools and collectors."""
    return f"cryptostore.{fleet}"


def constraint(fleet: str) -> str:
    """Return the constraint that places a collector on that node."""
    return f"node.labels.{node_label(fleet)} == true"


def secret_name(fleet: str, container: str, secret: Secret) -> str:
    """Return the name of a secret in the swarm. A secret is immutable, so the name depends on its content."""
    return f"{container}-{secret.name}-{digest(fleet, [secret])}"


def restart(policy: str) -> tuple[str, int | None]:
    """Return a restart policy in terms of a swarm: the condition, and the maximum of attempts."""
    name, _, attempts = policy.partition(":")
    return {"no": "none", "on-failure": "on-failure"}.get(name, "any"), int(attempts) if attempts else None
