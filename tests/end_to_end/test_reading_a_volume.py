"""docs/reading.md: Parquet files come out of a volume."""

import re
import subprocess
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from crashing_parquet import settings
from every_kind import EVERY_KIND
from stage import docker

from collector.batch import Batch, Position
from collector.stores.parquet import ParquetStore

pytestmark = pytest.mark.docker

TEXT = (Path(__file__).parents[2] / "docs" / "reading.md").read_text()
COMMANDS = re.findall(r"<!-- run in a container -->\n```sh\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
async def volume(stage, image, tmp_path):
    """A volume with the trades of a collector."""
    store = ParquetStore(settings(tmp_path))
    await store.open("c")
    await store.commit("c", Batch("x", 0, EVERY_KIND[:2]), None, Position("o", "x", 2))
    await store.close()
    name = f"{stage.name}_data"
    container = docker("create", "--volume", f"{name}:/data", image)
    docker("cp", f"{tmp_path}/.", f"{container}:/data")
    docker("rm", "--volumes", container)
    yield name
    docker("volume", "rm", name)


def test_parquet_files_are_read_in_a_volume_and_come_out_of_it(volume, image, tmp_path):
    assert len(COMMANDS) == 2
    here = tmp_path / "outside"
    here.mkdir()
    said = ""
    for command in COMMANDS:
        words = ["sh", "-ec", command.replace("crypto_data", volume).replace("cryptostore:latest", image)]
        said += subprocess.run(
            words, cwd=here, stdout=subprocess.PIPE, text=True, check=True, timeout=60
        ).stdout
    assert said == "2 trades\n"
    assert ds.dataset(here / "data" / "v2" / "channel=trades", partitioning="hive").count_rows() == 2
