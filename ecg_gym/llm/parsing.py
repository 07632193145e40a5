"""The JSON object in a model's text: the whole text, or the first object that stands in prose or a code fence.

Nothing is guessed or repaired: duplicate keys, ``NaN``, single quotes and truncated objects are not JSON.
"""

from __future__ import annotations

import json
from typing import Any

STARTS = 20  # places where an object may begin that are tried; bounds the time for hostile text


class NotJSONError(ValueError):
    """The text holds no JSON object."""


def load_json(text: str) -> Any:
    """The value of a JSON text; ``NotJSONError`` for anything that RFC 8259 does not allow, and for duplicate keys."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise NotJSONError(f"the text is not JSON ({type(error).__name__}); expected one JSON object") from None


def object_in(text: str) -> dict[str, Any]:
    """The first JSON object of a model's text, after its ``</think>`` if it has one; ``NotJSONError`` without any."""
    text = text.rsplit("</think>", 1)[-1]
    start, tries = text.find("{"), 0
    while start >= 0 and tries < STARTS:
        try:
            value, _ = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            start, tries = text.find("{", start + 1), tries + 1
            continue
        return dict(value)
    raise NotJSONError("the text holds no JSON object; expected one; answer with the object alone")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; ``ValueError`` when a key comes twice, because then two readers may read two things."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key comes twice")
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant)
