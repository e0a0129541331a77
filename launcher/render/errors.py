"""Why a fleet cannot be rendered."""

from collections.abc import Iterable

from launcher.spec import FleetSpec


class RenderError(Exception):
    """The fleet cannot be expressed in a format; ``faults`` are sentences that say why."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


def refuse(faults: Iterable[str]) -> None:
    """Raise RenderError if there are faults."""
    if found := tuple(faults):
        raise RenderError(found)


def unmanaged_only(fleet: FleetSpec, where: str) -> Iterable[str]:
    """Return the faults of managed stores, for formats that render only collectors."""
    for store in fleet.stores:
        yield (
            f"store {store.name}: `manage: true` is for `launcher up` and the compose file, not for {where}; "
            f"run {store.server} there by itself, and say its `host` and `password_file` instead of `manage`"
        )


def live_only(fleet: FleetSpec, where: str) -> Iterable[str]:
    """Return the fault of a simulated fleet, for formats without a simulator."""
    if fleet.simulator:
        yield (
            f"fleet {fleet.name}: `source: simulated` is for trying out on one machine, not for {where}; use "
            "`launcher run`, `launcher up` or the compose file, or `source: live`"
        )
