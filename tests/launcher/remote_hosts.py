"""Ways to the engine as from another machine: a port that asks for certificates, and an sshd."""

import asyncio
import contextlib
import getpass
import os
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import trustme
from parts import Missing, program
from servers import free_port
from waiting import wait_until

HOST = "127.0.0.1"


class TlsPort:
    """A port in front of the socket at ``path``; ``port`` is open to whom ``authority`` has signed."""

    def __init__(self, path, authority):
        self._path = str(path)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(self._context)
        authority.issue_cert(HOST).configure_cert(self._context)
        self._loop = asyncio.new_event_loop()

    def __enter__(self):
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        starting = asyncio.start_server(self._accept, HOST, 0, ssl=self._context)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _accept(self, reader, writer):
        from_engine, to_engine = await asyncio.open_unix_connection(self._path)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(_pass_on(reader, to_engine), _pass_on(from_engine, writer))

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self):
        self._server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            await asyncio.wait([task])


async def _pass_on(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


def certificates(folder, authority, client=None):
    """A folder as DOCKER_CERT_PATH names it: whom to trust, and who we are, signed by ``client``."""
    folder.mkdir()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    if client:
        issued = client.issue_cert("launcher@example.com")
        issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        issued.private_key_pem.write_to_path(folder / "key.pem")
    return folder


def authority():
    return trustme.CA()


class Sshd:
    """An sshd. ``key`` may log in, ``stranger`` may not, ``bare`` may and finds no docker there."""

    def __init__(self, folder):
        self._folder = folder
        self._command = program("sshd")
        if not self._command or not program("ssh"):
            raise Missing("ssh", "no ssh, or no sshd", "apt-get install openssh-server openssh-client")
        folder.mkdir(mode=0o700)
        for name in ("host", "key", "bare", "stranger"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(make, check=True)
        public = {name: (folder / f"{name}.pub").read_text() for name in ("host", "key", "bare")}
        (folder / "authorized_keys").write_text(f'{public["key"]}command="no-docker-here" {public["bare"]}')
        self.port = free_port()
        (folder / "known_hosts").write_text(f"[{HOST}]:{self.port} {public['host']}")
        (folder / "no_hosts").touch()

    def __enter__(self):
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        config = self._folder / "sshd_config"
        config.write_text(
            f"ListenAddress {HOST}\nPort {self.port}\nHostKey {self._folder}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self._folder}/authorized_keys\nStrictModes no\nPermitRootLogin yes\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            + (f"SetEnv DOCKER_HOST={host}\n" if (host := os.environ.get("DOCKER_HOST")) else "")
        )
        self._process = subprocess.Popen([self._command, "-D", "-e", "-f", config], stderr=subprocess.DEVNULL)
        wait_until(self._listens)
        return self

    def _listens(self):
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port)):
            return True

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(30)

    @property
    def address(self):
        return f"ssh://{getpass.getuser()}@{HOST}:{self.port}"

    def client(self, folder, key="key", hosts="known_hosts", host=HOST):
        """A folder with the ssh command of somebody whose configuration names a key and knows some hosts.

        ``host`` is another name of this one there.
        """
        folder.mkdir()
        config = folder / "config"
        config.write_text(
            f"Host {host}\nHostName {HOST}\nPort {self.port}\nHost *\n"
            f"IdentityFile {self._folder}/{key}\nIdentitiesOnly yes\n"
            f"UserKnownHostsFile {self._folder}/{hosts}\nGlobalKnownHostsFile /dev/null\n"
            "StrictHostKeyChecking yes\n"
        )
        command = folder / "ssh"
        command.write_text(f'#!/bin/sh\nexec {program("ssh")} -F {config} "$@"\n')
        command.chmod(0o755)
        return folder
