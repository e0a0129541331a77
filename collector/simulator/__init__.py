"""An exchange that speaks the real wire protocols: for the demo, and for every test that needs one.

Nothing outside imports it, and it imports nothing of the collector, so neither can learn from the other what
the wire looks like. ``cli`` starts a ``server``, which listens under the host names of its exchanges
(``coinbase``, ``kraken``, ``binance``, ``binance_futures``, each an ``exchange``) with ``certificates`` of
its own, as a ``proxy`` too. What they send is made by ``market``, what they wrote is in ``log``, what goes
wrong in ``faults``.
"""
