"""Plays a collector for tests of the launcher; its first symbol says which part.

WRONG-SETTINGS says why and ends with 78, and so does its check
ENDS-EARLY     ends with 1, though its check says that all is well
REFUSED-USD    the exchange refuses it      NEVER-READY waits for its store for ever
NOT-STORED     becomes ready, and has 1,234 records in its spool that it cannot store
DEAD-LETTERS   becomes ready, and has 99 bytes of dead letters in its spool
UNSEEN-LATER   becomes ready, and knows a second later for how long it saw nothing
UNSEEN-NEVER   becomes ready, and never knows for how long it saw nothing
SHARES-STORE   leaves out those of its other symbols that another such collector stores
SHARES-OR-ENDS does the same, ends with 78 where that is all of them, and takes its time to stop
SHARES-BY-THEN does the same as SHARES-STORE, with what it finds at its start
anything else  becomes ready
"""

import fcntl
import json
import os
import signal
import sys
import threading
import time
from functools import cache
from pathlib import Path

NAME, EXCHANGE = os.environ["NAME"], os.environ["EXCHANGE"]
PART = os.environ["SYMBOLS"].split(",")[0]
STARTED = time.time()
HOME = Path(os.environ["SPOOL_DIR"]) / NAME
#: What each collector stores, by file: what a real one says in its note in the store.
NOTES = Path(os.environ["PARQUET_DIR"]) / "notes"


@cache
def overlapping(_look):
    """Who stores which of our symbols; a note says that the others are ours."""
    NOTES.mkdir(exist_ok=True)
    stored = {
        symbol: note.name
        for note in NOTES.iterdir()
        for symbol in note.read_text().split()
        if note.name != NAME
    }
    ours = os.environ["SYMBOLS"].split(",")[1:]
    aside = NOTES.with_name(NAME)
    aside.write_text(" ".join(symbol for symbol in ours if symbol not in stored))
    aside.replace(NOTES / NAME)
    return {symbol: stored[symbol] for symbol in ours if symbol in stored}


def unseen(stored):
    unknown = PART == "UNSEEN-NEVER" or (PART == "UNSEEN-LATER" and stored < 5)
    return None if unknown else 0.4


def write(state, detail, stored=0):
    store = "away" if PART == "NEVER-READY" else "connected"
    refused = {"trades REFUSED-USD": "no such product"} if PART == "REFUSED-USD" else {}
    look = 0 if PART == "SHARES-BY-THEN" else stored
    others = overlapping(look) if PART.startswith("SHARES-") and state == "ready" else {}
    state, detail = ("degraded", f"left out {len(others)}") if others else (state, detail)
    status = {
        "version": 1,
        "name": NAME,
        "exchange": EXCHANGE,
        "started": STARTED,
        "time": time.time(),
        "state": state,
        "detail": detail,
        "store": {"backend": "REDIS", "state": store, "since": STARTED, "error": None},
        "connections": [],
        "subscriptions": {
            "confirmed": 0 if refused else 2 if PART == "SHARES-STORE" else 1,
            "pending": [],
            "refused": refused,
            "overlapping": {f"trades {symbol}": f"{name} stores it" for symbol, name in others.items()},
            "overlapping_with": sorted({*others.values()}),
        },
        "channels": {"trades": {"received": stored, "stored": stored}},
        "spool": {
            "records": 1234 if PART == "NOT-STORED" else 0,
            "letters": 99 if PART == "DEAD-LETTERS" else 0,
            "bytes": 0,
            "dropped": 0,
        },
        "last_received": time.time(),
        "unseen": unseen(stored),
        "gaps_today": 0,
        "last_stored": time.time(),
    }
    aside = HOME / "status.part"
    aside.write_text(json.dumps(status))
    aside.replace(HOME / "status.json")
    return others


def has(lock):
    """Whether the spool is ours."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def say(text):
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


stop = threading.Event()
for number in (signal.SIGTERM, signal.SIGINT):
    # Not in the handler itself: it may interrupt a wait that holds the event's lock.
    signal.signal(number, lambda *_: threading.Thread(target=stop.set).start())

if sys.argv[1:] and PART != "WRONG-SETTINGS":
    say('{"what": "settings", "level": "WARNING", "message": "a line of a log, and no finding"}')
    for what in ("settings", "spool", "store", "symbols", "clock"):
        finding = {"what": what, "state": "fine", "detail": "everything is fine", "remedy": ""}
        if PART == "NEVER-READY" and what == "store":
            finding |= {"state": "fault", "detail": "connection refused", "remedy": "start it"}
        if what not in sys.argv[1:]:
            say(json.dumps(finding))
    sys.exit(0)
say(f"2026-01-01T00:00:00.000Z INFO standin: starting {PART}")
if PART == "WRONG-SETTINGS":
    say("SYMBOLS = 'WRONG-SETTINGS': no such symbol")
    if "PASSWORD_FILE" in os.environ:
        say(f"a careless line with {Path(os.environ['PASSWORD_FILE']).read_text()}")
    if "HTTPS_PROXY_FILE" in os.environ:
        say(f"a careless proxy at {Path(os.environ['HTTPS_PROXY_FILE']).read_text()}")
    if "CONFIG" in os.environ:
        say(f"a careless key {Path(os.environ['CONFIG']).read_text().split()[-1].strip('}')} of a library")
    sys.exit(78)
if PART == "ENDS-EARLY":
    say("2026-01-01T00:00:00.000Z CRITICAL standin: feed died")
    sys.exit(1)

HOME.mkdir(parents=True, exist_ok=True)
lock = (HOME / "spool.lock").open("a")
if not has(lock):
    (HOME / "standby.json").write_text(json.dumps({"time": time.time()}))
    while not has(lock) and not stop.wait(0.05):
        pass
write("starting", "connecting")
state, detail = {
    "NEVER-READY": ("starting", "store away: connection refused"),
    "REFUSED-USD": ("degraded", "the exchange refused 1"),
}.get(PART, ("ready", "1 subscription, store connected"))
count = 0
while not stop.wait(0.2):
    count += 1
    others = write(state, detail, count)
    if PART == "SHARES-OR-ENDS" and others and count > 5:
        sys.exit(78)
if PART == "SHARES-OR-ENDS":
    time.sleep(2)
(NOTES / NAME).unlink(missing_ok=True)
write("stopped", "stopped", count)
say("2026-01-01T00:00:00.000Z INFO standin: stopped")
