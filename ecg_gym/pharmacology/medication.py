"""Which drugs a patient takes: a name out of a chart becomes the one that rules, interactions and formulary know.

``resolve_medication("Isoptin SR")`` is verapamil. A name that nobody knows is refused with the nearest ones; a common
drug that no rule knows is taken, with a remark. ``unlisted:NAME`` takes any name on the reader's own responsibility.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from ecg_gym.pharmacology.constants import read_table, sources
from ecg_gym.pharmacology.formulary import FORMULARY

UNLISTED = "unlisted:"
NEAREST = 3  # names in a refusal
_CLOSE = 0.6  # difflib's ratio from which a name is near


@dataclass(frozen=True)
class Medication:
    """One name of a chart, understood."""

    name: str  # as it was written
    ingredients: tuple[str, ...]  # canonical names; what rules and interactions are asked about
    remark: str = ""  # what the reader of a plan must know; "" where the name was the canonical one


def resolve_medication(name: str) -> Medication:
    """The drugs that a chart's name means.

    Raises ValueError for a name that the table does not hold, with the nearest names it does.
    """
    if name.strip().lower().startswith(UNLISTED):
        plain = _plain(name.strip()[len(UNLISTED) :])
        return Medication(name, (plain,), f"medication {plain}: not in the table of names, so no rule knows it")
    plain, index = _plain(name), _index()
    for candidate in _shorter(plain):
        if candidate in index:
            return Medication(name, index[candidate], _remark(name, plain, candidate, index[candidate]))
    near = difflib.get_close_matches(plain, index, n=NEAREST, cutoff=_CLOSE)
    hint = f"the nearest are {', '.join(near)};" if near else "nothing in the table is spelled alike;"
    raise ValueError(
        f"medication is {name!r}; expected a drug, brand or class of pharmacology/medication.yaml; {hint} "
        f"correct it, or write {UNLISTED}{plain} to go on although no rule will know it"
    )


def resolve_medications(names: Iterable[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    """The canonical names of several, and the remarks; raises ValueError as ``resolve_medication`` does.

    What is taken as unlisted keeps its prefix, so that it can be resolved again.
    """
    medications = [resolve_medication(name) for name in sorted(names)]
    canonical = {
        f"{UNLISTED}{word}" if medication.name.strip().lower().startswith(UNLISTED) else word
        for medication in medications
        for word in medication.ingredients
    }
    return frozenset(canonical), tuple(medication.remark for medication in medications if medication.remark)


@lru_cache(maxsize=1024)
def ingredients(medication: frozenset[str]) -> frozenset[str]:
    """The canonical names behind ``Patient.medication``; raises ValueError as ``resolve_medication`` does."""
    return frozenset(word for name in medication for word in resolve_medication(name).ingredients)


def _remark(name: str, plain: str, entry: str, entries: tuple[str, ...]) -> str:
    table = _table()
    if entry in table["classes"]:
        return f"medication {name!r} names a class and was read as {' + '.join(entries)}, with the class's usual rules"
    if entry in map(_plain, table["unruled"]):
        return f"medication {entry}: no rule, interaction or row of the formulary knows it"
    return "" if entries == (plain,) else f"medication {name!r} was read as {' + '.join(entries)}"


def _plain(name: str) -> str:
    """Lower case, words joined by ``_``."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _shorter(plain: str) -> list[str]:
    """The name, and the name without the salts and release forms at its end, longest first."""
    additions, words = set(_table()["additions"]), plain.split("_")
    forms = [plain]
    while len(words) > 1 and (words[-1] in additions or words[-1].isdigit()):
        words = words[:-1]
        forms.append("_".join(words))
    return forms


@cache
def _table() -> Mapping[str, Any]:
    table = read_table("medication.yaml")
    if table["source"] not in sources():
        raise ValueError(f"medication.yaml cites {table['source']!r}; expected a key of sources.yaml; add the citation")
    return table


@cache
def _index() -> Mapping[str, tuple[str, ...]]:
    """Every name -> canonical names. Raises ValueError for a name that means two things."""
    table = _table()
    index: dict[str, tuple[str, ...]] = {name: (name,) for name in FORMULARY.names}

    def add(name: str, entries: tuple[str, ...]) -> None:
        if index.setdefault(_plain(name), entries) != entries:
            raise ValueError(
                f"medication.yaml: {name!r} means {index[_plain(name)]} and {entries}; expected one; drop one"
            )

    for canonical, others in table["ingredients"].items():
        for name in (canonical, *others):
            add(name, (canonical,))
    for part in ("combinations", "classes"):
        for name, entries in table[part].items():
            add(name, tuple(entries))
    for name in table["unruled"]:
        add(name, (name,))
    return {**index, "beta_blocker": ("beta_blocker",)}
