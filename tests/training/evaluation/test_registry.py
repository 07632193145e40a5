"""Every study of the registry has a command and a module, and every command is in the registry."""

from __future__ import annotations

import importlib.util

import pytest

from training.cli.study import app
from training.evaluation.registry import STUDIES


def test_commands_and_registry_are_the_same() -> None:
    commands = {
        command.name or command.callback.__name__.rstrip("_").replace("_", "-") for command in app.registered_commands
    }
    assert commands == set(STUDIES)


@pytest.mark.parametrize("name", STUDIES)
def test_the_module_is_there(name: str) -> None:
    assert importlib.util.find_spec(f"training.evaluation.{STUDIES[name].path}") is not None


@pytest.mark.parametrize("name", [name for name, study in STUDIES.items() if study.kind != "own"])
def test_a_module_has_what_its_kind_needs(name: str) -> None:
    study = STUDIES[name]
    needed = {"world": "rows_of", "truth": "answers_of"}[study.kind]
    assert all(hasattr(study.module, word) for word in ("USUAL", "SMALL", "study", "figure", "summary", needed))
