"""The README is short, its links lead somewhere, and its Python runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_has_at_most_500_words() -> None:
    assert len(TEXT.split()) <= 500


def test_its_links_and_pictures_exist() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if not link.startswith("http")]
    assert len(links) >= 8
    for link in links:
        assert (ROOT / link).is_file(), link


def test_its_lines_of_python_run(capsys) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(block.strip().splitlines()) <= 12
    names: dict = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["info"]["steps"] <= 16
    assert names["over"]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_that_is_named_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z-]+)", (ROOT / page).read_text(encoding="utf-8")))
    assert named
    assert named <= targets
