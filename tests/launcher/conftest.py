"""A real engine, and fleets on it that are gone after the test, whatever happened."""

from pathlib import Path

import pytest
from engines import STANDIN
from fleets import Fleet


@pytest.fixture(scope="session")
def engine(users_engine):
    """The engine, with the stand-in's image on it."""
    return users_engine.build(STANDIN, Path(__file__).parent / "engines" / "standin")


@pytest.fixture
def fleet(engine, tmp_path):
    fleet = Fleet(tmp_path, engine)
    yield fleet
    fleet.remove()
