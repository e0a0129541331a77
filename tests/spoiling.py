"""Messages of the scripts with one value in them changed, and what ``collector decode`` makes of them."""

import copy
import json

from played import RECEIPT, Played
from scripted import SCRIPTS, Script, text_of

from collector.decode.decoder import Decoder
from collector.exchanges.directory import EXCHANGES

#: In place of a value: none at all, the same in other letters, a list of it.
MISSING, OTHER_CASE, IN_A_LIST = object(), object(), object()


def places(value, path=()):
    """The path to each value in a message; of a list, to the first two."""
    if path:
        yield path
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for number in range(min(len(value), 2)):
            yield from places(value[number], (*path, number))


def read(frame):
    """A message; its numbers with a point are marked texts, which keep their digits."""
    return json.loads(frame, parse_float="@{}@".format)


def written(message):
    return json.dumps(message, separators=(",", ":")).replace('"@', "").replace('@"', "").encode()


def changed(message, path, odd):
    """The message with another value at one place."""
    message = holder = copy.deepcopy(message)
    *way, last = path
    for key in way:
        holder = holder[key]
    if odd is MISSING:
        del holder[last]
    elif odd is OTHER_CASE:
        holder[last] = holder[last].swapcase() if isinstance(holder[last], str) else holder[last]
    else:
        holder[last] = [holder[last]] if odd is IN_A_LIST else odd
    return message


def scripted(name):
    """The messages of each connection of a script, and what its requests are answered with."""
    it = Played(Script.read(SCRIPTS / f"{name}.jsonl", RECEIPT // 10**9))
    answers = [answer for url in it.exchange.listing() for answer in it.pages(url)]
    for connection in it.script.connections:
        frames = [text_of(step.line.send) for step in connection.steps if bytes(step.line.send)]
        yield [frame for frame in frames if frame.startswith(b"{")], answers


def decoded(name, listings, before, message):
    decoder = Decoder(EXCHANGES[name](), listings=listings, receipt=RECEIPT)
    list(decoder.decode(before))
    shown = list(decoder.decode([written(message)]))
    json.dumps(shown, allow_nan=False)
    return shown


def records(shown):
    return [each["record"] for each in shown if "record" in each]
