import json
import subprocess
import sys

SCRIPT = """
import logging, sys
from collector import logs
logs.configure("INFO", sys.argv[1])
log = logging.getLogger("collector.test")
log.debug("unseen")
log.info("two\\nlines")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def lines(form):
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, form], capture_output=True, text=True, check=True, timeout=30
    )
    assert ended.stdout == ""
    return ended.stderr.splitlines()


def test_text_is_one_line_an_event():
    first, second = lines("text")
    assert first.endswith("Z INFO collector.test: two\\nlines")
    assert " ERROR collector.test: failed | Traceback" in second
    assert "ZeroDivisionError" in second


def test_json_is_one_object_an_event():
    first, second = map(json.loads, lines("json"))
    assert (first["level"], first["logger"], first["message"]) == ("INFO", "collector.test", "two\nlines")
    assert second["trace"].endswith("ZeroDivisionError: division by zero")
