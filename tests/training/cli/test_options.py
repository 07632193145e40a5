"""Options that commands share: a dataclass of them is one parameter and stands for its fields, in their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from training.cli import options
from training.evaluation.result import Size


@dataclass(frozen=True)
class Shared:
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 3
    loud: Annotated[bool, typer.Option("--loud", help="Say it.")] = False


def app(received: list[Any]) -> typer.Typer:
    commands = typer.Typer()

    @commands.command()
    @options.spread
    def act(*, name: Annotated[str, typer.Argument()], shared: Shared, last: float = 0.5) -> None:
        """Acts."""
        received.append((name, shared, last))

    return commands


def run(*words: str) -> tuple[Any, list[Any]]:
    received: list[Any] = []
    return CliRunner().invoke(app(received), list(words), env={"COLUMNS": "120"}), received


def test_fields_are_options_and_arrive_as_one_value() -> None:
    assert run("x")[1] == [("x", Shared(), 0.5)]
    assert run("x", "--count", "5", "--loud", "--last", "2")[1] == [("x", Shared(5, True), 2.0)]


def test_help_and_limits_are_those_of_the_fields_in_their_place() -> None:
    page = run("--help")[0].output
    assert "Acts." in page
    assert page.index("--count") < page.index("--loud") < page.index("--last")
    refusal, received = run("x", "--count", "0")
    assert refusal.exit_code == 2
    assert not received


@pytest.mark.parametrize(
    ("quick", "sized", "size"),
    [
        (False, options.Sized(), Size(40, 8, (0,))),
        (True, options.Sized(), Size(4, 2, (0,))),
        (True, options.Sized(patients=9, seeds=3), Size(9, 2, (0, 1, 2))),
        (False, options.Sized(samples=5), Size(40, 5, (0,))),
    ],
)
def test_a_study_is_as_large_as_the_user_says_else_as_its_module(quick, sized, size) -> None:
    class Module:
        USUAL, SMALL = Size(40, 8), Size(4, 2)

    assert sized.of(Module, quick) == size
