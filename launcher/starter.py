"""The fleet file that ``launcher init`` writes."""

import re
import unicodedata
from pathlib import Path

from collector import catalog
from launcher.keys import FLEET

_LONGEST = 24  # characters of a name that is made; a swarm takes 43 of a fleet's and a collector's together

_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "æ": "ae", "ø": "oe", "å": "aa"})


def starter(folder: Path, fleet_id: str) -> str:
    """Return the text of a fleet file in ``folder``, which the fleet is named after."""
    ours = [name for name, exchange in catalog.exchanges().items() if exchange.by == "cryptostore"]
    text = _TEXT.replace("FLEET", _fleet_name(folder.absolute().name)).replace("ID", fleet_id)
    return text.replace("OURS", ", ".join(ours))


def _fleet_name(folder: str) -> str:
    """Return the folder's name as a fleet may be called."""
    spelt = folder.lower().translate(_UMLAUTS)
    plain = unicodedata.normalize("NFKD", spelt).encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:_LONGEST].strip("-")
    return str(FLEET["fleet"].parse(name)) if name else "crypto"


_TEXT = """\
# yaml-language-server: $schema=fleet.schema.json
# A fleet file: one collector for each exchange that you want to record.
#
#   launcher validate fleet.yaml    says what is wrong with this file, if anything is
#   launcher run fleet.yaml         runs it as processes of this machine, until Ctrl-C
#   launcher up fleet.yaml          runs it as containers; again after each change of this file
#   launcher status fleet.yaml      says how each collector is doing
#   launcher down fleet.yaml        removes them

# The fleet's name: its containers, volumes and network are named after it.
fleet: FLEET
# What tells it from any other fleet of that name, wherever this file lies. Give a copy that is to be a fleet
# of its own another name and another id.
id: ID

# Where the data comes from: live, or simulated to try things out without the exchanges.
source: live

# Where the data goes. A store's name is yours to choose.
stores:
  files:
    backend: PARQUET
    # Containers write into a volume, `launcher run` into ./data; or into a folder that you choose:
    # path: ./records # relative paths begin where this file is

  # streams:
  #   backend: REDISSTREAM          # or REDIS for sorted sets
  #   host: redis                   # as the containers see it: localhost would be the container itself
  #   password: ${REDIS_PASSWORD}   # from your environment; ${REDIS_PASSWORD:-text} has a default

# The network of the containers. Where your database has one of its own, join it:
# network: {name: my-databases, external: true}

# What holds for all collectors. Any setting of the collector can stand here, at a store or at a collector;
# a store's count before these, and a collector's own before both.
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

# `launcher exchanges` lists what can be recorded, `launcher channels kraken` says what each channel's records
# are and how a lost one is noticed. This project itself speaks to
# OURS.
"""
