"""What the conformance suite needs of Parquet: a dataset on a volume that goes away as a server does."""

import shutil
import tempfile
from pathlib import Path
from typing import get_args

from comparing import per_key
from databases import settings
from msgspec import structs
from streams import timed

from collector import records as r
from collector.stores import parquet
from collector.stores.parquet_columns import TEXT


class Volume:
    """A folder that is not one while it is away."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="cryptostore-test-"))
        self.data, self.away = self.folder / "data", self.folder / "away"
        self.data.mkdir()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)

    def stop(self):
        self.data.rename(self.away)
        self.data.write_text("no folder")

    def start(self):
        self.data.unlink()
        self.away.rename(self.data)

    def restart(self):
        self.stop()
        self.start()

    kill, pause, resume = stop, stop, start


class ParquetHarness:
    """Parquet, its files read with pyarrow."""

    backend = "PARQUET"
    patience = 2.0  # every file is synced
    network = False
    stopped = "refused"  # a person has to move the file that is in its place

    def __repr__(self):
        return self.backend

    def server(self):
        return Volume()

    def hurry(self, monkeypatch):
        monkeypatch.setattr(parquet, "_FIRST_SECONDS", 0.05)
        monkeypatch.setattr(parquet, "_LATER_SECONDS", 0.05)

    def place(self, server):
        return str(server.data)

    def settings(self, server, folder, **more):
        return settings(self.backend, parquet_dir=server.data, spool_dir=folder, **more)

    def unwritable(self, record):
        """``record``, changed into one that the store cannot take."""
        return structs.replace(record, price="NaN")

    def damage(self, server, index):
        """Makes position and note unreadable, in one way or another; whether the server let us."""
        for file in (server.data / "_positions").iterdir():
            file.write_bytes(b"" if index else b'{"owner": "\xff')
        return True

    per_key = staticmethod(per_key)

    def stored(self, server):
        """All records, each channel's by their sequence."""
        import pyarrow.dataset as ds  # noqa: PLC0415 - it imports pandas, which takes long

        found = []
        for kind in get_args(r.AnyRecord):
            folder = server.data / parquet.VERSION / f"channel={r.channel_of(kind)}"
            if folder.exists():
                rows = ds.dataset(folder, partitioning="hive").to_table().sort_by("sequence").to_pylist()
                found += [record_of(kind, row) for row in rows]
        return found


def record_of(kind, row):
    """The record that a row of this version was; its numbers are its texts."""
    values = {}
    for field in structs.fields(kind):
        value = row[field.name]
        text = row.get(f"{field.name}{TEXT}")
        if isinstance(value, list):
            levels = list(zip(value, text, strict=True))
            assert all(_is_nearest(level[name], digits[name]) for level, digits in levels for name in digits)
            value = [tuple((level | _exact(digits)).values()) for level, digits in levels]
        elif text is not None:
            assert _is_nearest(value, text)
            value = text
        values[field.name] = value.timestamp() if hasattr(value, "timestamp") else value
    return timed(kind(**values))


def _exact(digits):
    return dict(digits)


def _is_nearest(value, text):
    return value == float(text)
