"""What a patient may be said to have, and what on a strip shows the same: one condition triggers one set of rules.

``conditions.yaml`` holds the words and the signs; ``rules`` and ``indications`` read both through ``expanded``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from ecg_gym.pharmacology.constants import read_table, sources

CONDITIONS = (
    "asthma",
    "atrial_fibrillation",
    "av_block_2_3",
    "bifascicular_block",
    "cardiogenic_shock",
    "cirrhosis",
    "congenital_long_qt",
    "coronary_disease",
    "digoxin_toxicity",
    "heart_failure",
    "heart_transplant",
    "hypotension",
    "lupus",
    "myasthenia_gravis",
    "myocardial_infarction",
    "pacemaker",
    "poor_metaboliser_cyp2d6",
    "pre_excitation",
    "renal_failure",
    "sick_sinus",
    "structural_heart_disease",
    "torsade",
    "wide_complex_tachycardia",
)
"""Conditions that an observation and a world model have a feature for; ``known_conditions`` has more."""

_LEAVES = {"interval", "patient", "condition", "told", "finding", "with", "dose_above_mg", "unknown", "route", "again"}
_STRIP = {"interval", "finding"}


@cache
def known_conditions() -> tuple[str, ...]:
    """Every word that ``Patient.conditions`` may hold, in alphabetical order."""
    return tuple(sorted({*CONDITIONS, *read_table("conditions.yaml")["told"]}))


@cache
def strip_conditions() -> Mapping[str, Mapping[str, Any]]:
    """Condition -> what on a strip shows it, in the language of ``rules.yaml``.

    Raises ValueError for a condition nobody knows, a source that is not cited, and a sign that is no interval or
    finding.
    """
    rows = read_table("conditions.yaml")["shown"]
    for name, row in rows.items():
        if name not in known_conditions():
            raise ValueError(
                f"conditions.yaml shows {name!r}; expected one of {known_conditions()}; check the spelling"
            )
        if row["source"] not in sources():
            raise ValueError(f"{name} cites {row['source']!r}; expected a key of sources.yaml; add the citation")
        if foreign := _leaves(row["when"]) - _STRIP:
            raise ValueError(f"{name} is shown by {sorted(foreign)}; expected {sorted(_STRIP)} only; rewrite it")
    return {name: row["when"] for name, row in rows.items()}


def check_conditions(conditions: frozenset[str]) -> None:
    """Raises ValueError for a word that is no condition: a misspelt condition must not lift a rule."""
    if unknown := conditions.difference(known_conditions()):
        raise ValueError(
            f"the patient has {sorted(unknown)}; expected names out of {', '.join(known_conditions())}; "
            "check the spelling"
        )


def expanded(node: Any, groups: Mapping[str, Sequence[str]], place: str) -> Any:
    """A condition tree with groups of drugs spelled out and each condition joined by the sign that shows it.

    Raises ValueError, naming the ``place``, for a form nobody understands.
    """
    if node is None:
        return None
    for word in ("all", "any"):
        if word in node:
            return {word: [expanded(child, groups, place) for child in node[word]]}
    if "not" in node:
        return {"not": expanded(node["not"], groups, place)}
    if not _LEAVES & set(node):
        raise ValueError(f"{place} has {node}; expected all, any, not or one of {sorted(_LEAVES)}; rewrite it")
    name = node.get("condition", node.get("told"))
    if name is not None and name not in known_conditions():
        raise ValueError(f"{place} names {name!r}; expected one of {known_conditions()}; check the spelling")
    if "told" in node:
        return {"condition": name}
    if "condition" in node and name in strip_conditions():
        return {"any": [{"condition": name}, strip_conditions()[name]]}
    return {**node, "with": names_of(node["with"], groups)} if "with" in node else node


def names_of(names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Drug names with ``@group`` spelled out."""
    return tuple(n for name in names for n in (groups[name[1:]] if name.startswith("@") else [name]))


def _leaves(node: Mapping[str, Any]) -> set[str]:
    """The kinds of leaf in a tree."""
    for word in ("all", "any"):
        if word in node:
            return set().union(*map(_leaves, node[word]))
    return _leaves(node["not"]) if "not" in node else _LEAVES & set(node)
