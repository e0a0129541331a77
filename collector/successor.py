"""Wait, ready to begin, until the collector that has the spool releases it.

The successor of a collector may be started before that stops: everything slow - imports, the exchange's list
of symbols - is done by the time the spool is free, and the successor announces that in a file beside the
spool.
"""

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from collector import health, stores
from collector.feeds import creation
from collector.settings import Settings
from collector.spool.spool import SpoolInUseError

if TYPE_CHECKING:
    from collector.feeds.access import Listed

LOG = logging.getLogger(__name__)

PATIENCE = 60.0  # seconds after which a spool that is still in use is an error
PREPARING = 20.0  # seconds for the exchange to return its list; otherwise the feed asks again
LOOK_EVERY = 0.05  # seconds between two checks whether the spool is free


class Successor:
    """A collector that waits for another to stop; if it does not have to wait, it does nothing."""

    def __init__(self, settings: Settings) -> None:
        self._listed: Listed | None = None
        self._settings = settings
        self._end: float | None = None

    async def wait(self, error: SpoolInUseError) -> None:
        """Get ready, or wait a moment. Raises SpoolInUseError after PATIENCE."""
        if self._end is None:
            self._end = time.monotonic() + PATIENCE
            LOG.info("%s; waiting up to %.0f s for it to stop", error, PATIENCE)
            await self._prepare()
        elif time.monotonic() >= self._end:
            raise SpoolInUseError(f"{error}; if both should run, give them different NAMEs") from error
        await asyncio.sleep(LOOK_EVERY)

    def take(self) -> "Listed | None":
        """Return what the exchange listed meanwhile, once; None if it was not asked, or did not answer."""
        listed, self._listed = self._listed, None
        return listed

    def over(self) -> None:
        """Withdraw the announcement."""
        if self._end is not None:
            with contextlib.suppress(OSError):
                (self._settings.home / health.STANDBY_FILE).unlink(missing_ok=True)

    async def _prepare(self) -> None:
        stores.create(self._settings)  # imports its driver
        access = creation.access(self._settings)
        try:
            async with asyncio.timeout(PREPARING):
                self._listed = await access.listed()
        except Exception as error:  # noqa: BLE001 - the feed will meet the same problem, and report it
            LOG.warning("%s: its list of symbols was not read yet: %s", self._settings.exchange, error)
        finally:
            await access.close()
        try:
            health.write(self._settings.home, health.Standby(time=time.time()))
        except OSError as error:
            LOG.warning("%s not written: %s", health.STANDBY_FILE, error)
