"""What a connection still brings of subscriptions that it does not carry any more."""

from collections.abc import Collection

import msgspec

from collector.exchanges.protocol import (
    Break,
    Confirmed,
    Event,
    Malformed,
    Outputs,
    Refused,
    Renew,
    Repeated,
    Request,
    Resync,
)
from collector.records import AnyRecord, Key, Record, channel_of


def without(gone: Collection[Key], outputs: Outputs) -> Outputs:
    """Return ``outputs`` but for what is of ``gone``."""
    kept = (_without(gone, output) for output in outputs)
    return [output for output in kept if output is not None]


def _without(gone: Collection[Key], output: AnyRecord | Event) -> AnyRecord | Event | None:
    about: Key
    match output:
        case Record():
            about = _key(output)
        case Break() | Resync():
            about = output.subscription
        case Request():
            about = output.about
        case Renew(subscriptions) if all(each in gone for each in subscriptions):
            return None
        case Repeated(repeated):
            return Repeated(tuple(it for it in repeated if _key(it) not in gone))
        case Confirmed(subscriptions) | Refused(subscriptions):
            left = tuple(each for each in subscriptions if each not in gone)
            return msgspec.structs.replace(output, subscriptions=left)
        case Malformed(_, subscriptions) if subscriptions:  # else nobody knows what it is about
            left = tuple(each for each in subscriptions if each not in gone)
            return msgspec.structs.replace(output, about=left) if left else None
        case _:
            return output
    return None if about in gone else output


def _key(record: Record) -> Key:
    return channel_of(record), record.symbol
