"""docs/stores.md: its dictionary is what real stores hold, and its examples read what was stored."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import first_parquet
import pytest
from conformance import HARNESSES, Pipeline
from dictionary import DOCUMENT, found_in, render, sections
from every_kind import EVERY_KIND

from collector.gap_records import Reason

EXAMPLES = re.findall(r"```(python|sh)\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
#: The address in an example, by store.
ADDRESSES = {
    "REDISSTREAM": "redis://localhost:6379/0",
    "REDIS": "redis://localhost:6379/1",
    "POSTGRES": "postgresql://localhost/market",
    "MONGO": "mongodb://localhost:27017/",
    "PARQUET": "data/",
}


@pytest.mark.redis
@pytest.mark.parametrize("harness", HARNESSES, ids=repr)
async def test_the_dictionary_is_what_a_store_holds(harness):
    _, dictionary, _ = sections()
    assert render(harness.backend, await found_in(harness)) in dictionary


@pytest.mark.redis
@pytest.mark.parametrize("harness", HARNESSES, ids=repr)
async def test_the_examples_read_what_is_stored(harness, tmp_path):
    address = ADDRESSES[harness.backend]
    examples = [example for example in EXAMPLES if address in example[1]]
    assert examples
    with harness.server() as server:
        async with Pipeline(harness.settings(server, tmp_path)) as pipeline:
            await pipeline.send(EVERY_KIND)
            await pipeline.delivered()
        if harness.backend == "PARQUET":
            first_parquet.write(server.data, "first", EVERY_KIND[:2])
        for language, text in examples:
            if harness.backend == "PARQUET":
                shown = run(language, text, server.data.parent)
            else:
                told = text.replace(address, server.url).replace('"market"', '"postgres"')
                shown = run(language, told, tmp_path)
            assert "3" in shown  # the amount of a trade


def run(language, text, folder):
    """What an example prints, in a folder where ``data`` is a dataset."""
    program = [sys.executable, "-c"] if language == "python" else ["sh", "-c"]
    postgres = map(str, Path("/usr/lib/postgresql").glob("*/bin"))
    path = os.pathsep.join([os.environ["PATH"], *postgres])
    ended = subprocess.run(
        [*program, text],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_every_example_is_run():
    assert all(any(address in text for address in ADDRESSES.values()) for _, text in EXAMPLES)


def test_every_reason_of_a_gap_is_documented():
    assert all(f"`{reason}`" in DOCUMENT.read_text() for reason in get_args(Reason))
