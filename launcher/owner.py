"""Whose a fleet is: the ``id`` of its file or, without one, its name and the folder of the file.

On an engine, that identity is a label: a fingerprint, which does not reveal the ``id``. Beside it is a seal
for this one thing, which only somebody who knows the identity can make: labels copied to another thing prove
nothing.
"""

import enum
import getpass
import hashlib
import hmac
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

import msgspec

from launcher.names import LABEL_FILE, LABEL_FOLDER, LABEL_HOST, LABEL_OWNER, LABEL_SEAL, LABEL_USER

#: Without characters that look alike; the first is a letter, so that YAML never reads an id as a number.
_LETTERS, _DIGITS = "abcdefghijkmnpqrstuvwxyz", "23456789"
_ID_LENGTH = 16


class Claim(enum.Enum):
    """Whose a thing with the labels of a fleet's name is."""

    OURS = enum.auto()
    UNMARKED = enum.auto()  # names no owner, as in the first version
    FOREIGN = enum.auto()  # of a fleet with another identity
    FORGED = enum.auto()  # names us, but its seal is missing or belongs to another thing


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Who is working on a fleet. ``id`` or ``folder`` is compared; the rest is for people.

    An owner without both is nobody: only the name of the fleet is known.
    """

    id: str = ""
    folder: str = ""
    file: str = ""
    user: str = ""
    host: str = ""

    @property
    def identities(self) -> tuple[str, ...]:
        """Return what proves that a fleet is ours; new things are marked with the first.

        A file that is given an ``id`` keeps what it had without one, in its folder.
        """
        known = (self.id and f"id {self.id}", self.folder and f"folder {self.folder}")
        return tuple(filter(None, known))

    @property
    def marks(self) -> tuple[str, ...]:
        """Return the fingerprints of the identities."""
        return tuple(map(_fingerprint, self.identities))

    @property
    def mark(self) -> str:
        """Return the fingerprint for new things; empty for nobody."""
        return next(iter(self.marks), "")

    def told(self, mark: str) -> str:
        """Return a mark with what it is a fingerprint of, where that is known."""
        of = {_fingerprint(each): each.partition(" ")[0] for each in self.identities}
        return f"{of[mark]} {mark}" if mark in of else mark

    def labels(self, *what: str) -> dict[str, str]:
        """Return the labels for a thing; ``what`` names it unambiguously: its kind, fleet and name."""
        told = {
            LABEL_USER: self.user,
            LABEL_HOST: self.host,
            LABEL_FOLDER: self.folder,
            LABEL_FILE: self.file,
        }
        return self.proof(*what) | {name: value for name, value in told.items() if value}

    def proof(self, *what: str) -> dict[str, str]:
        """Return these labels without what differs between people, machines and checkouts."""
        if not self.identities:
            return {}
        return {LABEL_OWNER: self.mark, LABEL_SEAL: _seal(self.identities[0], what)}

    def claim(self, labels: Mapping[str, str], *what: str) -> Claim:
        """Return whose a thing is by its labels; ``what`` is as for ``labels``."""
        mark, seal = labels.get(LABEL_OWNER, ""), labels.get(LABEL_SEAL, "")
        if not mark:
            return Claim.FORGED if seal else Claim.UNMARKED
        for identity in self.identities:
            if mark == _fingerprint(identity):
                valid = hmac.compare_digest(_seal(identity, what).encode(), seal.encode())
                return Claim.OURS if valid else Claim.FORGED
        return Claim.FOREIGN


NOBODY = Owner()


def of_file(path: Path, fleet_id: str) -> Owner:
    """Return the owner of a fleet whose first file is at ``path``; a pipe's folder is the working folder."""
    folder = path.absolute().parent if path.is_file() else Path.cwd()
    return Owner(
        id=fleet_id, folder=str(folder.resolve()), file=path.name, user=_user(), host=socket.gethostname()
    )


def whoami() -> str:
    """Return who runs this program, for others who wait for its lock."""
    return f"{_user()} on {socket.gethostname()} (process {os.getpid()})"


def new_id() -> str:
    """Return a random id for a fleet file."""
    rest = (secrets.choice(_LETTERS + _DIGITS) for _ in range(_ID_LENGTH - 1))
    return secrets.choice(_LETTERS) + "".join(rest)


def keyed_fingerprint(key: bytes, content: bytes) -> str:
    """Return a fingerprint: equal for equal contents; without the key it reveals nothing about them."""
    return hmac.digest(key, content, "sha256").hex()[:16]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # neither USER nor an entry in passwd: Python 3.12, and from 3.13 on
        return f"uid {os.getuid()}"


def _fingerprint(identity: str) -> str:
    return hashlib.sha256(f"cryptostore owner {identity}".encode()).hexdigest()[:16]


def _seal(identity: str, what: tuple[str, ...]) -> str:
    return keyed_fingerprint(identity.encode(), "\0".join(what).encode())
