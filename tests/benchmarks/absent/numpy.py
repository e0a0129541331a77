"""Stands in front of numpy, which comes with pandas, and which the environment of a collector does not have.

pyarrow imports it where it is there: 10 MiB.
"""

raise ModuleNotFoundError("a collector is measured without it", name="numpy")
