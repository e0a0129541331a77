import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from launcher import cli, plan
from launcher.engines import Observed
from launcher.names import LAUNCHER
from launcher.plan import Kind
from launcher.selection import NothingSelectedError, matches, narrowed
from launcher.spec import CollectorSpec, Container, FleetSpec, Network

NAMES = ("binance-spot", "binance-perps", "kraken", "lab")


def spec(name, *profiles):
    container = Container(name=f"desk-{name}", image="image:1", network="desk", environment={}, mounts=())
    return CollectorSpec(fleet="desk", name=name, container=container, profiles=profiles)


FLEET = FleetSpec(
    name="desk",
    network=Network(name="desk"),
    collectors=(*(spec(name) for name in NAMES[:3]), spec("lab", "trial", "night")),
)


def selected(*only, profiles=()):
    return [each.name for each in narrowed(FLEET, only, profiles).collectors]


@pytest.mark.parametrize(
    ("only", "profiles", "names"),
    [
        ([], [], "binance-spot binance-perps kraken"),
        ([], ["trial"], "binance-spot binance-perps kraken lab"),
        (["binance*"], [], "binance-spot binance-perps"),
        (["binance*", "!*-perps"], [], "binance-spot"),
        (["!binance*"], ["night"], "kraken lab"),
        (["lab"], [], "lab"),  # who writes out its name wants it
        (["kraken", "l*"], [], "kraken"),
    ],
)
def test_what_is_selected(only, profiles, names):
    assert selected(*only, profiles=profiles) == names.split()


@pytest.mark.parametrize(
    ("only", "profiles", "said"),
    [
        (["krakn"], [], "no collector krakn; did you mean kraken?"),
        (["zzz*"], [], "no collector zzz*; fleet desk has binance-perps, binance-spot, kraken, lab"),
        (["!zzz"], [], "no collector zzz; fleet desk has"),
        (["l*"], [], "nothing of fleet desk is selected"),
        ([], ["nightly"], "no profile nightly; fleet desk has night, trial"),
    ],
)
def test_nothing_is_selected(only, profiles, said):
    with pytest.raises(NothingSelectedError, match=said.replace("*", r"\*").replace("?", r"\?")):
        selected(*only, profiles=profiles)


@pytest.mark.parametrize(
    ("pattern", "what"),
    [("redis", "redis is a managed store"), ("!red*", "redis is a managed store"),
     ("simulator", "simulator is the simulator")],
)  # fmt: skip
def test_servers_are_not_selected_and_start_whatever_is(pattern, what):
    fleet = structs.replace(FLEET, stores=(spec("redis"),), simulator=spec("simulator"))
    with pytest.raises(NothingSelectedError) as found:
        narrowed(fleet, [pattern], ())
    assert str(found.value) == (
        f"{what}: `up` starts it whichever collectors are selected;"
        " fleet desk has the collectors binance-perps, binance-spot, kraken, lab"
    )
    chosen = narrowed(fleet, ["*k*"], ())
    assert [each.name for each in plan.specs(chosen)] == ["simulator", "redis", "kraken"]


@given(st.lists(st.sampled_from(["binance*", "kraken", "l?b", "*", "!kraken", "!*-perps", "!*"])))
def test_a_pattern_and_its_opposite_share_nothing(patterns):
    wanted = {name for name in NAMES if matches(name, patterns)}
    assert not wanted & {
        name for name in NAMES if any(matches(name, [p[1:]]) for p in patterns if p[0] == "!")
    }


def test_unselected_collectors_are_never_removed():
    there = [running("kraken"), running("lab"), running("orphan"), running("binance-old")]
    kinds = {
        action.collector: action.kind
        for action in plan.make(narrowed(FLEET, ["binance*"], []), there, {}).actions
    }
    assert kinds == {"binance-spot": Kind.CREATE, "binance-perps": Kind.CREATE, "binance-old": Kind.REMOVE}
    kinds = {
        action.collector: action.kind for action in plan.make(narrowed(FLEET, [], []), there, {}).actions
    }
    assert "lab" not in kinds  # its profile is not active
    assert kinds["orphan"] is Kind.REMOVE


def running(name):
    return Observed(
        id=name, name=f"desk-{name}", fleet="desk", collector=name, config_hash="", manager=LAUNCHER,
        image="image:1", state="running", health="healthy", created=0,
    )  # fmt: skip


def test_profiles_of_a_file(tmp_path, capsys):
    collector = {"exchange": "KRAKEN", "symbols": "BTC-USD", "channels": "trades"}
    file = {
        "fleet": "desk",
        "stores": {"redis": {"backend": "REDIS", "host": "redis"}},
        "collectors": [collector, {**collector, "name": "lab", "profiles": ["trial", "night"]}],
    }
    path = tmp_path / "fleet.yaml"
    path.write_text(json.dumps(file))

    def validated(*arguments):
        assert cli.main(["validate", str(path), "--json", *arguments]) == 0
        return [row["collector"] for row in json.loads(capsys.readouterr().out)]

    assert validated() == ["kraken"]
    assert validated("--profile", "night") == ["kraken", "lab"]
    assert validated("--only", "lab") == ["lab"]
    file["collectors"][1]["profiles"] = ["Trial", "x y"]
    path.write_text(json.dumps(file))
    assert cli.main(["validate", str(path)]) == 2
    assert "profiles" in capsys.readouterr().err
