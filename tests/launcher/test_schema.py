import json
import re
from typing import ClassVar

import jsonschema
import pytest
import yaml
from fleet_texts import BAD_FLEETS, COINBASE, HEAD, ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import catalog
from launcher import cli, fleet, fleet_keys
from launcher.owner import new_id
from launcher.schema import schema
from launcher.starter import starter

#: What is wrong only together with something else, or not with the YAML as an editor sees it.
UNSEEN = {
    *(
        "duplicate-keys",
        "files",
        "name-collisions",
        "no-store-at-all",
        "overlaps",
        "secret-stays-secret",
        "store-without-collector",
        "swarm",
        "variables",
    ),
}


class Loader(yaml.SafeLoader):
    """YAML 1.2 as editors read it: no octal 0123, no `no`, no dates."""

    yaml_implicit_resolvers: ClassVar = {}


for tag, pattern, first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?[0-9]+", [*"-+0123456789"]),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", [*"-+.0123456789"]),
    ("merge", r"<<", ["<"]),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern})$"), first)
Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))


@pytest.fixture(scope="module")
def validator():
    jsonschema.Draft7Validator.check_schema(schema())
    return jsonschema.Draft7Validator(schema())


def read(text):
    return yaml.load(text, Loader)


@pytest.mark.parametrize("path", sorted((ROOT / "deployments").glob("*.yaml")), ids=lambda path: path.stem)
def test_deployments_fit(validator, path):
    validator.validate(read(path.read_text()))


def test_the_starter_file_fits(validator):
    validator.validate(read(starter(ROOT, new_id())))


@pytest.mark.parametrize("path", sorted(BAD_FLEETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_bad_fleets_do_not_fit(validator, path):
    try:
        document = read(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return
    assert validator.is_valid(document) == (path.stem in UNSEEN)


def test_every_key_is_described(validator):
    def texts(table, form):
        assert form["properties"].keys() == table.keys()
        assert all(each["description"] for each in form["properties"].values())
        assert form["additionalProperties"] is False

    made = schema()
    texts(fleet_keys.FLEET, made)
    texts(fleet_keys.STORE, made["definitions"]["store"])
    texts(fleet_keys.COLLECTOR, made["definitions"]["collector"])
    texts(fleet_keys.LIMITS, made["definitions"]["limits"]["anyOf"][0])
    texts(fleet_keys.KUBERNETES, made["definitions"]["kubernetes"]["anyOf"][0])


def test_the_command_prints_the_schema(capsys):
    assert cli.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


def test_the_schema_beside_the_deployments_is_current():
    path = ROOT / "deployments" / "fleet.schema.json"
    assert json.loads(path.read_text()) == schema(), f"launcher schema > {path.relative_to(ROOT)}"
    for each in (ROOT / "deployments").glob("*.yaml"):
        assert each.read_text().startswith(f"# yaml-language-server: $schema={path.name}\n")


#: Texts of which many are good for some key.
TEXTS = (
    st.sampled_from([*catalog.exchanges(), *catalog.CHANNELS, "Coinbase", "L2Book", "l2book, trades"])
    | st.sampled_from(
        ["redis", "RedisStream", "debug", "JSON", "yes", "No", "T", "f", "0", "1", "", " ", "~", "null"]
    )
    | st.sampled_from(
        ["${VAR}", "on-failure:3", "always", "http://a:1", "cryptostore:1@sha256", "simulated", "0x1F"]
    )
    | st.from_regex(r"[0-9]{1,6}(\.[0-9]{1,3})?\s?(ms|s|M|h|D|kb|MiB|gb|B)?", fullmatch=True)
    | st.from_regex(r"[+-]?[0-9]{1,12}", fullmatch=True)
    | st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=12)
)


@settings(max_examples=2 * settings.default.max_examples)
@given(st.data())
def test_the_schema_is_never_stricter_than_the_reader(validator, tmp_path_factory, data):
    """A value that the reader takes, however YAML understands it, is fine with the schema."""
    path = tmp_path_factory.getbasetemp() / "schema.yaml"
    name = data.draw(
        st.sampled_from(sorted(fleet_keys.COLLECTOR.keys() - {"store", "limits"} - {*fleet_keys.FILES}))
    )
    value = data.draw(TEXTS)
    plain = (
        re.fullmatch(r"[A-Za-z0-9+~$][A-Za-z0-9 .:/@+{}_-]*", value)
        and ": " not in value
        and value[-1] not in ": "
    )
    quoted = value if plain and data.draw(st.booleans()) else json.dumps(value)
    lines = [line for line in COINBASE.splitlines() if not line.strip(" -").startswith(f"{name}:")]
    text = f"{HEAD}  - {name}: {quoted}\n" + "\n".join(line.replace("  - ", "    ") for line in lines) + "\n"
    path.write_text(text)
    try:
        fleet.load(path, {"VAR": "1"})
    except fleet.FleetError as error:
        if any(f": {name} " not in str(fault) for fault in error.faults):
            return  # wrong by itself, or it has made another key wrong
        return
    validator.validate(read(text))
