import json
import re
import subprocess
import sys

import pytest

from collector.printable import printable

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


def lines(form, script=SCRIPT):
    ended = subprocess.run(
        [sys.executable, "-c", script, form], capture_output=True, text=True, check=True, timeout=30
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


HOSTILE = """
import logging, sys
from collector import logs
logs.configure("INFO", sys.argv[1])
log = logging.getLogger("collector.test")
log.info("%s", "\\x1b[2J\\x07\\u2028\\x9b\\udc80 http://me:secret@h/ " + "x" * 2**20 + " end")
try:
    raise ValueError("\\x1b[2J" + "y" * 2**20)
except ValueError:
    log.exception("failed")
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_log_lines_are_bounded_and_free_of_control_characters(form):
    first, second = lines(form, HOSTILE)
    for line in (first, second):
        assert line.isprintable()
        assert len(line) < 10_000
    assert r"\x1b[2J\x07\u2028\x9b\udc80 http://***@h/ xx" in (
        first if form == "text" else printable(json.loads(first)["message"])
    )
    assert re.search(r"\[\.\.\. 1,048,\d{3} characters in all \.\.\.\] x+ end", first)
    assert re.search(r"\[\.\.\. 1,048,\d{3} characters in all \.\.\.\] y+", second)


THREAD = """
import sys, threading
from collector import logs
logs.configure("INFO", sys.argv[1])
thread = threading.Thread(target=lambda: 1 / 0, name="monitor")
thread.start()
thread.join()
"""


def test_an_error_that_ends_a_thread_is_logged():
    (line,) = lines("text", THREAD)
    assert " ERROR collector.logs: the thread monitor ended | Traceback" in line


CARELESS = """
import logging, sys
from collector import logs
logs.configure("INFO", sys.argv[1], ["correct-horse-battery", "hunter2"])
log = logging.getLogger("some.library")
log.info("login of me with correct-horse-battery went wrong")
try:
    raise ValueError("hunter2 is not known here")
except ValueError:
    log.exception("failed")
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_bare_secret_in_a_library_message_is_masked(form):
    first, second = lines(form, CARELESS)
    assert "login of me with *** went wrong" in first
    assert "*** is not known here" in second
    assert "hunter2" not in second
