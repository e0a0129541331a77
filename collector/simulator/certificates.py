"""A certificate authority made at start, and the certificate of the exchanges' host names."""

from __future__ import annotations

import os
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from collections.abc import Iterable


def server_context(hosts: Iterable[str], ca_file: Path) -> ssl.SSLContext:
    """A TLS context for these hosts; the authority that signed it is written to ``ca_file``.

    The file (PEM) serves as ``SSL_CERT_FILE`` and ``REQUESTS_CA_BUNDLE``. Everybody may read it: collectors
    run as other users. It appears whole or not at all. ``OSError`` when it cannot be written.
    """
    authority = trustme.CA(organization_name="cryptostore simulator")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*hosts, "localhost", "127.0.0.1").configure_cert(context)
    _replace(ca_file, authority.cert_pem.bytes())
    return context


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary = Path(name)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
