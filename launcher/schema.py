"""The JSON Schema of the fleet file, for editors, made from the tables that the reader uses.

It is never stricter than the reader: any text may contain a ``${VAR}`` or be empty, numbers may be written as
text, words in any case. How keys relate (a store that does not exist) is checked by ``launcher validate``.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from collector import catalog, settings
from collector.settings import Matching, OneOf, Whole
from launcher import fleet_keys
from launcher.fleet_file import SIMULATED
from launcher.fleet_keys import (
    COLLECTOR,
    DEFAULTS,
    FLEET,
    KUBERNETES,
    LIMITS,
    NETWORK,
    SIMULATOR,
    STORE,
    Key,
    Keys,
    Number,
)

#: The file that the first line of a fleet file refers to, relative to it.
FILE = "fleet.schema.json"

type Schema = dict[str, Any]

_LISTED = (
    *(settings.listed, settings.symbols, settings.endpoint),
    *(fleet_keys.labels, fleet_keys.secret_keys, fleet_keys.ports),
)
_ANY_TEXT: Schema = {"type": ["string", "number", "boolean"]}
#: An empty value, or one that only the environment can supply.
_OPEN: Schema = {"anyOf": [{"type": "null"}, {"type": "string", "pattern": r"^\s*$|\$\{"}]}
_EXPANDED: Schema = {"type": "string", "pattern": r"\$\{"}
_OPEN_REFERENCE: Schema = {"$ref": "#/definitions/open"}


def schema() -> Schema:
    """Return the whole schema, in terms of draft 7."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Fleet file",
        "description": "The exchanges to record, and where their data goes.",
        **_mapping(FLEET, _COMPOSED, required=[key.name for key in FLEET.values() if key.required]),
        "patternProperties": {"^x-": True},
        "definitions": {
            "open": _OPEN,
            "limits": _optional(_mapping(LIMITS)),
            "kubernetes": _optional(_mapping(KUBERNETES)),
            "store": _mapping(STORE, required=["backend"]),
            "collector": _mapping(COLLECTOR),
        },
    }


def text() -> str:
    """Return the schema as a file."""
    return json.dumps(schema(), indent=1) + "\n"


def _mapping(keys: Keys, composed: dict[str, Schema] | None = None, required: Iterable[str] = ()) -> Schema:
    forms = (composed or {}) | {name: {"$ref": f"#/definitions/{name}"} for name in ("limits", "kubernetes")}
    properties = {
        key.name: {"description": _about(key), **(forms.get(key.name) or _text(key))} for key in keys.values()
    }
    found: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return found | ({"required": [*required]} if required else {})


def _about(key: Key) -> str:
    default = f" Default: {key.default}." if key.default else ""
    return f"{key.meaning[0].upper()}{key.meaning[1:]}.{default}"


def _optional(form: Schema) -> Schema:
    return {"anyOf": [form, {"type": "null"}]}


def _text(key: Key) -> Schema:
    # A required setting may be set elsewhere, in defaults.
    must_be_here = key.required and not key.variable
    return {"anyOf": [*_forms(key), _EXPANDED if must_be_here else _OPEN_REFERENCE]}


def _forms(key: Key) -> list[Schema]:
    """Return the forms in which a value of this key may be written."""
    match key.parse:
        case OneOf(values):
            return _words(values)
        case Whole(least, most):
            number = {"type": "integer", "minimum": least, "maximum": most}
            return [number, _pattern("[+-]?[0-9]+")]
        case Number(least, _, most):
            return [{"type": "number", "minimum": least, "maximum": most}, _pattern(r"[0-9]+(\.[0-9]+)?")]
        case Matching(pattern):
            return [_pattern(pattern), {"type": ["number", "boolean"]}]
        case parse if parse in _LISTED:
            return _list(key.name)
        case parse:
            return _BY_READER.get(parse, [_ANY_TEXT])


def _words(values: Iterable[str]) -> list[Schema]:
    """Return a schema for words in any case; the usual spellings are what an editor offers."""
    usual = [*values]
    return [{"enum": usual}, _pattern("|".join(map(_any_case, usual)))]


def _any_case(word: str) -> str:
    return "".join(f"[{each.upper()}{each.lower()}]" if each.isalpha() else each for each in word)


def _pattern(pattern: str) -> Schema:
    return {"type": "string", "pattern": rf"^\s*(?:{pattern})\s*$"}


def _units(number: str, units: Iterable[str]) -> Schema:
    return _pattern(rf"{number}\s*(?:{'|'.join(map(_any_case, units))})")


def _list(name: str) -> list[Schema]:
    if name != "channels":
        return [_ANY_TEXT, {"type": "array", "items": _ANY_TEXT, "minItems": 1}]
    # `l2book` is an accepted spelling of l2_book.
    spelling = "|".join(_any_case(channel).replace("_", "_?") for channel in catalog.CHANNELS)
    item = {"anyOf": [{"enum": [*catalog.CHANNELS]}, _pattern(spelling), _OPEN_REFERENCE]}
    return [
        {"enum": [*catalog.CHANNELS]},
        _pattern(rf"(?:{spelling})(?:\s*,\s*(?:{spelling}))*"),
        {"type": "array", "items": item, "minItems": 1},
    ]


_BY_READER: dict[Callable[[str], Any], list[Schema]] = {
    settings.boolean: [
        {"type": "boolean"},
        {"enum": [0, 1]},
        _pattern("|".join(map(_any_case, settings.TRUE + settings.FALSE))),
    ],
    settings.size: [{"type": "integer", "minimum": 1}, _units("[0-9]+", settings.SIZES)],
    fleet_keys.memory: [
        {"type": "integer", "minimum": fleet_keys.LEAST_MEMORY},
        _units("[0-9]+", settings.SIZES),
    ],
    settings.duration: [
        {"type": "number", "exclusiveMinimum": 0},
        _units(r"[0-9]+(?:\.[0-9]+)?", settings.TIMES),
    ],
    settings.exchange: _words(catalog.usable()),
    settings.backend: _words(settings.BACKENDS),
    settings.proxy: [_pattern(r"https?://\S+")],
    settings.existing_file: [_ANY_TEXT],
    Path: [_ANY_TEXT],
}
_COMPOSED: dict[str, Schema] = {
    "network": {"anyOf": [_text(FLEET["network"]), _mapping(NETWORK)]},
    "simulator": _optional(
        _mapping(
            SIMULATOR,
            {
                "symbols": _optional(
                    {
                        "type": "object",
                        "propertyNames": {
                            "pattern": _pattern("|".join(map(_any_case, SIMULATED)))["pattern"]
                        },
                        "additionalProperties": {"anyOf": _list("symbols")},
                    }
                )
            },
        )
    ),
    "stores": _optional({"type": "object", "additionalProperties": {"$ref": "#/definitions/store"}}),
    "defaults": _optional(_mapping(DEFAULTS)),
    "collectors": {"type": "array", "items": {"$ref": "#/definitions/collector"}, "minItems": 1},
}
