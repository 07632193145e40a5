"""Treatments that guidelines keep for when others cannot be given or have failed (``reserve.yaml``)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from ecg_gym.pharmacology import Reasons
from ecg_gym.yaml_files import read_yaml

TABLE = Path(__file__).with_name("reserve.yaml")


@cache
def table() -> Mapping[str, frozenset[str]]:
    """Drug -> the words of its indications that leave others the first place."""
    rows = read_yaml(TABLE)
    return {drug: frozenset(words) for drug, words in rows.items()}


def in_reserve(reasons: Reasons | None) -> bool:
    """Whether some drug is given for nothing but what others are given for first."""
    drugs: dict[str, list[str]] = {}
    for sentence in () if reasons is None else reasons.present:
        drug, _, words = sentence.partition(": ")
        drugs.setdefault(drug, []).append(words)
    return any(table().get(drug, frozenset()).issuperset(words) for drug, words in drugs.items())
