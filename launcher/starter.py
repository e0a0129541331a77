"""The fleet file that ``launcher init`` writes."""

import re
import unicodedata
from pathlib import Path

from collector import catalog
from launcher.fleet_keys import FLEET

_LONGEST = 24  # characters of a generated name; a swarm allows 43 for a fleet's and a collector's together

_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "æ": "ae", "ø": "oe", "å": "aa"})


def starter(folder: Path, fleet_id: str) -> str:
    """Return the text of a fleet file in ``folder``, after which the fleet is named."""
    ours = [name for name, exchange in catalog.exchanges().items() if exchange.by == "cryptostore"]
    text = _TEXT.replace("FLEET", _fleet_name(folder.absolute().name)).replace("ID", fleet_id)
    return text.replace("OURS", ", ".join(ours))


def _fleet_name(folder: str) -> str:
    """Return a valid fleet name made from the folder's name."""
    spelt = folder.lower().translate(_UMLAUTS)
    plain = unicodedata.normalize("NFKD", spelt).encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_LONGEST].strip("-")
    return str(FLEET["fleet"].parse(name)) if name else "crypto"


_TEXT = """\
# yaml-language-server: $schema=fleet.schema.json
# A fleet file: one collector for each exchange that you want to record.
#
#   launcher validate fleet.yaml    check this file
#   launcher run fleet.yaml         run the fleet as processes on this machine, until Ctrl-C
#   launcher up fleet.yaml          run it as containers; run it again after each change to this file
#   launcher status fleet.yaml      show how each collector is doing
#   launcher down fleet.yaml        remove the containers

# The fleet's name: its containers, volumes and network are named after it.
fleet: FLEET
# Distinguishes it from any other fleet of that name, wherever this file is. If you copy this file to make
# another fleet, change both.
id: ID

# Where the data comes from: live, or simulated for trying things out without the exchanges.
source: live

# Where the data goes. The names of the stores are up to you.
stores:
  files:
    backend: PARQUET
    # Containers write into a volume, `launcher run` into ./data. To choose a folder:
    # path: ./records # relative to this file

  # streams:
  #   backend: REDISSTREAM          # or REDIS for sorted sets
  #   host: redis                   # as the containers see it: localhost would be the container itself
  #   password: ${REDIS_PASSWORD}   # from your environment; ${REDIS_PASSWORD:-text} has a default

# The network of the containers. If your database has its own, join it:
# network: {name: my-databases, external: true}

# Settings of all collectors. Every setting is allowed here, in a store and in a collector; a store's override
# these, and a collector's own override both.
defaults:
  store: files
  channels: [trades, ticker, l2_book]
  # snapshot_interval: 1000 # order books: a complete book after this many changes
  # limits: {memory: 512MiB, cpus: 0.5}

collectors:
  - exchange: COINBASE
    symbols: [BTC-USD, ETH-USD]

  - exchange: KRAKEN
    symbols: [BTC-USD, ETH-USD]
    # channels: [trades]
    # store: streams

  # - exchange: KRAKEN
  #   name: kraken-candles # a second collector of an exchange needs a name
  #   symbols: BTC-USD
  #   channels: candles

# `launcher exchanges` lists what can be recorded; `launcher channels kraken` says what each channel's records
# are and how a lost one is noticed. Supported natively:
# OURS.
"""
