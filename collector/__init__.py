"""Records an exchange in a store. Runs inside the container; knows nothing of the launcher."""

import sys

from collector import yapic

sys.modules["yapic"] = yapic  # before cryptofeed is imported, which only the modules of this package do
