"""What every test shares: a part that cannot be had here leaves its tests out, loudly.

With CRYPTOSTORE_REQUIRE=all nothing may be left out: a missing part is a failure.
"""

import contextlib
import functools
import gc
import os
import signal
from pathlib import Path

import engines
import hypothesis
import pytest
import servers
from parts import Missing

import collector  # noqa: F401 - before any test imports cryptofeed

# A loaded machine is no failure; and what CI tries is the same every time.
hypothesis.settings.register_profile("suite", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("suite")
hypothesis.settings.register_profile("quick", max_examples=hypothesis.settings.default.max_examples // 5)

TESTS = Path(__file__).parent
LEFT_OUT = pytest.StashKey[dict[str, str]]()
#: Folders and modules of tests that run programs against each other.
NOT_QUICK = {
    "end_to_end",
    "fuzz",
    "simulator",
    "stores",
    "test_feed.py",
    "test_secrets.py",
    "test_stopping.py",
    "test_process.py",
    "test_local_run.py",
    "test_kubernetes.py",
}
LEFT_BEHIND = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def users_engine():
    """The engine that is there: somebody's, and full of his things."""
    return engines.users_engine()


@pytest.fixture(scope="session")
def compose(users_engine):
    """The command of compose."""
    if "Docker Compose" not in users_engine.docker("compose", "version", check=False):
        raise Missing("docker compose", "it does not run", "apt-get install docker-compose-plugin")
    return ("docker", "compose")


@pytest.fixture
def own_engine(monkeypatch):
    """An engine of the tests' own, to which docker and the launcher are led; public names are free there."""
    engine = engines.own_engine("main")
    with engine.led(monkeypatch):
        yield engine


@pytest.fixture
def readers_engine(monkeypatch):
    """Another one, for who does as the README says: it builds an image under a name that others use."""
    engine = engines.own_engine("read")
    with engine.led(monkeypatch):
        yield engine


@pytest.fixture
def restartable_engine(monkeypatch):
    """An engine of its own: whoever restarts one ends what others run on it."""
    engine = engines.own_engine("again")
    with engine.led(monkeypatch):
        yield engine


@pytest.fixture
def swarm(monkeypatch):
    """Another engine of the tests' own, the manager of a swarm: when one ends, an engine forgets names."""
    engine = engines.own_engine("swarm")
    with engine.led(monkeypatch):
        with engines.turn("swarm-begins"):
            if engine.docker("info", "--format", "{{.Swarm.LocalNodeState}}") == "inactive":
                engine.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
        yield engine


def pytest_ignore_collect(collection_path, config):
    """Import nothing of what is not quick where only that is asked for: pandas and its like take seconds."""
    if config.option.markexpr == "quick" and not _of_a_quick_place(collection_path):
        return True
    return None


def pytest_collection_modifyitems(items):
    """Quick is what needs no server, no engine and no program that runs for a while."""
    for item in items:
        marks = {mark.name for mark in item.iter_markers()}
        if not marks & {"docker", "redis", "programs", "alone", "slow"} and _of_a_quick_place(item.path):
            item.add_marker("quick")


@functools.cache  # thousands of tests, but few modules
def _of_a_quick_place(path):
    return NOT_QUICK.isdisjoint(path.relative_to(TESTS).parts)


def pytest_configure(config):
    if config.option.markexpr == "quick":  # before a module is imported: its tests take what counts then
        hypothesis.settings.load_profile("quick")
    if os.getpid() == engines.OWNER:  # who ends it in this way finds nothing left behind either
        signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated"))
    servers.Server.place = servers.memory()
    config.stash[LEFT_OUT] = {}


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is imported stays: to search it for garbage over and over is a tenth of the tests' work."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    """Whoever asks second for a fixture that could not be had gets the first one's exception."""
    with _leaving_out(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    with _leaving_out(item):
        return (yield)


@contextlib.contextmanager
def _leaving_out(item):
    try:
        yield
    except Missing as missing:
        item.config.stash[LEFT_OUT][missing.what] = f"{missing.why}; to add it: {missing.command}"
        if os.environ.get("CRYPTOSTORE_REQUIRE") == "all":
            raise
        pytest.skip(str(missing))


@pytest.hookimpl(trylast=True)  # when no worker runs any more
def pytest_sessionfinish(session):
    """A worker of pytest-xdist hands over what it left out; what tests left on the engine is a failure."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left out"] = session.config.stash[LEFT_OUT]
    elif os.getpid() == engines.OWNER:
        session.config.stash[LEFT_BEHIND] = engines.finish()
        if session.config.stash[LEFT_BEHIND] and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    node.config.stash[LEFT_OUT] |= getattr(node, "workeroutput", {}).get("left out", {})


def pytest_terminal_summary(terminalreporter, config):
    for what, how in sorted(config.stash[LEFT_OUT].items()):
        terminalreporter.write_line(f"left out: {what}: {how}")
    for what in sorted(config.stash.get(LEFT_BEHIND, [])):
        terminalreporter.write_line(f"left behind by a test, and removed: {what}", red=True)
