"""What is printed is what was written: units in brackets are text, never a style, in tables, notes and help pages."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from rich.table import Table
from typer.testing import CliRunner

from training.cli.app import app
from training.console import note, refuse, results, say

ROOT = Path(__file__).resolve().parents[2]
UNITS = "rate [Hz], length [s], QT [ms], [bold]"


def test_tables_keep_units_in_title_heading_and_cell(capsys) -> None:
    table = Table(title=f"title {UNITS}")
    table.add_column(f"heading {UNITS}")
    table.add_row(f"cell {UNITS}")
    results(120).print(table)
    output = " ".join(capsys.readouterr().out.split())
    assert all(f"{part} {UNITS}" in output for part in ("title", "heading", "cell"))


def test_a_table_is_as_wide_as_asked(capsys) -> None:
    results(70, exact=True).print("x" * 100)
    assert capsys.readouterr().out == "x" * 70 + "\n" + "x" * 30 + "\n"


@pytest.mark.parametrize("tell", [note, say])
def test_messages_keep_units(capsys, tell) -> None:
    tell(UNITS)
    assert UNITS in capsys.readouterr().err


def test_a_refusal_keeps_units(capsys) -> None:
    import typer

    with pytest.raises(typer.Exit) as left:
        refuse(ValueError(UNITS))
    assert left.value.exit_code == 2
    assert capsys.readouterr().err == f"refused {UNITS}\n"


@pytest.mark.parametrize(
    ("words", "units"),
    [(("simulate",), ("[s]", "[Hz]")), (("study", "delineation"), ("[ms]", "[Hz]"))],
)
def test_help_pages_keep_units(words, units) -> None:
    output = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"}).output
    assert all(unit in output for unit in units)


def test_every_console_and_every_command_group_says_that_brackets_are_text() -> None:
    calls = {"Console": "markup=False", "TextColumn": "markup=False", "Typer": "rich_markup_mode='markdown'"}
    number = 0
    packages = ("ecg_gym", "planners", "training", "conformance")
    for path in (path for package in packages for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func).split(".")[-1]
                if name in calls and ast.unparse(node) != "Console()":  # one that is asked for its width
                    assert calls[name] in ast.unparse(node), f"{path.relative_to(ROOT)}:{node.lineno}"
                    number += 1
    assert number >= 5
