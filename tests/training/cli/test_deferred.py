"""Deferred groups say before they are imported what they say after, and then run as themselves."""

from __future__ import annotations

import pytest
import typer.main
from typer.testing import CliRunner

from training.cli.app import app
from training.cli.deferred import GROUPS


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_says_the_same_before_and_after_it_is_loaded(name: str) -> None:
    stub = typer.main.get_command(app).commands[name]
    group = stub.group
    assert stub.help.split() == group.help.split()
    assert stub.get_short_help_str(200) == group.get_short_help_str(200)
    assert group.name == name


def test_the_commands_of_a_group_are_reached_and_misspelt_ones_have_a_suggestion() -> None:
    run = CliRunner().invoke
    help_ = run(app, ["train", "vae", "--help"])
    assert help_.exit_code == 0
    assert "train vae" in help_.output
    wrong = run(app, ["train", "vea"])
    assert wrong.exit_code == 2
    assert "Did you mean" in wrong.output
    assert "'train'" in run(app, ["trian"]).output
    bare = run(app, ["study"])
    assert "decisions" in bare.output, "a group without a command shows its help"
