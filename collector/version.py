"""The version of this program, and the revision of its source, if known."""

import subprocess
from pathlib import Path

VERSION = "0.1.0"
#: Written when an image is built.
_REVISION = Path(__file__).with_name("REVISION")


def revision() -> str | None:
    """Return the revision of the image or checkout; None if unknown."""
    try:
        return _REVISION.read_text().strip() or None
    except OSError:
        return _of_checkout(Path(__file__).parents[1])


def described() -> str:
    """Return the version for people: ``0.1.0 (revision 93bd549)``."""
    known = revision()
    return f"{VERSION} (revision {known})" if known else VERSION


def _of_checkout(root: Path) -> str | None:
    if not (root / ".git").exists():  # it may be installed inside the checkout of something else
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return ended.stdout.strip() or None
