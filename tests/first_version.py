"""Makes fleets on an engine as the first version of the launcher made them.

It labelled containers with their fleet, collector, configuration and manager, and volumes and networks with
their fleet and manager, all of them by names that are those of fleets without an ``id`` still.
"""

import contextlib
from unittest import mock

from launcher.engines import containers
from launcher.owner import NOBODY


@contextlib.contextmanager
def as_the_first_version():
    """Encloses commands that say of nothing whose it is."""
    with (
        mock.patch("launcher.fleet.of_file", return_value=NOBODY),
        mock.patch.object(containers, "volume_labels", lambda spec, _: containers.labels(spec.fleet)),
    ):
        yield
