"""Learning curves: every seed is a line, every folder has one label, an empty folder is refused."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from training.cli.app import app
from training.evaluation.benchmark.curves import figure


def training(folder, seed, world):
    folder.mkdir(exist_ok=True)
    described = {"algorithm": "ppo", "world": world, "curve": [[1000, -6.0 - seed, 10], [2000, -4.0, 12]]}
    (folder / f"{seed}.json").write_text(json.dumps(described))


def test_a_line_per_seed_and_a_label_per_folder(tmp_path) -> None:
    for seed in (0, 1):
        training(tmp_path / "truth", seed, "truth")
    training(tmp_path / "model", 0, "model")
    axes = figure([tmp_path / "truth", tmp_path / "model"]).axes[0]
    assert [list(line.get_ydata()) for line in axes.lines] == [[-6.0, -4.0], [-7.0, -4.0], [-6.0, -4.0]]
    assert list(axes.lines[0].get_xdata()) == [1.0, 2.0]
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["ppo in the virtual patient, 2 seeds", "ppo in the learned world, 1 seed"]


def test_the_command_writes_a_picture_and_refuses_a_folder_without_curves(tmp_path) -> None:
    training(tmp_path / "truth", 0, "truth")
    done = CliRunner().invoke(app, ["leaderboard", "curves", str(tmp_path / "truth"), "--out", str(tmp_path / "c.png")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no learning curve; expected"):
        figure([tmp_path / "empty"])
