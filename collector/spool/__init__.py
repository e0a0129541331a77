"""The durable queue between the exchange and the store, on the local disk."""
