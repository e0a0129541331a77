"""The transcripts in docs/launcher.md are what the commands print."""

import re

from fleet_texts import ROOT

from collector import catalog, connection_pace
from collector.command_line import UNREAD
from launcher import cli
from launcher.commands import CHANGES, DONE, FAILED, INCOMPLETE, INTERRUPTED, WRONG

TEXT = (ROOT / "docs" / "launcher.md").read_text()
BLOCK = re.compile(r"^```(yaml|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_transcripts_are_real(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_PASSWORD", "secret")
    ran = []
    for kind, block in BLOCK.findall(TEXT):
        if name := re.match(r"# (\w+\.yaml)\n", block):
            (tmp_path / name[1]).write_text(block)
        if kind == "console":
            for command, output in re.findall(r"^\$ launcher (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
                assert cli.main(command.split()) == 0
                assert capsys.readouterr().out == output, command
                ran.append(command.split()[0])
    assert {*ran} == {"explain", "validate", "render", "channels"}


def test_the_limits_of_exchanges_are_documented():
    spans = {1: "a second", 60: "a minute", 300: "in 5 minutes", 600: "in 10 minutes"}
    told = dict(re.findall(r"^\| ([A-Z_]+|others) \| ([0-9]+ .*) \|$", TEXT, re.MULTILINE))
    limits = {name: connection_pace.limit_of(name) for name in catalog.usable()}
    limits = {name: limit for name, limit in limits.items() if limit != connection_pace.DEFAULT}
    limits["others"] = connection_pace.DEFAULT
    assert told == {name: f"{limit.count} {spans[limit.seconds]}" for name, limit in limits.items()}


def test_every_exit_status_is_documented():
    told = {int(status) for status in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)}
    assert told == {DONE, FAILED, WRONG, CHANGES, INCOMPLETE, INTERRUPTED, UNREAD}
