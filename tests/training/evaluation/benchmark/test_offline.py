"""Offline steps: whole episodes of known behaviours, with probabilities that are those of what was done."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation.benchmark import offline


@pytest.fixture(scope="module")
def parts():
    return list(offline.collect(300, seed=1, budget=8, risk="limits", scenario="svt"))


def test_episodes_are_whole_and_in_order(parts) -> None:
    for part in parts:
        ends = part["terminations"] | part["truncations"]
        last = np.r_[part["episodes"][1:] != part["episodes"][:-1], True]
        assert (ends == last).all()
        assert len(part["last"]) == offline.ENVS
        assert all(len(np.unique(part["behaviours"][part["episodes"] == e])) == 1 for e in part["episodes"])
    assert len({tuple(part["observations"][0]) for part in parts}) == len(parts)


def test_probabilities_are_those_of_the_behaviours(parts) -> None:
    steps = {name: np.concatenate([part[name] for part in parts]) for name in offline.FIELDS}
    counts, chance = steps["masks"].sum(axis=1), steps["probabilities"]
    assert steps["masks"][np.arange(len(chance)), steps["actions"]].all(), "only what is allowed was done"
    random = steps["behaviours"] == offline.BEHAVIOURS.index("random")
    assert chance[random] == pytest.approx(1 / counts[random])
    guided = steps["behaviours"] == offline.BEHAVIOURS.index("guideline")
    followed = chance[guided] > 0.5
    assert followed.mean() == pytest.approx(0.9 + 0.1 * np.mean(1 / counts[guided]), abs=0.12)
    assert chance[guided][~followed] == pytest.approx(0.1 / counts[guided][~followed])


def test_a_file_holds_everything(parts, tmp_path) -> None:
    n = offline.save(parts, tmp_path / "steps.npz")
    with np.load(tmp_path / "steps.npz") as file:
        assert len(file["actions"]) == n >= 300
        assert file["names"].tolist() == list(offline.BEHAVIOURS)
        assert len(file["last"]) == offline.ENVS * len(parts)


def test_a_minari_data_set_has_the_steps(parts, tmp_path, monkeypatch) -> None:
    minari = pytest.importorskip("minari", reason="minari is not installed")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    n = offline.save(parts, tmp_path / "steps.npz")
    offline.to_minari(tmp_path / "steps.npz", "ecg/offline-test-v0")
    assert minari.load_dataset("ecg/offline-test-v0").total_steps == n
