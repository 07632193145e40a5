"""Small lies about good inputs: bytes, lines of text, trees of YAML, and values of a wrong kind."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

ODD: tuple[Any, ...] = (
    None, "", " ", "nonsense", "12", "1e400", "nan", "\u00b5\u2192\U0001f600", b"bytes", True, 0, -1, 1, 2**31, 2**70,
    -3.5, 0.5, float("nan"), float("inf"), -float("inf"), 1e308, [], [None], [1, 2, 3], {}, {"a": 1}, {1: 2},
    {"value": "x"}, (), object, "../../etc/passwd", "x" * 10_000, "\x00",
)  # fmt: skip


def odd(rng: np.random.Generator) -> Any:
    """One value that is hardly ever what was asked for."""
    return copy.copy(ODD[int(rng.integers(len(ODD)))])


def some_bytes(data: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """The bytes, damaged, and how."""
    n = len(data)
    at = int(rng.integers(max(1, n)))
    kind = str(rng.choice(["cut", "flip", "zeros", "grow", "empty", "noise", "hole", "twice"]))
    if kind == "cut":
        return data[:at], f"cut after {at} bytes"
    if kind == "flip":
        spoilt = bytearray(data)
        places = [int(i) for i in rng.integers(max(1, n), size=int(rng.integers(1, 33)))]
        for i in places if n else []:
            spoilt[i] ^= 1 << int(rng.integers(8))
        return bytes(spoilt), f"bits flipped at {places[:4]}"
    if kind == "zeros":
        width = int(rng.integers(1, 4096))
        return data[:at] + bytes(min(width, n - at)) + data[at + width :], f"{width} bytes zeroed at {at}"
    if kind == "grow":
        return data + rng.bytes(int(rng.integers(1, 4096))), "bytes added at the end"
    if kind == "empty":
        return b"", "empty"
    if kind == "noise":
        return rng.bytes(min(n, 4096)), "random bytes"
    if kind == "hole":
        width = int(rng.integers(1, 4096))
        return data[:at] + data[at + width :], f"{width} bytes lost at {at}"
    return data + data, "the whole twice"


def some_text(text: str, rng: np.random.Generator) -> tuple[bytes, str]:
    """The text, damaged in a line, a word or an encoding, and how."""
    lines = text.splitlines(keepends=True)
    kind = str(rng.choice(["drop", "double", "swap", "word", "number", "indent", "character", "bytes"]))
    at, other = (int(rng.integers(max(1, len(lines)))) for _ in range(2))
    if kind == "bytes" or not lines:
        return some_bytes(text.encode(), rng)
    if kind == "drop":
        return "".join(lines[:at] + lines[at + 1 :]).encode(), f"line {at + 1} dropped"
    if kind == "double":
        return "".join([*lines[: at + 1], *lines[at:]]).encode(), f"line {at + 1} twice"
    if kind == "swap":
        lines[at], lines[other] = lines[other], lines[at]
        return "".join(lines).encode(), f"lines {at + 1} and {other + 1} exchanged"
    if kind == "indent":
        lines[at] = " " * int(rng.integers(1, 6)) + lines[at]
        return "".join(lines).encode(), f"line {at + 1} indented"
    if kind == "character":
        place = int(rng.integers(max(1, len(text))))
        sign = str(rng.choice(list(":{}[],-#'\"\t\\%&*!|>@`?/0=~\u00e4\u2028")))
        return (text[:place] + sign + text[place + 1 :]).encode(), f"{sign!r} at {place}"
    words = lines[at].split(" ")
    indices = [i for i, word in enumerate(words) if kind == "word" or any(c.isdigit() for c in word)] or [0]
    i = int(rng.choice(indices))
    was, value = words[i].strip(), odd(rng)
    now = (
        str(rng.choice(["-1", "0", "1e9", "nan", "99999999999", "3.7", "-0.0", "1/0"]))
        if kind == "number"
        else f"{value}"[:200]
    )
    words[i] = now + ("\n" if words[i].endswith("\n") else "")
    lines[at] = " ".join(words)
    return "".join(lines).encode(errors="replace"), f"line {at + 1}: {was[:30]!r} became {now[:30]!r}"


def some_tree(tree: Any, rng: np.random.Generator) -> tuple[Any, str]:
    """A copy of nested mappings and lists with one place changed, and how."""
    spoilt = copy.deepcopy(tree)
    places = list(_places(spoilt))
    holder, key, path = places[int(rng.integers(len(places)))]
    kind = str(rng.choice(["drop", "odd", "rename", "negate", "swap"]))
    if kind == "drop":
        del holder[key]
        return spoilt, f"{path} dropped"
    if kind == "rename" and isinstance(holder, dict):
        holder[f"{key}s"] = holder.pop(key)
        return spoilt, f"{path} renamed"
    if kind == "negate" and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] = -holder[key] if rng.random() < 0.5 else holder[key] * 1e6
        return spoilt, f"{path} is {holder[key]}"
    if kind == "swap":
        other, name, where = places[int(rng.integers(len(places)))]
        holder[key] = copy.deepcopy(other[name])
        return spoilt, f"{path} is {where}"
    value = odd(rng)
    holder[key] = value
    return spoilt, f"{path} is {value!r}"[:200]


def _places(tree: Any, path: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Every ``(holder, key, path)`` of a tree."""
    keys = list(tree) if isinstance(tree, Mapping) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        here = f"{path}.{key}" if path else str(key)
        yield tree, key, here
        yield from _places(tree[key], here)
