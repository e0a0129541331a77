"""Plays the simulator: it writes its authority's file, as the real one does when it listens."""

import signal
import sys
from pathlib import Path

Path(sys.argv[sys.argv.index("--ca") + 1]).write_text("authority")
signal.sigwait({signal.SIGTERM, signal.SIGINT})
