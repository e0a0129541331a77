"""The ways to an engine: its socket on this machine, and TCP with or without TLS; ssh has its own module.

Everything else talks HTTP over what ``dial`` returns, and does not know which way it is.
"""

import os
import socket
import ssl
from pathlib import Path
from typing import Protocol

import msgspec

from launcher.engines import EngineError
from launcher.engines.socket import ApiError

#: As the docker command.
DIAL_SECONDS = 30
_START = "start it, or use `launcher run`, which needs none"


class Way(Protocol):
    """How connections to an engine are made. ``address`` is as it was given, ``given_by`` where.

    ``connections`` is how many may be open at once.
    """

    address: str
    given_by: str
    connections: int

    def dial(self, timeout: float) -> socket.socket:
        """A new connection. Raises OSError."""

    def fault(self, error: OSError) -> str:
        """Why there is no engine at the end of it, and what to do."""


class Given:
    """Where an engine is said to be, and by whom."""

    connections = 256

    def __init__(self, address: str, given_by: str) -> None:
        self.address, self.given_by = address, given_by

    @property
    def named(self) -> str:
        """The address, and what gave it."""
        return f"{self.address} ({self.given_by})" if self.given_by else self.address

    def unreachable(self, why: str, remedy: str) -> str:
        """Return the message where there is no engine."""
        return f"no Docker engine is reachable at {self.named}: {why}; {remedy}"


class UnixSocket(Given):
    """The engine's own socket on this machine."""

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
        """Why there is no engine at the end of it, and what to do."""
        if isinstance(error, PermissionError):
            user = os.environ.get("USER") or "$(id -un)"
            return (
                f"no permission to use the Docker engine at {self.named}; join its group (`sudo usermod -aG"
                f" docker {user}`, then log in again), or use `launcher run`, which needs none"
            )
        return self.unreachable(reason_of(error), _START)


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to trust, and who we are: those PEM files that there are in ``folder``."""

    folder: Path
    ca: Path | None
    certificate: Path | None
    key: Path | None
    verify: bool

    @classmethod
    def of(cls, folder: Path, *, verify: bool) -> "Tls":
        """Return the files of a folder, under the names that the docker command gives them."""
        ca, certificate, key = (
            path if path.exists() else None
            for path in (folder / f"{name}.pem" for name in ("ca", "cert", "key"))
        )
        return cls(folder=folder, ca=ca, certificate=certificate, key=key, verify=verify)

    def context(self) -> ssl.SSLContext:
        """Return the same for ``ssl``. Raises EngineError if the files are not what they should be."""
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
            if self.ca:  # it alone
                made.load_verify_locations(self.ca)
            else:
                made.load_default_certs()
            reading = self.certificate
            if self.certificate:
                made.load_cert_chain(self.certificate, self.key, password="")  # it never asks
        except OSError as error:
            raise EngineError(f"{reading} cannot be used for TLS: {error.strerror or error}") from error
        return made


class Tcp(Given):
    """A port, with TLS or, for whoever dares, without."""

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
        """Why there is no engine at the end of it, and what to do."""
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
    """An error in a few words."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return error.strerror or str(error) or type(error).__name__
