"""What a collector reads from files that its engine provides: its password, API keys and authorities."""

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

import msgspec

from collector import api_keys
from collector.files import read_bounded
from collector.urls import Url
from launcher.spec import CollectorSpec, Mount, is_file

#: A file that is not secret as a whole but contains secrets; and files that are public.
_API_KEYS, _PUBLIC = "config.yaml", ("ca.pem", "user")


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """One such file. ``source`` is its path on this machine, None if the fleet file has its text."""

    name: str  # password, config.yaml, ca.pem
    variable: str  # that gives a collector its path
    target: str  # that path, in Docker's containers
    source: str | None
    content: bytes


class Parted(msgspec.Struct, frozen=True, kw_only=True):
    """A collector separated from its secrets: nothing in ``environment`` is confidential."""

    collector: CollectorSpec
    environment: Mapping[str, str]
    mounts: tuple[Mount, ...]
    secrets: tuple[Secret, ...]

    @property
    def told(self) -> dict[str, str]:
        """Return the environment of a new container, including how many share the exchange's limits."""
        return {**self.environment, **self.collector.counted}


def part(collector: CollectorSpec) -> Parted:
    """Take the secrets out of a collector's environment and mounts.

    Raises OSError if a file cannot be read.
    """
    container = collector.container
    files = {mount.target: mount for mount in container.mounts if is_file(mount, container.environment)}
    environment, secrets = {}, []
    for variable, value in container.environment.items():
        if variable in collector.secrets:
            # The contract has a <VARIABLE>_FILE for each, and strips blanks around a value.
            name, content = variable.lower(), value.strip().encode()
            secret = Secret(
                name=name,
                variable=f"{variable}_FILE",
                target=f"/run/secrets/{name}",
                source=None,
                content=content,
            )
        elif value in files:
            source = files[value].source
            secret = Secret(
                name=Path(value).name,
                variable=variable,
                target=value,
                source=source,
                content=read_bounded(Path(source)),
            )
        else:
            environment[variable] = value
            continue
        environment[secret.variable] = secret.target
        secrets.append(secret)
    targets = {secret.target for secret in secrets}
    mounts = tuple(mount for mount in container.mounts if mount.target not in targets)
    return Parted(collector=collector, environment=environment, mounts=mounts, secrets=tuple(secrets))


def hidden(files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return what has to be masked in displayed text, given a collector's secrets by name.

    These are passwords, including those in a URL, and API keys.
    """
    contents = (content for name, content in files.items() if name not in (_API_KEYS, *_PUBLIC))
    texts = {content.decode(errors="replace").strip() for content in contents}
    quoted = {password for text in texts for password in _passwords(text)}
    keys: set[str] = set()
    with contextlib.suppress(ValueError):  # its collector will report what is wrong with it
        keys.update(api_keys.read(files[_API_KEYS]) if _API_KEYS in files else ())
    return tuple(sorted((texts | quoted | set(map(unquote, quoted)) | keys) - {""}))


def _passwords(text: str) -> Iterable[str]:
    """Return the passwords in a URL, as they are written there; none if the text is not a URL."""
    try:
        url = Url.parse(text)
    except ValueError:
        return
    yield url.password or ""
    for option in url.query.replace(";", "&").split("&"):
        name, _, value = option.partition("=")
        if "password" in name.lower():
            yield value


def digest(salt: str, secrets: Iterable[Secret]) -> str:
    """Return eight characters that change with a secret, made too slowly to guess a password by trial."""
    return _slow_digest(salt, b"\0".join(hashlib.sha256(secret.content).digest() for secret in secrets))


@lru_cache(maxsize=1024)
def _slow_digest(salt: str, content: bytes) -> str:
    return hashlib.scrypt(content, salt=salt.encode(), n=2**14, r=8, p=1, dklen=4).hex()
