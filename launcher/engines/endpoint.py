"""Find the engine that the docker command would use, from the same variables and contexts."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from collector.files import read_bounded
from collector.urls import Url, decoded, host_and_port, quoted
from launcher.engines import EngineError
from launcher.engines.transport import Tcp, Tls, Transport, UnixSocket

_DEFAULT = "unix:///var/run/docker.sock"
_PORT, _TLS_PORT = 2375, 2376


def transport() -> Transport:
    """Return the transport of DOCKER_HOST, else DOCKER_CONTEXT, else the context of ``docker context use``.

    Raises EngineError if they name no usable engine.
    """
    if address := os.environ.get("DOCKER_HOST"):
        return _transport(address, "DOCKER_HOST", _tls_of_environment())
    name, chosen_by = _context()
    if name == "default":
        return _transport(_DEFAULT, "", _tls_of_environment())
    return _transport_of_context(name, chosen_by)


def _tls_of_environment() -> Tls | None:
    verify = bool(os.environ.get("DOCKER_TLS_VERIFY"))
    if not verify and not os.environ.get("DOCKER_TLS"):
        return None
    return Tls.of(Path(os.environ.get("DOCKER_CERT_PATH") or _config_folder()), verify=verify)


def _context() -> tuple[str, str]:
    """Return the name of the context, and who chose it."""
    if name := os.environ.get("DOCKER_CONTEXT"):
        return name, "DOCKER_CONTEXT"
    try:
        chosen = json.loads(read_bounded(_config_folder() / "config.json"))["currentContext"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        chosen = None
    return str(chosen or "default"), "`docker context use`"


def _transport_of_context(name: str, chosen_by: str) -> Transport:
    """Read a context from where the docker command keeps it."""
    identity = hashlib.sha256(name.encode()).hexdigest()
    folder = _config_folder() / "contexts"
    try:
        described = json.loads(read_bounded(folder / "meta" / identity / "meta.json"))
        endpoint: dict[str, Any] = described["Endpoints"]["docker"]
        address = str(endpoint["Host"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise EngineError(
            f"no Docker context {name}, which {chosen_by} names; `docker context ls` lists them"
        ) from error
    certificates = folder / "tls" / identity / "docker"
    skip = bool(endpoint.get("SkipTLSVerify"))
    tls = Tls.of(certificates, verify=not skip) if skip or certificates.is_dir() else None
    return _transport(address, f"context {name}", tls)


def _config_folder() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def _transport(address: str, given_by: str, tls: Tls | None) -> Transport:
    if address.startswith("unix://"):
        return UnixSocket(address, given_by)
    try:
        url = Url.parse(address if "://" in address else f"tcp://{address}")
        host, port = host_and_port(url.hosts)
        user = decoded(url.user)
    except ValueError as error:
        raise _wrong(address, given_by, f"it {error}") from error
    if url.query or url.password:
        raise _wrong(address, given_by, "it has more than a user, a host, a port and a path")
    path = url.path.rstrip("/")
    if url.scheme == "ssh" and host:
        from launcher.engines.ssh import Ssh  # noqa: PLC0415 - rarely needed

        options = [*(["-l", user] if user else []), *(["-p", str(port)] if port else [])]
        return Ssh(address, given_by, options, host, path)
    if url.scheme == "tcp" and host and not user and not path:
        return Tcp(address, given_by, host, port or (_TLS_PORT if tls else _PORT), tls)
    raise _wrong(address, given_by, "an engine is at unix://PATH, tcp://HOST:PORT or ssh://USER@HOST:PORT")


def _wrong(address: str, given_by: str, why: str) -> EngineError:
    return EngineError(f"{given_by} = {quoted(address)!r}: {why}")
