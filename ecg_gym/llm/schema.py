"""Whether a JSON value fits a schema: the part of JSON Schema that a bounded answer needs, and nothing beyond it.

Known keywords: ``type``, ``enum``, ``properties``, ``required``, ``additionalProperties: false``, ``items``,
``maxItems``, ``minItems``, ``maxLength``, ``minimum``, ``maximum``. A schema with another keyword is refused, because
a keyword that nobody checks would be a promise that nobody keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
}
WIRE = ("type", "enum", "properties", "required", "additionalProperties", "items", "description")
BOUNDS = ("maxItems", "minItems", "maxLength", "minimum", "maximum")


def choice_schema(actions: Sequence[str], reason: str = "diagnosis", characters: int = 400) -> dict[str, Any]:
    """The schema of ``{reason: text, "action": one of actions}``; ``ValueError`` without actions."""
    if not actions:
        raise ValueError(
            "there are no actions to choose from; expected at least one; do not ask when nothing is allowed"
        )
    return {
        "type": "object",
        "properties": {
            reason: {"type": "string", "maxLength": characters},
            "action": {"type": "string", "enum": list(actions)},
        },
        "required": [reason, "action"],
        "additionalProperties": False,
    }


def violations(value: Any, schema: Mapping[str, Any], place: str = "the answer") -> list[str]:
    """One sentence for each thing in ``value`` that ``schema`` does not allow; empty when it fits.

    ``ValueError`` for a schema with a keyword or type that is not known here.
    """
    _check_keywords(schema)
    if "enum" in schema and not any(type(value) is type(option) and value == option for option in schema["enum"]):
        return [f"{place} is {_short(value)}; allowed are {', '.join(map(str, schema['enum']))}"]
    kind = schema.get("type")
    if kind is not None and not _is(value, kind):
        return [f"{place} is {_short(value)}; expected {kind}"]
    return [*_object(value, schema, place), *_array(value, schema, place), *_bounds(value, schema, place)]


def wire_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without the bounds that servers in strict mode refuse; the bounds are checked here all the same."""
    bare = {name: value for name, value in schema.items() if name in WIRE}
    if "properties" in bare:
        bare["properties"] = {name: wire_schema(inner) for name, inner in bare["properties"].items()}
    if "items" in bare:
        bare["items"] = wire_schema(bare["items"])
    return bare


def _check_keywords(schema: Mapping[str, Any]) -> None:
    if unknown := sorted(set(schema) - {*WIRE, *BOUNDS}):
        raise ValueError(f"the schema has the keywords {unknown}; expected only {(*WIRE, *BOUNDS)}; leave them out")
    if schema.get("type", "object") not in TYPES:
        raise ValueError(f"the schema has the type {schema['type']!r}; expected one of {tuple(TYPES)}; correct it")


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, TYPES[kind])


def _object(value: Any, schema: Mapping[str, Any], place: str) -> list[str]:
    if not isinstance(value, dict):
        return []
    inner = schema.get("properties", {})
    wrong = [f"{place} lacks {name!r}" for name in schema.get("required", ()) if name not in value]
    if schema.get("additionalProperties") is False:
        wrong += [f"{place} has the unknown key {_short(name)}" for name in value if name not in inner]
    for name, part in inner.items():
        if name in value:
            wrong += violations(value[name], part, repr(name))
    return wrong


def _array(value: Any, schema: Mapping[str, Any], place: str) -> list[str]:
    if not isinstance(value, list):
        return []
    wrong = []
    low, high = schema.get("minItems", 0), schema.get("maxItems", float("inf"))
    if not low <= len(value) <= high:
        wrong.append(f"{place} has {len(value)} items; allowed are {low} to {high}")
    for number, item in enumerate(value[: schema.get("maxItems", len(value))]):
        wrong += violations(item, schema.get("items", {}), f"item {number} of {place}")
    return wrong


def _bounds(value: Any, schema: Mapping[str, Any], place: str) -> list[str]:
    if isinstance(value, str) and len(value) > schema.get("maxLength", float("inf")):
        return [f"{place} has {len(value)} characters; allowed are {schema['maxLength']}"]
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum", float("-inf")), schema.get("maximum", float("inf"))
        if not low <= value <= high:
            return [f"{place} is {_short(value)}; allowed is {low} to {high}"]
    return []


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
