"""Transports to an engine: the local socket, and TCP with or without TLS; ssh.py has the one over ssh.

The rest of the launcher speaks HTTP over the socket that ``dial`` returns, whatever the transport is.
"""

import os
import socket
import ssl
from pathlib import Path
from typing import Protocol

import msgspec

from launcher.engines import EngineError
from launcher.engines.socket import ApiError

#: The docker command waits as long.
DIAL_SECONDS = 30
_START = "start it, or use `launcher run`, which needs none"


class Transport(Protocol):
    """How connections to an engine are made.

    Attributes:
        address: the engine's address, as it was given.
        given_by: the variable or context that gave it; empty for the default.
        connections: how many may be open at once.
    """

    address: str
    given_by: str
    connections: int

    def dial(self, timeout: float) -> socket.socket:
        """Open a connection. Raises OSError."""

    def fault(self, error: OSError) -> str:
        """Explain why no engine was reached, and what to do."""


class Addressed:
    """An engine's address, and what gave it."""

    connections = 256

    def __init__(self, address: str, given_by: str) -> None:
        self.address, self.given_by = address, given_by

    @property
    def named(self) -> str:
        """Return the address, and what gave it."""
        return f"{self.address} ({self.given_by})" if self.given_by else self.address

    def unreachable(self, why: str, remedy: str) -> str:
        """Return the message that no engine was found there."""
        return f"no Docker engine is reachable at {self.named}: {why}; {remedy}"


class UnixSocket(Addressed):
    """The engine's socket on this machine."""

    def __init__(self, address: str, given_by: str) -> None:
        super().__init__(address, given_by)
        self._path = address.removeprefix("unix://")

    def dial(self, timeout: float) -> socket.socket:
        """Connect to the socket."""
        dialled = socket.socket(socket.AF_UNIX)
        dialled.settimeout(timeout)
        try:
            dialled.connect(self._path)
        except OSError:
            dialled.close()
            raise
        return dialled

    def fault(self, error: OSError) -> str:
        """Explain why no engine was reached, and what to do."""
        if isinstance(error, PermissionError):
            user = os.environ.get("USER") or "$(id -un)"
            return (
                f"no permission to use the Docker engine at {self.named}; join its group (`sudo usermod -aG"
                f" docker {user}`, then log in again), or use `launcher run`, which needs none"
            )
        return self.unreachable(reason_of(error), _START)


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """The certificates for TLS: those of the PEM files in ``folder`` that exist."""

    folder: Path
    ca: Path | None
    certificate: Path | None
    key: Path | None
    verify: bool

    @classmethod
    def of(cls, folder: Path, *, verify: bool) -> "Tls":
        """Return the files of a folder, which have the names that the docker command uses."""
        ca, certificate, key = (
            path if path.exists() else None
            for path in (folder / f"{name}.pem" for name in ("ca", "cert", "key"))
        )
        return cls(folder=folder, ca=ca, certificate=certificate, key=key, verify=verify)

    def context(self) -> ssl.SSLContext:
        """Return them as a context for ``ssl``. Raises EngineError if a file cannot be used."""
        made = ssl.SSLContext(
            ssl.PROTOCOL_TLS_CLIENT
        )  # no stricter than the docker command about certificates
        made.check_hostname = self.verify
        made.verify_mode = ssl.CERT_REQUIRED if self.verify else ssl.CERT_NONE
        if (self.certificate is None) != (self.key is None):
            there, missing = ("key", "cert") if self.certificate is None else ("cert", "key")
            raise EngineError(f"{self.folder} has {there}.pem, but no {missing}.pem, which belongs to it")
        reading = self.ca
        try:
            if self.ca:  # and nothing else
                made.load_verify_locations(self.ca)
            else:
                made.load_default_certs()
            reading = self.certificate
            if self.certificate:
                made.load_cert_chain(self.certificate, self.key, password="")  # never ask for one
        except OSError as error:
            raise EngineError(f"{reading} cannot be used for TLS: {error.strerror or error}") from error
        return made


class Tcp(Addressed):
    """A TCP port, with or without TLS."""

    def __init__(self, address: str, given_by: str, host: str, port: int, tls: Tls | None) -> None:
        super().__init__(address, given_by)
        self._host, self._port, self._tls = host, port, tls
        self._context = tls.context() if tls else None

    def dial(self, timeout: float) -> socket.socket:
        """Connect to the port."""
        dialled = socket.create_connection((self._host, self._port), min(timeout, DIAL_SECONDS))
        dialled.settimeout(timeout)
        dialled.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if not self._context:
            return dialled
        try:
            return self._context.wrap_socket(dialled, server_hostname=self._host)
        except OSError:
            dialled.close()
            raise

    def fault(self, error: OSError) -> str:
        """Explain why no engine was reached, and what to do."""
        if self._tls:
            return self._tls_fault(error, self._tls)
        why = reason_of(error)
        if isinstance(error, ConnectionError | ApiError) and not isinstance(error, ConnectionRefusedError):
            remedy = "where it asks for TLS: DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH, or a context with them"
            return self.unreachable(why, remedy)
        return self.unreachable(why, _START)

    def _tls_fault(self, error: OSError, tls: Tls) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            trusted = tls.ca or f"what this machine trusts, as there is no {tls.folder}/ca.pem"
            return (
                f"the certificate of the Docker engine at {self.named} is not trusted:"
                f" {error.verify_message.rstrip('.')}; trusted is {trusted}"
            )
        alert = isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")
        closed = isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError)
        if alert or closed:
            return (
                f"the Docker engine at {self.named} refuses the connection: {reason_of(error)};"
                f" cert.pem and key.pem in {tls.folder} have to be signed by whom it trusts"
            )
        if isinstance(error, ssl.SSLError):
            return self.unreachable(f"nothing speaks TLS there ({reason_of(error)})", "is it the right port?")
        return self.unreachable(reason_of(error), _START)


def reason_of(error: OSError) -> str:
    """Describe an error in a few words."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return error.strerror or str(error) or type(error).__name__
