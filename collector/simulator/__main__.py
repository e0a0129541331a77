import sys

from collector.simulator.cli import main

sys.exit(main())
