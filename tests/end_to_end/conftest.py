import subprocess

import pytest
from servers import Missing
from stage import IMAGE, REDIS, REDIS_DOCKERFILE, Stage, docker


@pytest.fixture(scope="session")
def image():
    """The collector's image, of the files as they are."""
    if subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
        raise Missing("Docker", "no engine answers", "sudo apt-get install docker.io")
    docker("build", "--quiet", ".", "--tag", IMAGE)
    return IMAGE


@pytest.fixture(scope="session")
def redis_image(image):
    if not docker("images", "--quiet", REDIS):
        docker("pull", "--quiet", REDIS, check=False)
    if not docker("images", "--quiet", REDIS):
        docker("build", "--quiet", "--tag", REDIS, "-", input=REDIS_DOCKERFILE)
    return REDIS


@pytest.fixture
def stage(redis_image):
    stage = Stage(redis_image)
    yield stage
    stage.remove()
