"""The files that a fleet is rendered as, including those of its secrets."""

from collections.abc import Iterable, Mapping

from launcher.secrets import Parted, Secret

type Contents = Mapping[str, str | bytes]  # the content of each file, by its name

#: The folder of the secrets, next to the other files.
SECRETS = "secrets"


def secret_file(parted: Parted, secret: Secret) -> str:
    """Return the name of a secret's file."""
    return f"{SECRETS}/{parted.collector.name}.{secret.name}"


def secret_files(parts: Iterable[Parted]) -> Contents:
    """Return the files of all secrets."""
    return {secret_file(parted, secret): secret.content for parted in parts for secret in parted.secrets}
