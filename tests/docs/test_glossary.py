"""The glossary is short, and each of its terms that names an identifier names one that exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "glossary.md"
ROW = re.compile(r"^\| (?P<term>[^|]+) \| `(?P<name>[\w.]+)` \| (?P<meaning>[^|]+) \|$")
ROWS = [match for line in PAGE.read_text(encoding="utf-8").splitlines() if (match := ROW.match(line))]


def test_the_glossary_has_at_most_sixty_terms_in_order_and_each_once() -> None:
    terms = [row["term"] for row in ROWS]
    assert 30 <= len(terms) <= 60
    assert len(set(terms)) == len(terms)
    assert [term[0].lower() for term in terms] == sorted(term[0].lower() for term in terms)


@pytest.mark.parametrize("name", sorted({row["name"] for row in ROWS}))
def test_each_name_exists(name: str) -> None:
    module, parts = name, []
    while module:
        try:
            value = importlib.import_module(module)
            break
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            parts.insert(0, last)
    for part in parts:
        value = getattr(value, part)
    assert value is not None
