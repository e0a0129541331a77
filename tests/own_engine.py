"""A Docker engine of the tests' own: it goes with its owner, and all that was on it goes too.

    python own_engine.py FOLDER OWNER

It has a network namespace, so bridges, ports, the firewall and the names of another engine of this machine
stay as they are; its socket (docker.sock), its data and its process id (pid) are in FOLDER. It ends on
SIGTERM or with the process OWNER. Whoever ends the engine alone, by SIGTERM, restarts it.
"""

import contextlib
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

#: What of the machine's own configuration leads to registries.
REGISTRIES = ("dns", "insecure-registries", "proxies", "registry-mirrors")


def main(folder: Path, owner: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        block = _free_block(folder)
        namespace = stack.enter_context(_network(folder.name, block))
        stack.callback(_clear, folder, namespace)
        ended = 0
        while _runs(owner) and ended == 0:
            with _engine(folder, namespace, block) as engine:
                while _runs(owner) and (ended := engine.poll()) is None:
                    time.sleep(0.2)


def _run(*command: str) -> str:
    """What a command prints. Raises CalledProcessError."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _runs(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def _free_block(folder: Path) -> ipaddress.IPv4Network:
    """A /16 of 10.0.0.0/8 that holds no network and no name server of this machine."""
    routes = json.loads(_run("ip", "-json", "-4", "route", "show", "table", "all"))
    places = [place for route in routes for key in ("dst", "gateway") if (place := route.get(key))]
    with contextlib.suppress(OSError):
        lines = map(str.split, Path("/etc/resolv.conf").read_text().splitlines())
        places += [words[1] for words in lines if words[:1] == ["nameserver"]]
    taken = []
    for place in places:
        with contextlib.suppress(ValueError):  # "default", or of IPv6
            taken.append(ipaddress.IPv4Network(place, strict=False))
    near = [network for network in taken if network.prefixlen >= 16]  # a shorter one is a whole company's
    first = zlib.crc32(bytes(folder))
    for number in range(100, 254):
        block = ipaddress.IPv4Network(f"10.{100 + (first + number) % 154}.0.0/16")
        if not any(block.overlaps(network) for network in near):
            return block
    raise SystemExit("no free range of addresses in 10.0.0.0/8")


@contextlib.contextmanager
def _network(name: str, block: ipaddress.IPv4Network):
    """A network namespace with a way out, by an address of ours that the machine translates; its name."""
    outside, inside = str(block[-3]), str(block[-2])
    mark = ("-m", "comment", "--comment", name)
    rules = [
        ("-t", "nat", "POSTROUTING", "-s", inside, *mark, "-j", "MASQUERADE"),
        ("-t", "filter", "FORWARD", "-s", inside, *mark, "-j", "ACCEPT"),
        ("-t", "filter", "FORWARD", "-d", inside, *mark, "-j", "ACCEPT"),
    ]
    with contextlib.ExitStack() as stack:
        _run("ip", "netns", "add", name)
        stack.callback(_run, "ip", "netns", "delete", name)
        _run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        stack.callback(_run, "ip", "link", "delete", name)
        _run("ip", "address", "add", f"{outside}/30", "dev", name)
        _run("ip", "link", "set", name, "up")
        _run("ip", "-n", name, "address", "add", f"{inside}/30", "dev", "eth0")
        for device in ("lo", "eth0"):
            _run("ip", "-n", name, "link", "set", device, "up")
        _run("ip", "-n", name, "route", "add", "default", "via", outside)
        for table, chain, rule in ((rule[:2], rule[2], rule[3:]) for rule in rules):
            _run("iptables", *table, "-I", chain, *rule)
            stack.callback(_run, "iptables", *table, "-D", chain, *rule)
        yield name


@contextlib.contextmanager
def _engine(folder: Path, namespace: str, block: ipaddress.IPv4Network):
    """The engine's process; if it is ended here, its containers end before."""
    config = folder / "daemon.json"
    config.write_text(json.dumps(_of_the_machine() | _addresses(block)))
    options = {
        "config-file": config,
        "containerd-namespace": namespace,
        "containerd-plugins-namespace": f"{namespace}-plugins",
        "data-root": folder / "data",
        "exec-root": folder / "exec",
        "host": f"unix://{folder}/docker.sock",
        "pidfile": folder / "pid",
    }
    command = ["nsenter", f"--net=/run/netns/{namespace}", "dockerd"]
    command += [f"--{option}={value}" for option, value in options.items()]
    engine = subprocess.Popen(command, start_new_session=True)
    try:
        yield engine
    finally:
        if engine.poll() is None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            _empty(folder)
            engine.kill()  # its data goes anyway
            engine.wait()


def _clear(folder: Path, namespace: str) -> None:
    """Ends what still runs in the namespace, and unmounts what is in the folder."""
    while processes := _run("ip", "netns", "pids", namespace).split():
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        time.sleep(0.05)
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed([each for each in mounts if each.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", mount], check=False)


def _addresses(block: ipaddress.IPv4Network) -> dict[str, object]:
    bridge, *_ = block.subnets(new_prefix=24)
    _, pool, *_ = block.subnets(new_prefix=18)  # the last one has the way out
    return {"bip": f"{bridge[1]}/24", "default-address-pools": [{"base": str(pool), "size": 24}]}


def _of_the_machine() -> dict[str, object]:
    try:
        configured = json.loads(Path("/etc/docker/daemon.json").read_text())
    except (OSError, ValueError):
        return {}
    return {key: configured[key] for key in REGISTRIES if key in configured}


def _empty(folder: Path) -> None:
    """Ends all containers, which have networks of their own."""
    docker = ["docker", "--host", f"unix://{folder}/docker.sock"]

    def run(*arguments: str) -> str:
        return subprocess.run([*docker, *arguments], check=False, capture_output=True, text=True).stdout

    run("swarm", "leave", "--force")
    if containers := run("ps", "--all", "--quiet").split():
        run("rm", "--force", "--volumes", *containers)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
