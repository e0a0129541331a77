"""Plans, drift, rolling updates and their failures on a real engine, with a stand-in for the collector."""

import contextlib
import json
import re

import pytest
from engines import STANDIN
from fleet_texts import ROOT
from fleets import docker
from recording_engine import recording
from waiting import wait_until

pytestmark = pytest.mark.docker

TWO = {"one": "BTC-USD", "two": "ETH-USD"}


def planned(fleet, capsys, *arguments):
    """The exit status of ``plan``, and its actions by collector."""
    capsys.readouterr()
    status = fleet.launch("plan", "--json", *arguments)
    document = json.loads(capsys.readouterr().out)
    return status, {action["collector"]: action for action in document["actions"]}


def kinds(actions):
    return {name: action["action"] for name, action in actions.items()}


def changes(action):
    return [(change["key"], change["old"], change["new"]) for change in action["changes"]]


def test_a_plan_shows_every_kind_of_action_and_changes_nothing(fleet, capsys, tmp_path, monkeypatch):
    store = {"backend": "REDIS", "host": "redis", "password": "before"}
    parts = {**TWO, "gone": "SOL-USD", "same": "ADA-USD", "halted": "DOT-USD"}
    fleet.write(parts, stores={"redis": store})
    assert fleet.launch("up") == 0
    docker("stop", "--time", "1", f"{fleet.name}-halted")
    before = fleet.identities()
    file = json.loads(fleet.path.read_text())
    one, two, _, same, halted = file["collectors"]
    one["symbols"] = ["BTC-USD", "ETH-USD"]
    two["limits"] = {"memory": "64MiB"}
    new = {**same, "name": "new"}
    fleet.path.write_text(json.dumps(file | {"collectors": [one, two, same, halted, new]}))

    with recording(tmp_path / "engine.sock") as requests, monkeypatch.context() as patched:
        patched.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine.sock")
        status, actions = planned(fleet, capsys)
        assert fleet.launch("up", "--dry-run") == 2
    assert len(requests) > 10
    assert {method for method, _ in requests} == {"GET"}
    assert fleet.identities() == before

    assert status == 2
    assert kinds(actions) == {
        "one": "recreate", "two": "update", "same": "unchanged", "halted": "start", "new": "create",
        "gone": "remove",
    }  # fmt: skip
    assert changes(actions["one"]) == [("SYMBOLS", "BTC-USD", "BTC-USD,ETH-USD")]
    assert changes(actions["two"]) == [("memory", "unlimited", "64 MiB")]
    text = capsys.readouterr().out
    assert "± one     recreate: SYMBOLS changed" in text
    assert "    SYMBOLS: BTC-USD -> BTC-USD,ETH-USD (needs a new container)" in text
    assert "    memory: unlimited -> 64 MiB (in place)" in text
    assert "1 to create, 1 to update, 1 to recreate, 1 to start, 1 to remove, 1 unchanged" in text

    assert fleet.launch("up", "--yes") == 0
    said = capsys.readouterr().out
    assert "1 created, 1 updated, 1 recreated, 1 started, 1 unchanged, 1 removed" in said
    assert fleet.identities()["two"] == before["two"]  # its limit changed while it ran
    assert fleet.containers()["two"]["HostConfig"]["Memory"] == 64 << 20
    assert planned(fleet, capsys)[0] == 0
    fleet.launch("status", "--json")
    rows = json.loads(capsys.readouterr().out)
    assert {row["config"] for row in rows} == {"current"}


def test_no_restart_is_advised_for_what_was_only_paused(fleet, capsys):
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 0
    name = f"{fleet.name}-one"
    docker("pause", name)
    docker("unpause", name)
    capsys.readouterr()
    assert fleet.launch("status") == 0
    said = capsys.readouterr().out
    assert re.search(r"^one +(unhealthy .*it was paused, and its health has|ready )", said, re.MULTILINE)
    assert "launcher restart" not in said


def test_why_a_container_is_unhealthy_is_told_by_up_and_by_status(fleet, capsys):
    fleet.write(TWO)
    assert fleet.launch("up") == 0
    name = f"{fleet.name}-one"

    def becomes(health):
        return wait_until(lambda: fleet.containers()["one"]["State"]["Health"]["Status"] == health)

    becomes("healthy")  # from then on a failed check counts
    # It says nothing of itself any more.
    docker("exec", name, "sh", "-c", f"kill -STOP -1; rm /spool/{name}/status.json")
    becomes("unhealthy")
    capsys.readouterr()
    assert fleet.launch("up", "--wait-timeout", "1s") == 1
    said = capsys.readouterr().err
    assert "one failed: unhealthy, and not ready after 1 s: no status\n" in said
    assert "its log say why; `launcher restart one` starts it again\n" in said
    assert fleet.launch("status", "--exit-code") == 1
    why = "no status; `launcher restart one` starts it again"
    assert re.search(rf"^one +unhealthy .*{why}$", capsys.readouterr().out, re.MULTILINE)
    docker("exec", name, "sh", "-c", "kill -CONT -1")  # else it is killed once its time to stop is over
    assert fleet.launch("restart", "one") == 0  # as it says
    assert fleet.launch("status", "--exit-code") == 0


def test_a_plan_of_a_new_fleet_creates_everything(fleet, capsys):
    fleet.write(TWO)
    status, actions = planned(fleet, capsys)
    assert (status, kinds(actions)) == (2, {"one": "create", "two": "create"})
    fleet.image = "cryptostore-not-built:test"
    fleet.write(TWO)
    assert fleet.launch("plan") == 1
    said = capsys.readouterr().out
    assert (
        "! the engine has no image cryptostore-not-built:test; build or pull it: `docker build . -t" in said
    )
    assert "+ one  create: does not exist yet" in said


def test_manual_changes_are_reported_and_undone(fleet, capsys):
    fleet.write({**TWO, "three": "SOL-USD"}, defaults={"limits": {"memory": "64MiB"}})
    assert fleet.launch("up") == 0
    before = fleet.identities()
    docker("update", "--memory", "128m", "--memory-swap", "128m", "--restart", "no", f"{fleet.name}-one")
    docker("rm", "--force", "--volumes", f"{fleet.name}-two")
    docker("network", "disconnect", fleet.name, f"{fleet.name}-three")
    status, actions = planned(fleet, capsys)
    assert status == 2
    assert kinds(actions) == {"one": "update", "two": "create", "three": "recreate"}
    assert changes(actions["one"]) == [("memory", "128 MiB", "64 MiB"), ("restart", "no", "unless-stopped")]
    assert actions["one"]["reason"] == "memory, restart changed by hand"
    assert changes(actions["three"]) == [("network", "none", fleet.name)]
    assert fleet.launch("up") == 0
    assert fleet.identities()["one"] == before["one"]
    assert planned(fleet, capsys)[0] == 0


def test_a_moved_image_tag_is_reported_with_old_and_new_id(fleet, tmp_path, capsys):
    fleet.image = f"{fleet.name}:latest"
    docker("tag", STANDIN, fleet.image)
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 0
    fleet.build(f"FROM {STANDIN}\nLABEL newer=yes\nENV NEWER=yes\n", tmp_path)
    try:
        status, actions = planned(fleet, capsys)
        assert (status, actions["one"]["reason"]) == (2, "its image has changed")
        ((key, old, new),) = changes(actions["one"])
        assert key == "image"
        assert old != new
    finally:
        fleet.remove()
        docker("rmi", fleet.image)


def test_an_image_built_on_the_collector_s_may_begin_with_something_else(fleet, tmp_path, capsys):
    fleet.image = f"{fleet.name}:wrapped"
    (tmp_path / "wait-for-vpn").write_text("exec python -m collector")
    title = re.search(r"LABEL (.*) \\", (ROOT / "Dockerfile").read_text())[1]
    wrapper = 'COPY wait-for-vpn /\nENTRYPOINT ["sh", "/wait-for-vpn"]\n'
    fleet.build(f"FROM {STANDIN}\nLABEL {title}\n{wrapper}", tmp_path)
    try:
        fleet.write({"one": "BTC-USD"})
        assert fleet.launch("plan") == 2
    finally:
        docker("rmi", fleet.image)


def test_a_changed_secret_is_reported_and_never_shown(fleet, capsys):
    secret = fleet.path.with_name("password")
    secret.write_text("canary-before")
    store = {"backend": "REDIS", "host": "redis", "password_file": "password"}
    fleet.write({"one": "BTC-USD"}, stores={"redis": store})
    assert fleet.launch("up") == 0
    before = fleet.identities()
    assert planned(fleet, capsys)[0] == 0
    secret.write_text("canary-after")
    status, actions = planned(fleet, capsys)
    assert (status, kinds(actions)) == (2, {"one": "recreate"})
    assert changes(actions["one"]) == [("secret password", "***", "***")]
    assert fleet.launch("up") == 0
    assert fleet.identities() != before
    name = f"{fleet.name}-one"
    assert docker("exec", name, "cat", "/run/secrets/password") == "canary-after"
    assert docker("exec", name, "stat", "-c", "%u %a", "/run/secrets/password") == "10001 400"
    assert len([each for each in fleet.things("volume") if "secrets" in each]) == 1  # the old one is gone
    assert planned(fleet, capsys)[0] == 0
    assert fleet.launch("down") == 0
    assert not [each for each in fleet.things("volume") if "secrets" in each]


@contextlib.contextmanager
def the_engine_gone_while_secrets_are_copied(monkeypatch):
    def gone(*_arguments, **_options):
        raise ConnectionError("the engine is gone")

    with monkeypatch.context() as patched:
        for step in ("put_archive", "remove_container", "remove_volume"):
            patched.setattr(f"docker.APIClient.{step}", gone)
        yield


@pytest.mark.parametrize("command", ["up", "doctor", "down"])
def test_secrets_that_could_not_be_copied_are_copied_by_the_next_up(fleet, monkeypatch, command):
    """The engine was gone before they were in their volume, so neither it nor what fills it was removed."""
    store = {"backend": "REDIS", "host": "redis", "password": "canary"}
    fleet.write({"one": "BTC-USD"}, stores={"redis": store})
    assert fleet.launch("up") == 0
    fleet.write(TWO, stores={"redis": store})

    with the_engine_gone_while_secrets_are_copied(monkeypatch):
        assert fleet.launch("up") == 1
    left = docker("ps", "--all", "--format", "{{.Names}}", "--filter", "status=created").split()
    assert f"{fleet.name}-two.secrets" in left
    assert fleet.launch(command) == 0
    left = docker("ps", "--all", "--format", "{{.Names}}", "--filter", "status=created").split()
    assert f"{fleet.name}-two.secrets" not in left
    assert fleet.launch("up") == 0
    assert docker("exec", f"{fleet.name}-two", "cat", "/run/secrets/password") == "canary"


def test_what_held_the_secrets_of_a_collector_that_is_gone_is_removed_without_a_question(
    fleet, monkeypatch, capsys
):
    store = {"redis": {"backend": "REDIS", "host": "redis", "password": "canary"}}
    fleet.write({"one": "BTC-USD"}, stores=store)
    assert fleet.launch("up") == 0
    (ours,) = (each for each in fleet.things("volume") if "secrets" in each)
    fleet.write({"one": "BTC-USD", "gone": "BTC-USD", "older": "BTC-USD"}, stores=store)
    with the_engine_gone_while_secrets_are_copied(monkeypatch):
        assert fleet.launch("up") == 1
    docker("rm", "--volumes", f"{fleet.name}-older.secrets")  # of that one the volume alone is left
    assert len([each for each in fleet.things("volume") if "secrets" in each]) == 3
    fleet.write({"one": "BTC-USD"}, stores=store)
    capsys.readouterr()
    assert fleet.launch("up") == 0
    said = capsys.readouterr().err
    assert f"gone: removed ({fleet.name}-gone.secrets, left over from an interrupted command)" in said
    assert f"volume {ours.replace('one', 'older')} removed: an interrupted command left it" in said
    assert [*fleet.containers()] == ["one"]
    assert [each for each in fleet.things("volume") if "secrets" in each] == [ours]
    assert fleet.launch("plan") == 0


def test_a_saved_plan_is_carried_out_only_while_nothing_has_changed(fleet, capsys, tmp_path):
    saved = str(tmp_path / "plan.json")
    fleet.write(TWO)
    assert fleet.launch("plan", "--out", saved) == 2
    fleet.write({**TWO, "two": "SOL-USD"})
    assert fleet.launch("up", "--plan", saved) == 1
    assert "nothing was touched: the fleet has changed since" in capsys.readouterr().err
    assert not fleet.containers()
    fleet.write(TWO)
    assert fleet.launch("up", "--plan", saved) == 0
    capsys.readouterr()
    assert fleet.launch("up", "--plan", saved) == 1
    assert "one: planned was create (does not exist yet), now it is unchanged" in capsys.readouterr().err
    (tmp_path / "plan.json").write_text("[]")
    assert fleet.launch("up", "--plan", saved) == 2
    assert "is not a plan written by `launcher plan --out`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            '{"version": 1, "fleet": FLEET, "actions": [{"collector": "x", "config_hash": "y"}]}',
            "is not a plan written by",
        ),
        ("[" * 100_000, "is nested too deeply"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_an_invalid_plan_is_refused(content, says, fleet, capsys, tmp_path):
    fleet.write({"one": "BTC-USD"})
    saved = tmp_path / "plan.json"
    if content:
        saved.write_text(content.replace("FLEET", f'"{fleet.name}"'))
    assert fleet.launch("up", "--plan", str(saved)) == 2
    assert f"{saved}: {says}" in capsys.readouterr().err


@pytest.mark.parametrize("another", [True, False])
def test_a_network_that_somebody_removed_while_all_was_stopped(fleet, another, capsys):
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 0
    docker("stop", "--time", "1", f"{fleet.name}-one")
    assert kinds(planned(fleet, capsys)[1]) == {"one": "start"}
    docker("network", "rm", fleet.name)
    if another:  # of the same name: the container does not come back to it
        label = "--label=cryptostore.fleet="
        docker(
            "network", "create", f"{label}{fleet.name}", "--label=cryptostore.managed-by=launcher", fleet.name
        )
    status, actions = planned(fleet, capsys)
    assert (status, kinds(actions)) == (2, {"one": "recreate"})
    assert changes(actions["one"]) == [("network", "none", fleet.name)]
    assert fleet.launch("up") == 0
    assert fleet.containers()["one"]["State"]["Running"]
    assert planned(fleet, capsys)[0] == 0


def test_an_update_whose_check_fails_touches_nothing(fleet, capsys):
    fleet.write(TWO)
    assert fleet.launch("up") == 0
    before = fleet.identities()
    fleet.write({"one": "WRONG-SETTINGS", "two": "SOL-USD"})
    capsys.readouterr()
    assert fleet.launch("up", "--parallelism", "1") == 1
    said = capsys.readouterr()
    assert "the old container was left as it is\n  the fault is shown below; --no-check" in said.err
    assert "| SYMBOLS = 'WRONG-SETTINGS': no such symbol" in said.err
    assert "left as it was, because the update of one failed" in said.out
    assert "1 failed, 1 left as they were" in said.out
    assert fleet.identities() == before
    assert names(fleet) == [f"{fleet.name}-one", f"{fleet.name}-two"]


def write_shards(fleet, shards, symbol):
    fleet.write({"all": symbol})
    file = json.loads(fleet.path.read_text())
    file["collectors"][0]["shards"] = shards
    fleet.path.write_text(json.dumps(file))


def test_a_new_shard_waits_until_the_others_have_released_its_symbols(fleet, capsys):
    write_shards(fleet, 2, "BTC-USD")
    assert fleet.launch("up") == 0
    write_shards(fleet, 3, "WRONG-SETTINGS")
    capsys.readouterr()
    assert fleet.launch("up") == 1
    assert "not created, because the update of all-" in capsys.readouterr().out
    assert fleet.containers().keys() == {"all-1", "all-2"}
    write_shards(fleet, 3, "BTC-USD")
    assert fleet.launch("up") == 0
    third, *others = (fleet.containers()[f"all-{number}"]["State"]["StartedAt"] for number in (3, 1, 2))
    assert third > max(others)


def test_a_shard_is_removed_only_if_those_taking_its_symbols_can_start(fleet, capsys):
    write_shards(fleet, 3, "BTC-USD")
    assert fleet.launch("up") == 0
    before = fleet.identities()
    write_shards(fleet, 2, "WRONG-SETTINGS")
    capsys.readouterr()
    assert fleet.launch("up", "--yes") == 1
    said = capsys.readouterr()
    assert "2 failed, 1 left as they were" in said.out
    assert "removing" not in said.err
    assert fleet.identities() == before
    write_shards(fleet, 2, "ENDS-EARLY")  # though its check says that all is well
    assert fleet.launch("up", "--yes", "--parallelism", "1") == 1
    assert "until all-1 is updated, some of its symbols are recorded by nobody" in capsys.readouterr().out
    write_shards(fleet, 3, "BTC-USD")
    assert fleet.launch("up") == 0
    capsys.readouterr()
    write_shards(fleet, 2, "BTC-USD")
    assert fleet.launch("up", "--yes", "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    order = [(event.get("collector"), event.get("state")) for event in events]
    gone = order.index(("all-3", "removed"))
    for heir in ("all-1", "all-2"):
        assert order.index((heir, "checking")) < gone < order.index((heir, "recreating"))
        assert order.count((heir, "checking")) == 1
    assert fleet.containers().keys() == {"all-1", "all-2"}


def write_sharing(fleet, first, second, part):
    """Writes two collectors of which each leaves out what the other one stores."""
    parts = {"first": part, "second": part}
    fleet.write(parts, stores={"files": {"backend": "PARQUET"}})
    file = json.loads(fleet.path.read_text())
    for collector, symbol in zip(file["collectors"], (first, second), strict=True):
        collector["symbols"].append(symbol)
    fleet.path.write_text(json.dumps(file))


@pytest.mark.parametrize(
    ("part", "again"), [("SHARES-STORE", False), ("SHARES-OR-ENDS", True), ("SHARES-BY-THEN", True)]
)
def test_collectors_that_exchange_symbols_are_updated_one_after_the_other(fleet, capsys, part, again):
    """The first leaves out what the second has still, and is waited for again once that has let go of it.

    It is started again if it stores nothing until then.
    """
    write_sharing(fleet, "BTC-USD", "ETH-USD", part)
    assert fleet.launch("up") == 0
    write_sharing(fleet, "ETH-USD", "BTC-USD", part)
    capsys.readouterr()
    assert fleet.launch("up", "--parallelism", "1", "--no-check", "--wait-timeout", "30", "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    order = [(event.get("collector"), event.get("state")) for event in events]
    second = order.index(("second", "recreating"))
    assert order.index(("first", "recreating")) < second < order.index(("first", "ready"))
    assert fleet.launch("logs", "--only", "first") == 0
    assert (capsys.readouterr().out.count("standin: starting") > 1) == again


def test_a_late_failure_of_an_update_brings_the_old_container_back(fleet, capsys):
    fleet.write(TWO)
    assert fleet.launch("up") == 0
    before = fleet.containers()
    fleet.write({"one": "ENDS-EARLY", "two": "SOL-USD"})
    capsys.readouterr()
    assert fleet.launch("up", "--parallelism", "1") == 1
    said = capsys.readouterr()
    assert "the old container is back" in said.err
    assert "feed died" in said.err
    after = fleet.containers()
    assert after["one"]["Id"] == before["one"]["Id"]
    assert after["one"]["State"]["Running"]
    assert after["two"]["State"]["StartedAt"] == before["two"]["State"]["StartedAt"]
    assert names(fleet) == [f"{fleet.name}-one", f"{fleet.name}-two"]


def test_an_update_that_was_killed_in_the_middle_is_finished_by_the_next(fleet):
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 0
    docker("stop", "--time", "1", f"{fleet.name}-one")
    docker("rename", f"{fleet.name}-one", f"{fleet.name}-one.previous")
    assert fleet.launch("up") == 0
    assert names(fleet) == [f"{fleet.name}-one"]
    assert fleet.launch("plan") == 0


def test_the_key_of_the_seals_is_found_wherever_it_is_stored(fleet, capsys):
    store = {"backend": "REDIS", "host": "redis", "password": "canary"}
    fleet.write(TWO, stores={"redis": store})
    assert fleet.launch("up") == 0
    (volume,) = [each for each in fleet.things("volume") if each.startswith(f"{fleet.name}-one-secrets")]
    docker("rm", "--force", "--volumes", f"{fleet.name}-one")
    docker("volume", "rm", volume)
    assert kinds(planned(fleet, capsys)[1]) == {"one": "create", "two": "unchanged"}
    assert fleet.launch("up") == 0
    assert planned(fleet, capsys)[0] == 0


def test_an_update_reports_how_long_nothing_was_received(fleet, capsys):
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 0
    fleet.write({"one": "SOL-USD"})
    capsys.readouterr()
    assert fleet.launch("up") == 0
    said = capsys.readouterr()
    assert " s unseen" in said.out
    assert "UNSEEN" in said.out
    assert said.err.count("one: ready") == 1
    assert "one: checking" in said.err
    fleet.write({"one": "ADA-USD"})
    assert fleet.launch("up", "--no-check") == 0
    assert "one: checking" not in capsys.readouterr().err
    assert names(fleet) == [f"{fleet.name}-one"]


def test_an_update_waits_a_while_to_learn_how_long_nothing_was_received(fleet, capsys):
    fleet.write({"later": "BTC-USD", "never": "BTC-USD"})
    assert fleet.launch("up") == 0
    fleet.write({"later": "UNSEEN-LATER", "never": "UNSEEN-NEVER"})
    capsys.readouterr()
    assert fleet.launch("up", "--json", "--no-check", "--parallelism", "2") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ended = {event["collector"]: event for event in events if "collector" in event}
    assert (ended["later"]["unseen"], ended["later"]["detail"].partition("; ")[2]) == (0.4, "0.4 s unseen")
    assert ended["never"]["unseen"] > 3
    assert ended["never"]["detail"].endswith(f"; at most {ended['never']['unseen']:.1f} s unseen")


def names(fleet):
    listed = docker("ps", "-a", "--format", "{{.Names}}", "--filter", f"name={fleet.name}")
    return sorted(listed.split())


def test_a_selection_leaves_everything_else_alone_and_events_are_lines_of_json(fleet, capsys):
    def said(*arguments):
        capsys.readouterr()
        assert fleet.launch(*arguments, "--json") == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    fleet.write(TWO | {"three": "SOL-USD"})
    *events, counts = said("up")
    assert {(event["collector"], event["state"]) for event in events} >= {
        (name, state) for name in ("one", "two", "three") for state in ("creating", "ready")
    }
    assert (counts["fleet"], counts["created"], counts["failed"]) == (fleet.name, 3, 0)
    before = fleet.identities()
    fleet.write({"one": "ADA-USD", "two": "ADA-USD"})  # and not three any more
    status, actions = planned(fleet, capsys, "--only", "one")
    assert (status, kinds(actions)) == (2, {"one": "recreate"})
    *_, counts = said("up", "--only", "one")
    assert (counts["recreated"], counts["removed"]) == (1, 0)
    after = fleet.identities()
    assert after["one"] != before["one"]
    assert (after["two"], after["three"]) == (before["two"], before["three"])
    assert {line["collector"] for line in said("logs", "--only", "t*", "--tail", "1")} == {"two", "three"}
    *_, counts = said("restart", "--only", "two")
    assert (counts["restarted"], counts["failed"]) == (1, 0)
    *_, gone = said("down", "--only", "!two")
    assert (gone["removed"], gone["network"]) == (2, None)
    assert set(fleet.containers()) == {"two"}
