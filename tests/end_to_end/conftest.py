import pytest
from engines import IMAGE, REDIS, SERVERS
from stage import REDIS_FOLDER, ROOT, SERVERS_FOLDER, Stage


@pytest.fixture(scope="session")
def image(users_engine):
    """The collector's image, of the files as they are."""
    return users_engine.build(IMAGE, ROOT)


@pytest.fixture(scope="session")
def redis_image(users_engine):
    return users_engine.build(REDIS, REDIS_FOLDER)


@pytest.fixture(scope="session")
def servers_image(users_engine):
    """Debian's servers, as the public images are."""
    return users_engine.build(SERVERS, SERVERS_FOLDER)


@pytest.fixture
def stage(redis_image):
    stage = Stage(redis_image)
    yield stage
    stage.remove()
