"""The collector, but its Parquet files come every fifth of a second: so that each fault meets a commit."""

import sys

from collector.cli import main
from collector.stores import parquet

if __name__ == "__main__":
    parquet._FIRST_SECONDS = parquet._LATER_SECONDS = 0.2
    sys.exit(main())
