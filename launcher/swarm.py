"""What a swarm asks of collectors as services, for what `up` makes and what `render` writes alike."""

from launcher.secrets import Secret, digest

#: Never two of them on one spool: the old one stops first. One that does not start makes room for it again.
ORDER, ON_FAILURE = "stop-first", "rollback"
#: Seconds for which a new one that fails is taken back, and between an end and a new start.
MONITOR, RESTART_DELAY = 30, 2
#: A service's DNS name is the address of its task: there is one, and nobody connects to it.
ENDPOINT_MODE = "dnsrr"
#: What a swarm takes: 64 characters of a secret's name, of which `-config.yaml-` and its digest are 21.
LONGEST_NAME = 43


def node_label(fleet: str) -> str:
    """The label of the node that has the fleet's spools, and so its collectors; its value is ``true``."""
    return f"cryptostore.{fleet}"


def constraint(fleet: str) -> str:
    """Return what keeps a collector on that node."""
    return f"node.labels.{node_label(fleet)} == true"


def secret_name(fleet: str, container: str, secret: Secret) -> str:
    """Return the name of a secret in the swarm. It never changes: another content is another name."""
    return f"{container}-{secret.name}-{digest(fleet, [secret])}"


def restart(policy: str) -> tuple[str, int | None]:
    """A restart policy in a swarm's words: the condition, and the most attempts."""
    name, _, attempts = policy.partition(":")
    return {"no": "none", "on-failure": "on-failure"}.get(name, "any"), int(attempts) if attempts else None
