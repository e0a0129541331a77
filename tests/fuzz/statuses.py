"""What a collector's volume says of it: a status file is shown in one line, or taken for none."""

import tempfile
import time
from pathlib import Path
from random import Random

import msgspec
from fuzz import mutation

from collector import health
from launcher import status_table
from launcher.overview import Row, with_absent

NOW = 1_795_000_000.0
SOUND = health.Status(
    name="coinbase",
    exchange="COINBASE",
    started=NOW - 100,
    time=NOW,
    state="ready",
    detail="2 subscriptions, store connected",
    store=health.StoreStatus(backend="REDIS", state="connected", since=NOW),
    connections=(health.ConnectionStatus(id="COINBASE.ws.1", state="open", since=NOW),),
    subscriptions=health.SubscriptionStatus(confirmed=2, pending=("trades BTC-USD",), refused={"a b": "c"}),
    channels={"trades": health.ChannelStatus(received=9_000, stored=8_000)},
    spool=health.SpoolStatus(records=7, bytes=70, dropped=1, put_aside=2, oldest=NOW - 61),
    gaps_today=12,
    last_received=NOW - 0.2,
    last_stored=NOW - 0.1,
)


class Statuses:
    """A status file, and what the launcher and the health check make of it."""

    name, share = "statuses", 0.03

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz-")

    def draw(self, draw: Random) -> object:
        return mutation.of_json(msgspec.json.encode(SOUND), draw)

    def attempt(self, case: bytes) -> bool:
        folder = Path(self._folder.name)
        (folder / health.STATUS_FILE).write_bytes(case)
        _, said = health.check(folder)
        assert said.isprintable(), said
        try:
            status = health.read(folder)
        except msgspec.DecodeError:
            return False
        row = Row(
            collector="coinbase",
            state=status.state,
            detail=status.detail,
            config=None,
            container=None,
            status=status,
        )
        rows = with_absent([row], None)
        for width in (40, 80, 400):
            lines = status_table.table(rows).fitted(width).plain().splitlines()
            assert len(lines) == 2, lines
            assert all(line.isprintable() for line in lines), lines
        assert status_table.fitting(rows, 20)
        assert row.is_well in (True, False)
        assert time.time() - row.seen < float("inf")
        return True
