"""Facts for a prompt: numbers, yes or no, and words of a closed vocabulary. Free text cannot pass.

A header, a name, a path or a remark in somebody's file is text that others wrote: it could identify a person or give
orders to the model. So a prompt is built from our own sentences and from what this function lets through.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

KEY = re.compile(r"[a-z][a-z0-9_]{0,39}")


def render_facts(facts: Mapping[str, Any], words: Collection[str] = ()) -> str:
    """Lines ``key: value``; values are numbers, booleans, None, words out of ``words``, or lists of them.

    ``ValueError`` for a key that is no plain name and for a string that is not in ``words``.
    """
    for key in facts:
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise ValueError(f"a fact is named {key!r}; expected lower case letters, digits and _; rename it")
    return "\n".join(f"{key}: {_value(key, value, words)}" for key, value in facts.items())


def _value(key: str, value: Any, words: Collection[str]) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return f"{float(value):.4g}" if math.isfinite(value) else "unknown"
    if isinstance(value, str):
        if value in words:
            return value
        raise ValueError(
            f"{key} is a text that is not in the vocabulary; expected a number or one of {len(words)} known words; "
            "free text never goes into a prompt: leave the fact out"
        )
    if isinstance(value, Sequence | np.ndarray):
        return ", ".join(_value(key, item, words) for item in value) or "none"
    raise ValueError(f"{key} is a {type(value).__name__}; expected a number, a word or a list of them; convert it")
