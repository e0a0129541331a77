"""The log: one line per event, on standard error, as text or as JSON.

No line contains a known secret, the credentials of a URL, control characters, or more than LONGEST_LINE
characters.
"""

import json
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from typing import override

from collector.masking import masked
from collector.printable import printable, printable_json, shortened, worth_reading


def configure(level: str, form: str, secrets: Iterable[str] = ()) -> None:
    """Send all loggers' lines of at least ``level`` to standard error, without ``secrets``.

    ``form`` is text or json.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(secrets) if form == "json" else TextFormatter(secrets))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    threading.excepthook = _tell_end_of_thread
    # Our own lines say better what these log at INFO.
    for chatty in ("aiohttp", "asyncio", "feedhandler", "urllib3", "websockets"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def _tell_end_of_thread(end: threading.ExceptHookArgs) -> None:
    """Log the error that ended a thread, even a library's, which would otherwise not be in the log."""
    if end.exc_value:
        name = end.thread.name if end.thread else "unknown"
        logging.getLogger(__name__).error("the thread %s ended", name, exc_info=end.exc_value)


class _Formatter(logging.Formatter):
    """Masks secrets."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets = tuple(secrets)

    def masked(self, text: str) -> str:
        """Return a message, perhaps a library's, without secrets and not too long."""
        return masked(worth_reading(text), self._secrets)


class TextFormatter(_Formatter):
    """``2026-01-31T12:00:00.123Z INFO collector.writer: message``; a traceback stays on the line."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        head, said = f"{_utc(record)} {record.levelname} {record.name}: ", record.getMessage()
        if trace := _trace(record):
            said += f" | {trace}"
        return shortened(head + printable(self.masked(said)), of=len(head) + len(said))


class JsonFormatter(_Formatter):
    """One JSON object: time (ISO 8601, UTC), level, logger, message and, where there is one, trace."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        event = {
            "time": _utc(record),
            "level": record.levelname,
            "logger": record.name,
            "message": shortened(self.masked(message), of=len(message)),
        }
        if trace := _trace(record):
            event["trace"] = shortened(self.masked(trace), of=len(trace))
        return printable_json(json.dumps(event, ensure_ascii=False))


def _utc(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z"


def _trace(record: logging.LogRecord) -> str:
    return "".join(traceback.format_exception(*record.exc_info)).strip() if record.exc_info else ""
