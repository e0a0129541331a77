"""What every test shares: a part that cannot be had here leaves its tests out, loudly.

With CRYPTOSTORE_REQUIRE=all nothing may be left out: a missing part is a failure.
"""

import os

import docker
import hypothesis
import pytest
from servers import Missing

import collector  # noqa: F401 - before any test imports cryptofeed

# A loaded machine is no failure; and what CI tries is the same every time.
hypothesis.settings.register_profile("suite", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("suite")

LEFT_OUT = pytest.StashKey[dict[str, str]]()


@pytest.fixture(scope="session")
def swarm():
    """A swarm of this machine; one that was there already stays.

    When one ends, the engine forgets the names on all networks that there are: so not beside other tests, and
    not on a machine whose other containers are somebody's.
    """
    if os.environ.get("CRYPTOSTORE_REQUIRE") != "all":
        disturbs = "to leave it disturbs the networks of all running containers"
        raise Missing("a Docker swarm", disturbs, "CRYPTOSTORE_REQUIRE=all make test")
    try:
        api = docker.from_env()
        began = api.info()["Swarm"]["LocalNodeState"] == "inactive"
    except (docker.errors.DockerException, OSError) as error:
        raise Missing("a Docker engine", str(error), "apt-get install docker.io") from None
    if began:
        api.swarm.init(advertise_addr="127.0.0.1")
    yield api
    if began:
        api.swarm.leave(force=True)
    api.close()


def pytest_configure(config):
    config.stash[LEFT_OUT] = {}


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(request):
    try:
        return (yield)
    except Missing as missing:
        _leave_out(request.config, missing)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    try:
        return (yield)
    except Missing as missing:
        _leave_out(item.config, missing)
        raise


def _leave_out(config, missing):
    config.stash[LEFT_OUT][missing.what] = f"{missing.why}; to add it: {missing.command}"
    if os.environ.get("CRYPTOSTORE_REQUIRE") != "all":
        pytest.skip(str(missing))


def pytest_sessionfinish(session):
    """A worker of pytest-xdist hands over what it left out."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left out"] = session.config.stash[LEFT_OUT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    node.config.stash[LEFT_OUT] |= getattr(node, "workeroutput", {}).get("left out", {})


def pytest_terminal_summary(terminalreporter, config):
    for what, how in sorted(config.stash[LEFT_OUT].items()):
        terminalreporter.write_line(f"left out: {what}: {how}")
