"""Which version this is, and which revision of its source, where that is known."""

import subprocess
from pathlib import Path

VERSION = "0.1.0"
#: Written when an image is built.
_REVISION = Path(__file__).with_name("REVISION")


def revision() -> str | None:
    """Return the revision of an image or of a checkout; None if neither tells."""
    try:
        return _REVISION.read_text().strip() or None
    except OSError:
        return _of_checkout(Path(__file__).parents[1])


def described() -> str:
    """Return the version as a person reads it: ``0.1.0 (revision 93bd549)``."""
    known = revision()
    return f"{VERSION} (revision {known})" if known else VERSION


def _of_checkout(root: Path) -> str | None:
    if not (root / ".git").exists():  # it may be installed within a checkout of something else
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.strip() or None
