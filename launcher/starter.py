"""The fleet file that ``launcher init`` writes."""

STARTER = """\
# A fleet: one collector for each exchange.
fleet: crypto
stores:
  disk:
    backend: PARQUET
collectors:
  - exchange: COINBASE
    symbols: [BTC-USD, ETH-USD]
    channels: [trades, ticker, l2_book]
"""
