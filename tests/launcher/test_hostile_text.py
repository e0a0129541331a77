"""What a fleet file holds never moves the cursor of whoever looks at it, and breaks no line."""

import itertools
import json

import pytest

from launcher import cli
from launcher.console import Console, Table
from launcher.engines.containers import change
from launcher.engines.docker import log_lines

SOUND = r"""
fleet: desk
stores: {disk: {backend: PARQUET}}
collectors:
  - {exchange: KRAKEN, symbols: "A\e[2J\x9b\u202eB", channels: trades, user: "me\n\a"}
"""
BROKEN = r"""
fleet: "desk\e[2J"
"\e[2J\n\L": 1
stores: {"\e\n": {backend: "\e\n\x9b"}}
collectors:
  - {exchange: "KRA\eKEN", symbols: "BTC-USD", channels: ["tra\ndes"], "e\nchange": 1, store: "\e[2J\n"}
  - {exchange: "KRAKEN", symbols: "\e${X", channels: "tr\u202eades", ssl_cert_file: "\e\n"}
"""


def said(capsys, *arguments):
    status = cli.main(list(arguments))
    out, err = capsys.readouterr()
    assert all(line.isprintable() for line in (out + err).split("\n"))
    return status, out, err


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "fleet\x1b\n.yaml"
    path.write_text(SOUND)
    return path


@pytest.mark.parametrize("command", ["validate", "explain symbols", "explain user", "validate --json"])
def test_values_are_shown_escaped(command, file, capsys):
    status, out, _ = said(capsys, *command.split(), str(file))
    assert status == 0
    if "--json" in command:
        assert json.loads(out)[0]["symbols"] == "A\x1b[2J\x9b\u202eB"
    else:
        assert (r"me\n\x07" if "user" in command else r"A\x1b[2J\x9b\u202eB") in out


def test_each_fault_is_one_line(file, capsys):
    file.write_text(BROKEN)
    status, _, err = said(capsys, "validate", str(file))
    assert status != 0
    lines = err.removesuffix("\n").split("\n")
    assert len(lines) >= 8
    assert all(r"fleet\x1b\n.yaml:" in line for line in lines)


def test_output_of_an_engine_is_shown_escaped(capsys):
    console = Console()
    console.say("a\x1b[2J\nb\tc")
    console.remark("\x07\x9b")
    with console.live(lambda: Table("A")) as live:
        live.line("\x1b[2J\r")
    table = Table("A", "DETAIL")
    table.add("x\x1b", "two\nlines\u2028")
    console.table(table)
    console.json({"a": "\x9b\u2028"})
    out, err = capsys.readouterr()
    assert out.split("\n")[:2] == [r"a\x1b[2J", "b\tc"]
    assert r"x\x1b  two\nlines\u2028" in out
    assert r"\u009b\u2028" in out
    assert err == "\\x07\\x9b\n\\x1b[2J\\r\n"
    shown = change("environment SYMBOLS", "a\nb\x1b", "c")
    assert shown.old == r"a\nb\x1b"


def test_a_log_is_split_at_newlines_only_and_an_endless_line_is_bounded():
    chunks = [b"1 a\xe2\x80\xa8b\x0b", b"\x1cc\r", b"\n2 d\n\n", b"3 \xff", b"e"]
    assert [*log_lines(chunks)] == ["1 a\u2028b\x0b\x1cc\r", "2 d", "", "3 \ufffde"]
    endless = itertools.repeat(b"x" * 2**16)
    assert len(next(log_lines(endless))) < 2**21
