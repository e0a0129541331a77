"""The command line where no engine is needed."""

import argparse
import errno
import hashlib
import io
import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata

import pytest
from fleet_texts import ROOT
from parts import Missing, program

import collector.cli
from collector.simulator import cli as simulator
from collector.version import VERSION, revision
from launcher import cli
from launcher.console import Console, Table
from launcher.owner import whoami

FLEET = """\
fleet: desk
stores:
  disk: {backend: PARQUET}
collectors:
  - {exchange: COINBASE, symbols: [BTC-USD], channels: [trades]}
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    return path


def test_help_imports_nothing_that_is_slow():
    program = "import sys; from launcher import cli; cli.parser(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"docker", "rich", "yaml", "jinja2", "msgspec", "asyncio"} & set(modules.stdout.split())


def test_help_teaches_with_examples(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "launcher up desk.yaml --wait-timeout 2m" in said
    assert "exit status" in said


def test_init_never_overwrites(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["init"]) == 0
    assert cli.main(["validate"]) == 0
    (tmp_path / "fleet.yaml").write_text("mine")
    assert cli.main(["init"]) == 1
    assert (tmp_path / "fleet.yaml").read_text() == "mine"
    assert "already exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folder", "name"),
    [("Börsen-Überblick", "boersen-ueberblick"), ("Café São Paulo", "cafe-sao-paulo"), ("取引所", "crypto")],
)
def test_init_spells_the_name_of_the_folder_in_ascii(folder, name, tmp_path, monkeypatch):
    (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / folder)
    assert cli.main(["init"]) == 0
    assert f"\nfleet: {name}\n" in (tmp_path / folder / "fleet.yaml").read_text()


def test_init_says_how_to_start_what_it_wrote(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["init"]) == 0
    assert "`launcher up`" in capsys.readouterr().out
    assert cli.main(["init", "my desk.yaml"]) == 0
    assert "`launcher up 'my desk.yaml'`" in capsys.readouterr().out
    assert cli.main(["init", "nowhere/desk.yaml"]) == 1
    assert "folder nowhere does not exist" in capsys.readouterr().err


def test_render_into_a_file_says_that_it_takes_a_folder(file, tmp_path, capsys):
    (tmp_path / "taken").touch()
    for output in ("taken", "taken/in"):
        assert cli.main(["render", "--output", output]) == 2
        assert f"--output {output}: is a file, or inside one; name a folder" in capsys.readouterr().err


def test_render_where_nothing_can_be_written_names_the_option(file, capsys):
    assert cli.main(["render", "--output", "/proc/foo"]) == 2
    assert "--output /proc/foo: cannot be written: " in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--no-color"]])
def test_without_a_command_the_help_is_shown(words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert "launcher up desk.yaml --wait-timeout 2m" in capsys.readouterr().err


def test_validate_shows_what_the_file_asks_for(file, capsys):
    assert cli.main(["validate"]) == 0
    assert "coinbase   COINBASE  PARQUET  trades    BTC-USD" in capsys.readouterr().out


#: Every command, as it is called without a file; of a plan 2 says that it has changes, and nothing else.
OF_A_FILE = ["validate", "render", "run", "up", "doctor", "complete", "status", "logs", "restart", "down"]
PLANS = [["plan"], ["plan", "--resolve"], ["up", "--dry-run"], ["up", "--dry"]]
OTHERS = ["init", "version", "completion", "schema", "explain", "exchanges", "channels", "symbols"]
STATUSES = [*(([command], 2) for command in OF_A_FILE), *((plan, 1) for plan in PLANS)]


def test_these_are_all_commands():
    reader = cli.parser()
    (commands,) = (each for each in reader._actions if isinstance(each, argparse._SubParsersAction))
    assert {*commands.choices} == {*OF_A_FILE, *OTHERS, "plan"}


@pytest.mark.parametrize(("command", "status"), STATUSES)
def test_a_wrong_file_has_its_faults_and_exit_status_for_every_command(file, command, status, capsys):
    file.write_text(FLEET.replace("COINBASE", "COINBSE"))
    assert cli.main(command) == status
    said = capsys.readouterr().err
    assert "fleet.yaml:5:" in said
    assert "COINBASE" in said
    assert "Traceback" not in said
    file.unlink()
    assert cli.main(command) == status
    assert "fleet.yaml: cannot be read: No such file" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "status"), [*STATUSES, *(([each], 2) for each in OTHERS)])
def test_a_wrong_option_or_value_has_its_exit_status_for_every_command(command, status, capsys):
    wrong = [[*command, "--fly"], ["--no-colour", *command]]
    if command[0] in ("up", "plan", "doctor", "complete", "status", "logs", "restart", "down"):
        wrong += [[*command, "--parallel", "0"], [command[0], "--parallel", "0", *command[1:]]]
    for words in wrong:
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert (words, ended.value.code) == (words, status)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("command", "status"), STATUSES)
def test_a_pattern_that_matches_nothing_has_its_exit_status(file, command, status, monkeypatch, capsys):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    asks_first = command[0] in ("status", "logs", "restart", "down")  # it may be there, and not in the file
    assert cli.main([*command, "--only", "nope"]) == (1 if asks_first else status)
    assert ("no Docker engine" if asks_first else "no collector nope") in capsys.readouterr().err


#: Commands of both programs that need no engine and no network, and print something.
PRINTING = (
    *(f"launcher {words}" for words in ("--help", "up --help", "--version", "version", "init new.yaml")),
    *(
        f"launcher {words}"
        for words in ("validate", "validate --json", "render", "schema", "explain symbols")
    ),
    *(
        f"launcher {words}"
        for words in ("exchanges", "exchanges --json", "channels KRAKEN", "completion bash")
    ),
    *(
        f"collector {words}"
        for words in ("--help", "--version", "check", "check --help", "health", "db init")
    ),
    *(f"collector decode {words}" for words in ("--help", "KRAKEN messages")),
)
FULL = "{}: standard output cannot be written: No space left on device\n"


@pytest.mark.programs
@pytest.mark.parametrize(
    ("command", "output", "status", "said"),
    [
        ("launcher validate", "| true", 141, ""),
        ("collector check", "| true", 141, ""),
        ("collector decode KRAKEN messages", "| true", 141, ""),
        *((command, ">/dev/full", 1, FULL.format(command.partition(" ")[0])) for command in PRINTING),
        *((command, "| true", 141, "") for command in ("launcher up --help", "launcher --version")),
        ("launcher --help", "2>/dev/full", 0, ""),
    ],
)
def test_a_closed_pipe_changes_the_exit_status_of_commands_that_answer(file, command, output, status, said):
    file.with_name("messages").write_text('{"channel": "heartbeat"}\n{"channel": 1}\n' * 1000)
    settings = "EXCHANGE=KRAKEN SYMBOLS=BTC-USD CHANNELS=trades BACKEND=TTY"
    line = f"{settings} {sys.executable} -m {command} {output}; exit ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (status, said)


@pytest.mark.programs
@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_a_command_works_with_closed_streams(file, closed):
    command = f"{sys.executable} -m launcher validate {file} {closed}"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_server_that_is_not_an_engine_is_reported(file, monkeypatch, capsys):
    class Pages(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
        assert cli.main(["status"]) == 1
        server.shutdown()
    assert "what /containers/json returned is not an answer of a Docker engine" in capsys.readouterr().err


@pytest.mark.parametrize("config", ["[]", '{"currentContext": 5}', "nonsense"])
def test_an_odd_docker_configuration_is_tolerated(file, config, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(config)
    monkeypatch.setattr("launcher.engines.endpoint._DEFAULT", "unix:///nowhere.sock")
    assert cli.main(["status"]) == 1
    said = capsys.readouterr().err
    assert ("no Docker context 5" if "5" in config else "reachable at unix:///nowhere.sock") in said


def test_a_file_that_is_not_there(tmp_path, capsys):
    assert cli.main(["validate", str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: cannot be read: No such file or directory; `launcher init`" in capsys.readouterr().err
    assert cli.main(["validate", "kraken*"]) == 2
    assert "; collectors are selected with --only: `--only 'kraken*'`" in capsys.readouterr().err


#: Where a fault in a file is.
PLACE = re.compile(r"\S+\.yaml:[0-9]+:[0-9]+: ")


@pytest.mark.parametrize(
    "words",
    [
        "explain memry",
        "explain fleet.yaml",
        "explain image bad.yaml",
        "explain image none.yaml",
        "channels krakn",
        "symbols krakn",
        "validate bad.yaml",
        "validate none.yaml",
        "validate twice.yaml",
        "validate --only nope",
        "validate --profile nope",
        "render k8s",
        "render --output fleet.yaml",
        "render managed.yaml --format kubernetes",
        "run managed.yaml",
        "run twice.yaml",
        "complete --since 1h --until 2h",
        "down --fleet desk fleet.yaml",
        "plan --resolve simulated.yaml",
    ],
)
def test_every_error_begins_with_the_programs_name_or_a_place(file, words, monkeypatch, capsys):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    variants = {
        "bad": FLEET.replace("COINBASE", "COINBSE"),
        "twice": FLEET + FLEET.splitlines()[-1].replace("{", "{name: again, ") + "\n",
        "managed": FLEET.replace("{backend: PARQUET}", "{backend: REDIS, manage: true}"),
        "simulated": f"source: simulated\n{FLEET}",
    }
    for name, content in variants.items():
        file.with_name(f"{name}.yaml").write_text(content)
    assert cli.main(words.split()) in (1, 2)
    said = capsys.readouterr().err.splitlines()
    assert said
    assert [line for line in said if not (line.startswith("launcher: ") or PLACE.match(line))] == []


@pytest.mark.parametrize(
    ("word", "meant"), [("kubernetes", "kubernetes"), ("K8s", "kubernetes"), ("podman", "quadlet")]
)
def test_a_format_given_as_a_file_is_told_where_it_belongs(file, word, meant, capsys):
    assert cli.main(["render", word]) == 2
    said = f"launcher: {word} is a format, not a fleet file: `launcher render --format {meant}`\n"
    assert capsys.readouterr().err == said
    file.with_name(word).write_text(file.read_text())  # it may be a file's name all the same
    assert cli.main(["render", word]) == 0


def test_render_writes_a_compose_file_and_env_sets(file, capsys):
    assert cli.main(["render"]) == 0
    assert capsys.readouterr().out.split() == ["rendered/compose.yaml", "rendered/coinbase.env"]


@pytest.mark.parametrize("command", ["up", "status", "logs", "restart", "down"])
@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("unix:///nowhere/docker.sock", "No such file or directory"),
        ("tcp://127.0.0.1:1", "Connection refused"),
    ],
)
def test_without_docker_one_sentence_names_the_other_way(file, command, address, why, monkeypatch, capsys):
    monkeypatch.setenv("DOCKER_HOST", address)
    assert cli.main([command]) == 1
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if not line.startswith("hint:")] == [
        f"launcher: no Docker engine is reachable at {address} (DOCKER_HOST): {why}; "
        "start it, or use `launcher run`, which needs none"
    ]


def test_a_missing_context_does_not_select_another_engine(file, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONTEXT", "nope")
    assert cli.main(["status"]) == 1
    said = capsys.readouterr().err
    assert "launcher: no Docker context nope, which DOCKER_CONTEXT names; `docker context ls`" in said
    folder = tmp_path / "contexts/meta" / hashlib.sha256(b"nope").hexdigest()
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text('{"Endpoints": {"docker": {"Host": "unix:///elsewhere.sock"}}}')
    assert cli.main(["status"]) == 1
    assert (
        "no Docker engine is reachable at unix:///elsewhere.sock (context nope): " in capsys.readouterr().err
    )


def test_the_remedy_for_missing_permission_names_the_user(file, monkeypatch, capsys):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("launcher.engines.socket.SocketReader.get", refuse)
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/docker.sock")
    monkeypatch.delenv("USER", raising=False)
    assert cli.main(["status"]) == 1
    assert "(`sudo usermod -aG docker $(id -un)`, then log in again)" in capsys.readouterr().err


def test_a_user_without_a_name_is_shown_by_uid(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 54321)
    assert whoami().startswith("uid 54321 on ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["status", "a.yaml", "--fleet", "desk"], "not both"),
    ],
)
def test_contradictory_options_are_refused(arguments, said, capsys):
    assert cli.main(arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["run", "--for", "soon"],
        ["up", "--parallel", "0"],
        ["logs", "--tail", "some"],
        ["up", "--wait-timeout", "-1"],
    ],
)
def test_wrong_options_are_2(arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2


def test_durations_have_units():
    options = cli.parser().parse_args(["run", "--for", "1.5m"])
    assert options.seconds == 90


def test_both_programs_say_their_version_and_revision(capsys):
    assert metadata.version("cryptostore") == VERSION  # pyproject.toml
    assert f"ARG VERSION={VERSION}\n" in (ROOT / "Dockerfile").read_text()
    assert cli.main(["version"]) == 0
    told = capsys.readouterr().out
    assert re.fullmatch(rf"launcher {VERSION}( \(revision [0-9a-f]+(-dirty)?\))?\n", told)
    assert ("revision" in told) == (ROOT / ".git").exists()
    for name, parser in (("launcher", cli.parser()), ("collector", collector.cli.parser())):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(["--version"])
        assert ended.value.code == 0
        assert capsys.readouterr().out == told.replace("launcher", name)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["launcher", "stats"], "launcher: error: unknown command stats; did you mean status?"),
        (
            ["launcher", "frobnicate"],
            "error: unknown command frobnicate; choose from init, validate, ",
        ),
        (
            ["launcher", "logs", "--folow"],
            "launcher logs: error: unknown option --folow; did you mean --follow?",
        ),
        (["launcher", "logs", "--xyz"], "unknown option --xyz; `launcher logs --help` lists them"),
        (
            ["launcher", "logs", "a.yaml", "--qqqq=1"],
            "unknown option --qqqq=1; `launcher logs --help` lists them",
        ),
        (
            ["launcher", "--no-colour", "logs"],
            "launcher: error: unknown option --no-colour; did you mean --no-color?",
        ),
        (
            ["launcher", "render", "--format", "kubernets"],
            "invalid choice 'kubernets'; did you mean kubernetes?",
        ),
        (["launcher", "render", "--format", "systemd"], "invalid choice 'systemd'; did you mean quadlet?"),
        (["launcher", "render", "--format", "k8s"], "invalid choice 'k8s'; did you mean kubernetes?"),
        (["launcher", "symbols"], "error: EXCHANGE is missing; `launcher symbols --help` explains\n"),
        (["launcher", "explain"], "error: KEY is missing; `launcher explain --help` explains\n"),
        (["launcher", "up", "--wait-timeout", "-5s"], "--wait-timeout: '-5s' is not a time such as 20s, 5m"),
        (["launcher", "version", "foo"], "launcher version: error: unexpected argument foo"),
        (["collector", "helth"], "collector: error: unknown command helth; did you mean health?"),
        (
            ["collector", "check", "--conect"],
            "collector check: error: unknown option --conect; did you mean --connect?",
        ),
        (
            ["collector", "decode", "BINANCE", "--chanels", "trades"],
            "unknown option --chanels; did you mean --channels?",
        ),
        (
            ["collector", "decode", "KRAKEN", "a b.jsonl", "c.jsonl"],
            "error: takes one FILE; join several: `cat 'a b.jsonl' c.jsonl | collector decode KRAKEN`\n",
        ),
        (["collector", "decode"], "error: EXCHANGE is missing; `collector decode --help` explains\n"),
        (
            ["collector", "decode", "KRAKEN", "--receipt"],
            "error: --receipt needs a value; `collector decode -",
        ),
        (["collector", "check", "x\x1b"], r"error: unexpected argument x\x1b; `collector --help` explains"),
        (["collector", "db"], "error: ACTION is missing; `collector db --help` explains\n"),
        (["launcher", "logs", "-n"], "error: --tail needs a value; `launcher logs --help` explains\n"),
        (["launcher", "up", "--json=5"], "error: --json takes no value, and got '5'\n"),
        (["launcher", "up", "--no"], "error: --no may mean any of --no-color, --no-check; write it out\n"),
        (["launcher", "up", "--parallel", "0"], "error: --parallel: '0' is not a number from 1 to 9999\n"),
        (["launcher", "completion", "fish"], "error: SHELL: invalid choice 'fish'; choose from bash, zsh"),
        (["simulator", "extra"], "error: unexpected argument extra; `python -m collector.simulator --help`"),
        (["simulator", "--port", "x"], "error: --port: 'x' is not a whole number\n"),
        (["simulator", "--rate", "x"], "error: --rate: x is not a number of 0 or more\n"),
    ],
)
def test_a_wrong_command_line_says_what_would_be_right(arguments, said, capsys):
    program, *words = arguments
    with pytest.raises(SystemExit) as ended:
        {"launcher": cli, "collector": collector.cli, "simulator": simulator}[program].main(words)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("command", ["status", "logs", "restart", "down"])
@pytest.mark.parametrize("name", ["../x", "desk.yaml", "Desk", "-", "", "a" * 64])
def test_a_name_that_no_fleet_can_have_is_refused(command, name, capsys, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    with pytest.raises(SystemExit) as ended:
        cli.main([command, f"--fleet={name}"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"error: --fleet: {name!r} is no fleet's name: it takes up to 63 lower-case letters" in said
    assert said.endswith(f"; give a file without --fleet: {name}\n") == ("." in name)


def test_every_command_that_takes_a_fleets_name_checks_it():
    named = [name for name, command in commands().items() if "--fleet" in command.format_help()]
    assert named == ["status", "logs", "restart", "down"]


@pytest.mark.parametrize("off", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"--no-color": ""}, {"NO_COLOR": ""}])
def test_colours_are_for_terminals_and_can_be_turned_off(off, monkeypatch):
    monkeypatch.setattr(sys, "stdout", open_terminal := OnTerminal())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name, value in off.items():
        monkeypatch.setenv(name, value)
    table = Table("STATE")
    table.add("ready")
    Console(color="--no-color" not in off).table(table)
    drawn = open_terminal.getvalue()
    assert ("\x1b[32mready" in drawn) == (off == {"NO_COLOR": ""})  # empty is as good as unset
    assert "ready" in drawn
    # NO_COLOR is about colour alone: https://no-color.org
    assert ("\x1b[1mSTATE" in drawn) == ("TERM" not in off)
    assert ("\x1b" in drawn) == ("TERM" not in off)


class OnTerminal(io.StringIO):
    """A stand-in for standard output that says it is a terminal."""

    def isatty(self):
        return True


def commands():
    actions = cli.parser()._actions
    return next(each.choices for each in actions if isinstance(each, argparse._SubParsersAction))


@pytest.mark.parametrize("name", commands())
def test_every_command_speaks_json(name):
    options = {option for action in commands()[name]._actions for option in action.option_strings}
    # A completion is a script.
    assert ("--json" in options) == (name != "completion")


def test_short_commands_print_json(file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def said(*arguments):
        assert cli.main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert said("version") == {"version": VERSION, "revision": revision()}
    assert said("init", "new.yaml") == {"written": ["new.yaml", "fleet.schema.json"]}
    assert [row["backend"] for row in said("validate", str(file))]
    assert said("render", str(file), "--output", "out")["written"]
    explained = said("explain", "limits.memory", str(file))
    assert explained["key"] == "limits.memory"
    assert explained["values"]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["pl"], {"plan"}),
        (["plan", "--o"], {"--out", "--only"}),
        (["render", "--format", ""], {"compose", "swarm", "kubernetes", "quadlet"}),
    ],
)
def test_bash_completes(typed, offered, tmp_path, capsys):
    assert cli.main(["completion", "bash"]) == 0
    (tmp_path / "launcher").write_text(capsys.readouterr().out)
    words = " ".join(f"'{word}'" for word in ["launcher", *typed])
    script = f"""
        source {tmp_path}/launcher
        COMP_WORDS=({words}) COMP_CWORD={len(typed)}
        $(complete -p launcher | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert offered <= {line.strip() for line in done.stdout.splitlines()}, done


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_take_their_scripts(shell, tmp_path, capsys):
    assert cli.main(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    if not program(shell):
        raise Missing(shell, "not installed", f"apt-get install {shell}")
    assert subprocess.run([shell, "-n", str(script)], check=False).returncode == 0
