"""The trained proposer's data: soft targets, recall and regret; shards made once; a run that ends with weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ecg_gym import checkpoint
from planners.proposers.learned import CARD, KIND
from training import train_proposer
from training.train_proposer import PACKAGED, PRESETS, Rankings, first_k, menu_words, path_of, read_rankings, target_of

N = len(menu_words())


class Codec:
    def encode(self, strips: torch.Tensor) -> torch.Tensor:
        return strips[:, :3, ::64]


def rankings(n: int, seed: int) -> Rankings:
    rng = np.random.default_rng(seed)
    scores = rng.random((n, N))
    scores[rng.random((n, N)) < 0.5] = np.nan
    return Rankings(
        rng.normal(size=(n, 12, 1024)).astype(np.float16), rng.normal(size=(n, len(CARD))), scores, rng.random(n)
    )


def test_targets_are_distributions_over_what_is_known_and_sharpen_with_the_difference() -> None:
    scores = np.array([[0.1, 0.2, np.nan], [0.3, 0.3, 0.3], [np.nan, np.nan, np.nan]])
    target, known = target_of(scores, 0.1)
    np.testing.assert_allclose(target[:2].sum(1), 1)
    np.testing.assert_allclose(target[0, 0] / target[0, 1], np.e)
    np.testing.assert_allclose(target[1], 1 / 3)
    assert target[0, 2] == 0
    assert (target[2] == 0).all()
    assert known.tolist() == [[True, True, False], [True] * 3, [False] * 3]


def test_recall_and_regret_of_the_first_k() -> None:
    scores = np.array([[0.1, 0.2, 0.3, np.nan], [0.5, 0.4, 0.2, 0.1]])
    order = np.array([[2.0, 1.0, 3.0, 0.0], [1.0, 2.0, 3.0, 4.0]])  # lower is better; the unknown item takes no part
    assert first_k(order, scores, 1) == {"recall": 0.0, "regret": pytest.approx((0.1 + 0.4) / 2)}
    assert first_k(order, scores, 2) == {"recall": 0.5, "regret": pytest.approx(0.15)}
    assert first_k(order, scores, 4) == {"recall": 1.0, "regret": 0.0}
    never = first_k(np.array([[0.0, np.inf]]), np.array([[np.nan, 0.5]]), 1)  # known here and not met in training
    assert never == {"recall": 1.0, "regret": 0.0}
    assert first_k(order[:0], scores[:0], 1) == {"recall": None, "regret": None}


def test_a_run_on_rankings_leaves_weights_with_figures(tmp_path: Path) -> None:
    parts = {"train": rankings(12, 0), "test": rankings(5, 1)}
    steps = train_proposer.train(PRESETS["tiny"], parts, Codec(), "0" * 64, tmp_path, show=False)
    losses = [logs["loss"] for _, logs in steps]
    assert len(losses) == PRESETS["tiny"].loop.steps
    stored = checkpoint.load(tmp_path / PACKAGED, KIND)
    assert stored.config["menu"] == list(menu_words())
    assert stored.config["codec_sha256"] == "0" * 64
    figures = stored.metadata["metrics"]["k = 8"]
    assert set(figures) == {"model", "same for everybody"}
    assert 0 <= figures["model"]["recall"] <= 1


def test_a_folder_without_test_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected two or more"):
        read_rankings(tmp_path)


@pytest.mark.slow
def test_shards_are_made_once_and_read_back(tmp_path: Path) -> None:
    preset = PRESETS["tiny"]
    made = list(train_proposer.make_rankings(tmp_path, preset))
    assert len(made) == 3
    assert list(train_proposer.make_rankings(tmp_path, preset)) == []
    before = path_of(tmp_path, 1).read_bytes()
    path_of(tmp_path, 1).unlink()
    assert list(train_proposer.make_rankings(tmp_path, preset)) == [path_of(tmp_path, 1)]
    assert path_of(tmp_path, 1).read_bytes() == before
    parts = read_rankings(tmp_path)
    assert len(parts["train"]) + len(parts["test"]) <= preset.states
    assert (np.isfinite(parts["train"].scores).sum(1) <= preset.items).all()
    assert np.isfinite(parts["train"].watching).all()
