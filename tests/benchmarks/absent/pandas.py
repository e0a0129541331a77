"""Stands in front of pandas, which the environment of the tests has, and that of a collector does not.

pyarrow imports it where it is there, and the collector would have 40 MiB more in memory than its users' have.
"""

raise ModuleNotFoundError("a collector is measured without it", name="pandas")
