"""Fleet files as texts."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
BAD_FLEETS = Path(__file__).with_name("bad_fleets")

HEAD = "fleet: desk\nstores:\n  redis: {backend: REDIS, host: redis}\ncollectors:\n"
COINBASE = "  - exchange: COINBASE\n    symbols: [BTC-USD]\n    channels: [trades]\n"
