"""The transport to an engine on another machine over ssh."""

import contextlib
import os
import re
import secrets
import shlex
import socket
import stat
import subprocess
import tempfile
import weakref
from pathlib import Path

from launcher.engines import EngineError
from launcher.engines.transport import DIAL_SECONDS, Addressed, reason_of

#: Remedies, by the output of ssh.
_REMEDIES = {
    r"Permission denied \(|Too many authentication failures": (
        "it accepts none of your keys: add one to ssh-agent (`ssh-add`), or name it in ~/.ssh/config;"
        " {ssh} has to work without a question"
    ),
    r"Host key verification failed|IDENTIFICATION HAS CHANGED": (
        "{ssh} shows the key of that machine, which is not in ~/.ssh/known_hosts or differs from it"
    ),
    r"permission denied .* [Dd]ocker": "the user there has to be in the group docker",
}
_NO_COMMAND = 127  # of a shell


def _folder() -> Path:
    """Return the folder for the sockets of shared logins; it stays, because a killed process removes nothing.

    Raises EngineError if somebody else could put a socket there.
    """
    folder = Path(tempfile.gettempdir()) / f"launcher-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise EngineError(f"{folder} has to be a folder that only you can access; remove it")
    return folder


class Ssh(Addressed):
    """The ssh command, with all the user's configuration, and ``docker system dial-stdio`` at the other end.

    One login serves all connections (ControlMaster). As with the docker command, it cannot ask for a
    password, nor does Ctrl-C at our terminal reach it.
    """

    connections = 16  # sshd accepts few new ones at a time (MaxStartups, MaxSessions)

    def __init__(self, address: str, given_by: str, target: list[str], host: str, path: str) -> None:
        super().__init__(address, given_by)
        control = _folder() / secrets.token_hex(4)
        weakref.finalize(self, control.unlink, missing_ok=True)
        self._host = host
        options = {
            "ConnectTimeout": DIAL_SECONDS,
            "ControlMaster": "auto",
            "ControlPath": str(control),
            "ControlPersist": "no",
            "LogLevel": "ERROR",  # without a banner, because its output is shown
        }
        settings = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        there = ["--host", shlex.quote(f"unix://{path}")] if path else []
        command = ["docker", *there, "system", "dial-stdio"]
        self._command = ["ssh", "-T", *settings, *target, "--", host, *command]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as there are connections
        self._processes: list[subprocess.Popen[bytes]] = []

    def dial(self, timeout: float) -> socket.socket:
        """Start ssh, which gets the other end of a pair of sockets."""
        ours, theirs = socket.socketpair()
        ours.settimeout(timeout)
        with theirs:
            try:
                process = subprocess.Popen(  # noqa: S603 - the user's own ssh
                    self._command,
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=self._said,
                    start_new_session=True,
                )
            except OSError:
                ours.close()
                raise
        self._processes = [each for each in self._processes if each.poll() is None] + [process]
        return ours

    def fault(self, error: OSError) -> str:
        """Explain why no engine was reached, and what to do."""
        if isinstance(error, FileNotFoundError):
            return self.unreachable("there is no ssh command", "install it (openssh-client)")
        with contextlib.suppress(subprocess.TimeoutExpired, IndexError):
            if self._processes[-1].wait(1) == _NO_COMMAND:
                return self.unreachable("there is no docker command on that machine", "install it there")
        said = self._last_said().rstrip(".") or reason_of(error)
        remedies = (remedy for pattern, remedy in _REMEDIES.items() if re.search(pattern, said))
        remedy = next(remedies, "{ssh} has to work, and `docker version` there")
        return self.unreachable(said, remedy.format(ssh=f"`ssh {self._host}`"))

    def _last_said(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")
