"""The best weights are kept, the untouched ones among them, and a resumed run remembers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from training.early_stopping import BestSoFar


def model(value: float) -> nn.Linear:
    made = nn.Linear(1, 1)
    nn.init.constant_(made.weight, value)
    return made


def test_the_lowest_score_wins_and_the_first_is_a_candidate() -> None:
    best = BestSoFar(None, "x", model(0.0), 1.0)
    best.look(1, model(1.0), 2.0)
    assert best.model.weight.item() == 0.0
    best.look(2, model(2.0), 0.5)
    best.look(3, model(3.0), 0.7)
    assert best.model.weight.item() == 2.0
    assert [row["score"] for row in best.scores] == [1.0, 2.0, 0.5, 0.7]
    assert best.lowest == 0.5


def test_later_training_does_not_reach_what_is_kept() -> None:
    trained = model(1.0)
    best = BestSoFar(None, "x", model(0.0), 1.0)
    best.look(1, trained, 0.5)
    with torch.no_grad():
        trained.weight += 5
    assert best.model.weight.item() == 1.0


def test_a_resumed_run_remembers_and_goes_on_from_its_step(tmp_path: Path) -> None:
    best = BestSoFar(tmp_path, "x", model(0.0), 1.0)
    best.look(1, model(1.0), 0.5)
    best.look(2, model(2.0), 0.9)
    again = BestSoFar(tmp_path, "x", model(0.0), 1.0)
    assert (again.model.weight.item(), again.lowest) == (1.0, 0.5)
    again.look(2, model(7.0), 0.4)  # the step that was not saved is done again
    assert [row["step"] for row in again.scores] == [0.0, 1.0, 2.0]
    assert again.model.weight.item() == 7.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best_x.safetensors"]
