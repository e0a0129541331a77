"""Whose a fleet is, without an engine: what is ours, what is another's, and what is refused."""

import itertools
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher import names, ownership, plan
from launcher.engines import EngineError, Labelled, Observed
from launcher.engines.containers import owner_changes
from launcher.names import COMPOSE, LAUNCHER
from launcher.owner import NOBODY, Claim, Owner, new_id, of_file
from launcher.ownership import Purpose
from launcher.plan import Kind
from launcher.spec import CollectorSpec, Container, FleetSpec, Mount, Network

OURS = Owner(id="of-this-fleet", folder="/srv/desk", file="fleet.yaml", user="ann", host="one")
COLLEAGUES = Owner(id="of-this-fleet", folder="/home/bob/desk", file="desk.yaml", user="bob", host="two")
FOREIGN = Owner(id="of-another-one", folder="/home/eve", file="fleet.yaml", user="eve", host="three")
WITHOUT_ID = msgspec.structs.replace(OURS, id="")
ELSEWHERE = msgspec.structs.replace(WITHOUT_ID, folder="/srv/copy")
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)


def spec(name, owner=OURS, fleet="desk"):
    volume = names.Volume(fleet=fleet, role=names.SPOOL, of=name).name(distinct=bool(owner.id))
    container = Container(
        name=names.container(fleet, name),
        image="image:1",
        network=fleet,
        environment={},
        mounts=(Mount(kind="volume", source=volume, target="/spool"),),
    )
    return CollectorSpec(fleet=fleet, name=name, container=container, owner=owner)


def fleet(*collectors, owner=OURS):
    return FleetSpec(
        name="desk",
        owner=owner,
        network=Network(name="desk"),
        collectors=tuple(spec(name, owner) for name in collectors),
    )


def container(collector, owner=None, **changes):
    """The container that ``owner`` made; without one, as the first version of the launcher made it."""
    name = names.container("desk", collector)
    labels = owner.labels(*ownership.seal_of_container("desk", name)) if owner else {}
    made = {
        "id": f"id-{collector}", "name": name, "fleet": "desk", "collector": collector, "config_hash": "",
        "manager": LAUNCHER, "image": "image:1", "state": "running", "health": "healthy",
        "created": 1_767_225_600, "labels": labels,
    }  # fmt: skip
    return Observed(**made | changes)


def held(fleet, *there, adopt=False):
    return ownership.of_fleet(fleet, there, adopt=adopt)


@pytest.mark.parametrize(
    ("made_by", "here"),
    [
        (OURS, OURS),
        (OURS, COLLEAGUES),  # another person, on another machine, with another checkout
        (COLLEAGUES, OURS),
        (WITHOUT_ID, WITHOUT_ID),
        (msgspec.structs.replace(WITHOUT_ID, user="bob", host="two", file="desk.yaml"), WITHOUT_ID),
        (WITHOUT_ID, OURS),  # the file has got its id since
        (None, OURS),  # the first version said nothing
        (None, WITHOUT_ID),
    ],
)
def test_an_owned_fleet_is_managed_as_before(made_by, here):
    there = [container("one", made_by), container("two", made_by)]
    found = held(fleet("one", "two", "three", owner=here), *there)
    assert (found.ours, found.left_alone, found.proven) == (tuple(there), (), True)


@pytest.mark.parametrize(
    ("made_by", "here", "who"),
    [
        (FOREIGN, OURS, r"eve@three \(/home/eve/fleet.yaml\)"),
        (OURS, FOREIGN, r"ann@one \(/srv/desk/fleet.yaml\)"),
        (OURS, WITHOUT_ID, r"ann@one \(/srv/desk/fleet.yaml\)"),
        (WITHOUT_ID, ELSEWHERE, r"ann@one \(/srv/desk/fleet.yaml\)"),
    ],
)
def test_a_fleet_of_another_owner_is_refused_with_its_owner_and_age(made_by, here, who):
    there = [container("one", made_by), container("two", made_by)]
    with pytest.raises(EngineError, match=rf"nothing was touched: .*one, two by {who}, since 2026-01-01"):
        held(fleet("one", "two", owner=here), *there)
    taken = held(fleet("one", "two", owner=here), *there, adopt=True)
    assert (taken.ours, taken.proven) == (tuple(there), False)


@pytest.mark.parametrize(
    ("states", "where"),
    [
        (("running", "exited"), "runs here"),
        (("restarting", "exited"), "runs here"),
        (("paused", "exited"), "runs here"),
        (("created", "exited"), "is here, stopped"),
    ],
)
def test_another_fleet_that_is_stopped_is_not_said_to_run(states, where):
    there = [
        msgspec.structs.replace(container(name, FOREIGN), state=state)
        for name, state in zip(("one", "two"), states, strict=True)
    ]
    with pytest.raises(EngineError, match=rf"another fleet named desk {where}: one, two by eve@three"):
        held(fleet("one", "two"), *there)


@pytest.mark.parametrize(
    ("purpose", "advice"),
    [
        (
            Purpose.MAKE,
            "give this fleet another name (`fleet:` in fleet.yaml), take the other one over with"
            " `up --adopt`",
        ),
        (Purpose.RESTART, "use the file that it was made from, restart it anyway with --adopt"),
        (Purpose.REMOVE, "use the file that it was made from, remove it anyway with --adopt"),
        (Purpose.READ, "use the file that it was made from"),
    ],
)
def test_the_advice_fits_the_command(purpose, advice):
    with pytest.raises(EngineError, match=rf"; {re.escape(advice)}, or, if both are the same fleet, give"):
        ownership.of_fleet(fleet("one"), [container("one", FOREIGN)], purpose=purpose)
    with pytest.raises(EngineError, match=rf"; {re.escape(advice)}$"):
        ownership.of_fleet(fleet("one"), [container("strange")], purpose=purpose)


def test_unsigned_containers_are_refused_unless_the_file_has_all_of_them():
    there = [container("one"), container("other")]
    with pytest.raises(EngineError, match=r"this file does not have other, .*--adopt"):
        held(fleet("one"), *there)
    assert held(fleet("one"), *there, adopt=True).ours == tuple(there)


def test_collectors_that_are_not_selected_are_those_of_the_file_too():
    narrowed = msgspec.structs.replace(fleet("one"), left_out=frozenset(["two"]))
    assert held(narrowed, container("one"), container("two"), container("simulator")).left_alone == ()


@pytest.mark.parametrize(
    ("stranger", "why"),
    [
        (container("two"), "has the labels of fleet desk, but not its seal"),
        (container("one", name="evil", id="evil"), "has the labels of fleet desk, but not its seal"),
        (container("two", FOREIGN), "belongs to another fleet desk, by eve@three"),
        # The labels of a container of ours, on another container.
        (container("two", labels=container("one", OURS).labels), "its seal is not valid"),
        (container("one", OURS, labels={names.LABEL_SEAL: "0" * 16}), "its seal is not valid"),
        (container("two", labels={names.LABEL_OWNER: OURS.mark}), "its seal is not valid"),
    ],
)
def test_containers_with_forged_labels_are_neither_changed_nor_removed(stranger, why):
    stranger = msgspec.structs.replace(stranger, id="stranger")
    fine = container("three", OURS)
    found = held(fleet("one", "three"), fine, stranger)
    assert found.ours == (fine,)
    ((left, reason),) = found.left_alone
    assert left is stranger
    assert why in reason
    planned = plan.make(fleet("one", "three"), found.ours, {}, left_alone=found.left_alone)
    assert not planned.of(Kind.REMOVE)
    in_the_way = planned.of(Kind.CONFLICT)
    assert [action.collector for action in in_the_way] == (["one"] if stranger.name == "desk-one" else [])


def test_leftovers_of_an_interrupted_update_are_ours():
    left_over = container("one", name="desk-one.previous", id="old")
    found = held(fleet("one"), container("one", OURS), left_over)
    planned = plan.make(fleet("one"), found.ours, {}, left_alone=found.left_alone)
    assert [action.container.id for action in planned.of(Kind.REMOVE)] == ["old"]
    assert not planned.removals


def test_a_fleet_known_only_by_name_is_managed_but_not_proven():
    there = (container("one", FOREIGN),)
    found = ownership.hold("desk", NOBODY, there, ())
    assert (found.ours, found.proven) == (there, False)


def test_containers_made_by_compose_are_not_refused():
    composed = container("one", FOREIGN, manager=COMPOSE)
    assert held(fleet("one"), composed).ours == (composed,)


def test_only_collectors_removed_for_good_are_removals():
    there = [container("gone", OURS), container("simulator", OURS), container("one", OURS)]
    left_over = container("one", OURS, name="desk-one.next", id="next")
    planned = plan.make(fleet("one"), [*there, left_over], {})
    assert len(planned.of(Kind.REMOVE)) == 3
    assert [action.collector for action in planned.removals] == ["gone"]
    assert not plan.make(fleet("one"), there, {}, keep_orphans=True).removals


def volume(name, owner=None, fleet="desk", **labels):
    signed = owner.labels(*ownership.seal_of("volume", fleet, name)) if owner else {}
    return Labelled(name=name, labels={names.LABEL_FLEET: fleet} | signed | labels)


def settle(fleet, *there, ours=(), adopt=False):
    settled, faults = ownership.settle_volumes(fleet, there, ours, adopt=adopt)
    return [each.container.mounts[0].source for each in settled.collectors], faults


def test_volumes_that_a_compose_file_would_take_from_others_are_found():
    there = [
        Labelled(name="desk_one_spool", labels={}),
        volume("desk_two_spool", FOREIGN),
        volume("desk_three_spool", fleet="shop"),
        volume("desk_four_spool", COLLEAGUES),
        volume("desk-one-spool"),  # no container of this fleet would mount it
        Labelled(name="desk_five_spool", labels={"com.docker.compose.project": "desk"}),
    ]
    assert ownership.others_volumes(fleet("one", "two", "three", "four", "five"), there) == {
        "desk_one_spool": "already exists, and its labels name no fleet",
        "desk_three_spool": "belongs to fleet shop",
        "desk_two_spool": "belongs to another fleet named desk, made by eve@three (/home/eve/fleet.yaml)",
    }


@pytest.mark.parametrize(
    ("there", "used"),
    [
        ([], "desk_one_spool"),
        ([volume("desk_one_spool", OURS)], "desk_one_spool"),
        ([volume("desk_one_spool", COLLEAGUES)], "desk_one_spool"),
        ([volume("desk-one-spool")], "desk-one-spool"),  # as the first version made it
        ([volume("desk-one-spool", WITHOUT_ID)], "desk-one-spool"),
        # Of a fleet of the first version that compose ran.
        (
            [Labelled(name="desk-one-spool", labels={"com.docker.compose.project": "desk"})],
            "desk-one-spool",
        ),
        ([volume("desk-one-spool"), volume("desk_one_spool", OURS)], "desk_one_spool"),
        # An old name that is another's is not ours to use, and no fault: the new name is free.
        ([volume("desk-one-spool", fleet="desk-one")], "desk_one_spool"),
        ([Labelled(name="desk-one-spool")], "desk_one_spool"),
        ([volume("desk-one-spool", FOREIGN), volume("desk_one_spool", OURS)], "desk_one_spool"),
    ],
)
def test_a_volume_stays_in_use_under_its_old_name(there, used):
    assert settle(fleet("one"), *there) == ([used], ())


@pytest.mark.parametrize(
    ("there", "why"),
    [
        (Labelled(name="desk_one_spool"), "its labels name no fleet"),
        (volume("desk_one_spool", fleet="other"), "belongs to fleet other; give this fleet"),
        (volume("desk_one_spool", FOREIGN), "belongs to another fleet named desk, made by eve@three"),
        (volume("desk_one_spool", OURS, **{names.LABEL_COLLECTOR: "two"}), "belongs to collector two"),
        (volume("desk_one_spool", **{names.LABEL_OWNER: OURS.mark}), "its seal is not valid"),
        (
            msgspec.structs.replace(volume("desk_two_spool", OURS), name="desk_one_spool"),
            "its seal is not valid",
        ),
    ],
)
def test_a_volume_of_another_is_refused_unless_it_is_adopted(there, why):
    used, (fault,) = settle(fleet("one"), there)
    assert why in str(fault)
    assert used == ["desk_one_spool"]
    adopted = settle(fleet("one"), there, adopt=True)
    # Not where another fleet, by its name, has it: that one would lose its records.
    assert bool(adopted[1]) == (there.labels.get(names.LABEL_FLEET) == "other")
    mounting = container("one", OURS, volumes=("desk_one_spool",))
    assert settle(fleet("one"), there, ours=[mounting])[1] == ()


def test_without_an_id_the_old_names_stay_and_another_fleets_volume_is_refused():
    """Fleet `a` with `b-c` and fleet `a-b` with `c` would share a spool."""
    without = FleetSpec(
        name="a-b",
        owner=WITHOUT_ID,
        network=Network(name="a-b"),
        collectors=(spec("c", WITHOUT_ID, fleet="a-b"),),
    )
    assert settle(without)[0] == ["a-b-c-spool"]
    _, (fault,) = settle(without, volume("a-b-c-spool", fleet="a"))
    assert "volume a-b-c-spool belongs to fleet a; give this fleet" in str(fault)


def test_a_file_without_an_id_that_takes_over_a_fleet_keeps_its_spools():
    without = fleet("one", owner=WITHOUT_ID)
    theirs, own = volume("desk_one_spool", FOREIGN), volume("desk-one-spool", WITHOUT_ID)
    mounting = [container("one", FOREIGN, volumes=("desk_one_spool",))]
    assert settle(without, theirs, adopt=True) == (["desk_one_spool"], ())
    assert settle(without, theirs, ours=mounting, adopt=True) == (["desk_one_spool"], ())
    assert settle(without, theirs, own, ours=mounting) == (["desk_one_spool"], ())
    assert settle(without, theirs, own, adopt=True) == (["desk-one-spool"], ())
    assert {"desk_one_spool", "desk-one-spool"} <= ownership.volume_names(without)


@pytest.mark.parametrize(
    ("owner", "left", "new"),
    [(WITHOUT_ID, "desk_one_spool", "desk-one-spool"), (OURS, "desk-one-spool", "desk_one_spool")],
)
def test_a_fleet_that_was_taken_over_does_not_begin_with_empty_volumes_after_a_down(owner, left, new):
    """Its volumes keep the labels of whoever made them, and no container that has them is left."""
    theirs = volume(left, FOREIGN)
    _, (fault,) = settle(fleet("one", owner=owner), theirs)
    assert f"volume {left} belongs to another fleet named desk, made by eve@three" in fault.detail
    assert "use the volume as it is with `up --adopt`" in fault.remedy
    assert settle(fleet("one", owner=owner), theirs, adopt=True) == ([left], ())
    assert settle(fleet("one", owner=owner), theirs, volume(new, owner)) == ([new], ())


@given(NAMES, NAMES, NAMES, NAMES)
def test_no_two_fleets_with_ids_have_a_volume_in_common(fleet, collector, other_fleet, other_collector):
    def all_names(fleet, collector):
        roles = (names.SPOOL, "redis-data", "redis-password", "secrets-0123456789abcdef", "spool.check")
        volumes = [names.Volume(fleet=fleet, role=role, of=collector) for role in roles]
        volumes += [names.Volume(fleet=fleet, role=role) for role in (names.DATA, names.SIMULATOR)]
        return {each.name(distinct=True) for each in volumes}, volumes

    ours, volumes = all_names(fleet, collector)
    theirs, _ = all_names(other_fleet, other_collector)
    if fleet != other_fleet:
        assert not ours & theirs
    for each, distinct in itertools.product(volumes, (True, False)):
        read = names.parse(fleet, each.name(distinct=distinct))
        assert read is not None
        assert read.name(distinct=distinct) == each.name(distinct=distinct)
    assert [names.parse(fleet, each.name(distinct=True)) for each in volumes] == volumes


SEAL = "0123456789abcdef"


@pytest.mark.parametrize(
    ("there", "unused"),
    [
        (volume(f"desk_gone_secrets-{SEAL}", OURS), True),
        (volume(f"desk-gone-secrets-{SEAL}"), True),
        (volume(f"desk_gone_secrets-{SEAL}", FOREIGN), False),
        (volume("desk_gone_spool", OURS), False),
        (volume("desk_db_redis-password", OURS), False),
        (volume("desk_db_redis-data", OURS), False),
        (volume(f"desk_one_secrets-{SEAL}", OURS), False),  # it is mounted
        (volume("important", OURS), False),
    ],
)
def test_secrets_that_no_container_mounts_are_unused(there, unused):
    observed = [container("one", OURS, volumes=(f"desk_one_secrets-{SEAL}", "desk_one_spool"))]
    assert ownership.unused_secrets(fleet("one"), [there], observed) == ((there.name,) if unused else ())


@pytest.mark.parametrize(
    ("there", "may"),
    [
        (volume("desk_one_spool", OURS), True),
        (volume("desk-one-spool"), True),
        (volume("important", OURS), False),
        (volume("important"), False),
        (volume("desk_one_spool", FOREIGN), False),
        (msgspec.structs.replace(volume("desk_one_spool", OURS), name="desk_two_spool"), False),
    ],
)
def test_only_a_volume_with_a_name_and_a_seal_of_the_fleet_is_removed(there, may):
    assert ownership.is_removable(there, "desk", OURS) is may


def test_a_network_with_a_forged_seal_is_not_removed():
    good = OURS.labels(*ownership.seal_of("network", "desk", "desk"))
    assert ownership.is_removable_network(Labelled(name="desk", labels=good), "desk", OURS)
    assert not ownership.is_removable_network(Labelled(name="market", labels=good), "desk", OURS)


def test_labels_do_not_reveal_the_id():
    labels = OURS.labels("container", "desk", "desk-one")
    assert not any(OURS.id in value for value in labels.values())
    assert OURS.claim(labels, "container", "desk", "desk-one") is Claim.OURS


def test_ids_are_unique_and_alphanumeric():
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(each.isalnum() and each[0].isalpha() for each in ids)


def test_a_fleet_from_a_pipe_belongs_to_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert of_file(tmp_path / "no-file", "").folder == str(tmp_path)
    (tmp_path / "there.yaml").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    assert of_file(tmp_path / "link" / "there.yaml", "").folder == str(tmp_path)


def test_containers_of_another_fleet_are_shown_with_their_owner_and_age():
    there = [container("one", FOREIGN), container("two"), container("three", OURS)]
    theirs = ownership.foreign(fleet("one", "two", "three"), there)
    assert theirs == (there[0],)
    assert ownership.has_own(fleet("one", "two", "three"), there)
    assert not ownership.has_own(fleet("one"), theirs)
    assert not ownership.has_own(fleet("one"), [])
    assert ownership.whose(theirs) == (
        "one of another fleet desk, by eve@three (/home/eve/fleet.yaml), since 2026-01-01 00:00 UTC"
    )


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (WITHOUT_ID, f"folder {WITHOUT_ID.mark}"),  # the file has got its id since
        (FOREIGN, FOREIGN.mark),
        (NOBODY, None),
    ],
)
def test_a_plan_says_what_an_owners_mark_stands_for(before, told):
    labels = before.labels("container", "desk", "desk-one")
    (change,) = owner_changes(spec("one"), labels)
    assert (change.old, change.new) == (told, f"id {OURS.mark}")


def named(fleet, collector, owner, **changes):
    """A container of a fleet of another name."""
    name = names.container(fleet, collector)
    labels = owner.labels(*ownership.seal_of_container(fleet, name))
    return container(collector, owner, fleet=fleet, name=name, labels=labels, **changes)


def test_an_earlier_name_of_a_fleet_is_told_with_the_command_that_removes_it():
    (told,) = ownership.earlier_names(
        fleet("one"),
        [named("old", "one", COLLEAGUES), named("old", "two", OURS), container("one", OURS)],
    )
    assert told == (
        "fleet old has the `id` of this file, too: one, two by bob@two (/home/bob/desk/desk.yaml) and ann@one"
        " (/srv/desk/fleet.yaml), since 2026-01-01 00:00 UTC; if that is an earlier name of fleet desk,"
        " `launcher down --fleet old` removes it; if not, give this file another `id`"
    )
    (told,) = ownership.earlier_names(fleet("one", owner=WITHOUT_ID), [named("old", "one", WITHOUT_ID)])
    assert told.startswith("fleet old was made from this file, too: one by ann@one (/srv/desk/fleet.yaml)")
    assert told.endswith("`launcher down --fleet old` removes it")
    # The file has got its id, and its name, since.
    there = [named("old", "one", WITHOUT_ID), named("older", "two", OURS)]
    assert [*ownership.earlier_names(fleet("one"), there)] == [
        "fleet old was made from fleet.yaml in this folder, when that had no `id`: one by ann@one"
        " (/srv/desk/fleet.yaml), since 2026-01-01 00:00 UTC; if that is an earlier name of fleet desk,"
        " `launcher down --fleet old` removes it",
        "fleet older has the `id` of this file, too: two by ann@one (/srv/desk/fleet.yaml), since 2026-01-01"
        " 00:00 UTC; if that is an earlier name of fleet desk, `launcher down --fleet older` removes it;"
        " if not, give this file another `id`",
    ]


@pytest.mark.parametrize(
    ("owner", "other"),
    [
        (OURS, named("old", "one", FOREIGN)),
        (OURS, named("old", "one", OURS, manager=COMPOSE)),
        (OURS, container("one", OURS, fleet="old")),  # its seal is that of another fleet
        # Another file in the same folder is another fleet.
        (WITHOUT_ID, named("old", "one", msgspec.structs.replace(WITHOUT_ID, file="other.yaml"))),
        (OURS, named("old", "one", msgspec.structs.replace(WITHOUT_ID, file="other.yaml"))),
        (OURS, named("old", "one", ELSEWHERE)),
    ],
)
def test_another_fleet_is_no_earlier_name(owner, other):
    assert [*ownership.earlier_names(fleet("one", owner=owner), [other])] == []
