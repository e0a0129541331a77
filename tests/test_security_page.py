"""SECURITY.md says the bounds that the code has."""

from pathlib import Path

import pytest

from collector import bounded_json, bounds, dead_letters, files, printable, settings
from collector.exchanges import instruments, times
from collector.feeds import http, malformed, network
from collector.stores import notes

PAGE = (Path(__file__).parent.parent / "SECURITY.md").read_text()
MIB = 2**20


@pytest.mark.parametrize(
    ("row", "most"),
    [
        ("an answer of an exchange", f"{http.LARGEST_ANSWER // MIB} MiB, {http.SLOWEST_ANSWER:.0f} s"),
        ("a message on a websocket", f"{network.LARGEST_MESSAGE // MIB} MiB"),
        ("a redirect", f"on the same host, never out of TLS, {http.MOST_REDIRECTS} in a row"),
        ("`Retry-After`", f"honoured for every request, up to {http.LONGEST_WAIT:.0f} s"),
        ("JSON from an exchange", f"{bounded_json.MOST_VALUES:,} values"),
        ("a number", f"{bounds.DIGITS} digits, between 1e-{bounds.EXPONENT} and 1e{bounds.EXPONENT}"),
        ("a whole number from an exchange", f"{(2**63 - 1).bit_length() + 1} bits"),
        (
            "a time from an exchange that is supported natively",
            f"1970 to {1970 + times._LATEST // 1000 // 86400 // 365.2425:.0f}",
        ),
        (
            "the name of an instrument",
            f"{instruments._LONGEST_NAME} characters, all of which `SYMBOLS` can ask for",
        ),
        ("the opening of a websocket", f"{network.CONNECT:.0f} s"),
        ("a note of another collector", f"{notes.MOST_PAIRS:,} channels of symbols"),
        ("a text in a record", f"{bounds.LONGEST_TEXT} characters"),
        ("a log line", f"{printable.LONGEST_LINE:,} characters"),
        ("an error of a library", f"{printable.LONGEST_ERROR:,} characters"),
        ("a fleet file", f"{files.LARGEST // MIB} MiB, {files.PATIENCE:.0f} s to read"),
        ("a file that a variable names", f"{settings.LARGEST_FILE // MIB} MiB, a regular file"),
        ("a size", f"{settings.LARGEST_SIZE // 2**40}TiB, {settings.LONGEST_TIME / 86400:.0f}d"),
        (
            "messages and records kept aside",
            f"{2 * malformed.LARGEST_FILE // MIB} MiB and "
            f"{2 * dead_letters.LETTERS_BYTES // MIB} MiB on disk",
        ),
    ],
)
def test_each_bound_matches_the_code(row, most):
    lines = [line.split(" | ") for line in PAGE.splitlines() if line.startswith(f"| {row}")]
    assert [line[1] for line in lines] == [most]
