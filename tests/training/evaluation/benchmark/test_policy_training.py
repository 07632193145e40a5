"""Learners on every scenario at once: zips that can be evaluated, curves, and trainings that go on."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("stable_baselines3")
pytest.importorskip("sb3_contrib")

from training.evaluation.benchmark import learners, policy_training
from training.evaluation.benchmark.evaluation import Evaluation, Job, play
from training.evaluation.benchmark.policies import load_policy

SMALL = {"n_steps": 8, "batch_size": 16, "n_epochs": 1, "learning_rate": 1e-3}
REPLAY = {"learning_starts": 8, "buffer_size": 64, "batch_size": 8, "train_freq": 2}


@pytest.mark.parametrize("algorithm", ["maskable-ppo", "qrdqn", "recurrent-ppo"])
def test_a_policy_per_training_seed_with_its_curve(algorithm, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(policy_training.SETTINGS, algorithm, REPLAY if algorithm == "qrdqn" else SMALL)
    how = {
        "steps": 64,
        "seeds": 2,
        "envs": 4,
        "every": 32,
        "env_arguments": {"risk": "limits", "scenario": "svt", "horizon": 6},
    }
    paths = list(policy_training.train_policy(algorithm, tmp_path, **how))
    assert [path.name for path in paths] == ["0.zip", "1.zip"]
    described = json.loads((tmp_path / "0.json").read_text())
    assert described["steps"] == 64
    assert sum(n for *_, n in described["curve"]) > 0
    assert not (tmp_path / "0.part").exists()
    before = [path.stat().st_mtime_ns for path in paths]
    assert [path.stat().st_mtime_ns for path in policy_training.train_policy(algorithm, tmp_path, **how)] == before
    evaluation = Evaluation("validation", ("svt",), 2, risk="limits", fidelity="vitals")
    rows = play(Job(evaluation, str(tmp_path / "{seed}.zip"), "model", "svt", 1, 0))
    assert len(rows) == 2


def test_a_search_goes_by_a_trained_policy(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(policy_training.SETTINGS, "maskable-ppo", SMALL)
    arguments = {"risk": "limits", "scenario": "svt", "horizon": 3}
    how = {"steps": 32, "seeds": 2, "envs": 4, "env_arguments": arguments}
    one, other = policy_training.train_policy("maskable-ppo", tmp_path, **how)
    evaluation = Evaluation("validation", ("svt",), 2, risk="limits", fidelity="vitals")
    words = "search:budget=2;prior={}"
    rows = play(Job(evaluation, words.format(one), "model", "svt", 0, 0))
    assert all(row["model_calls"] > 0 for row in rows)
    hashes = {load_policy(words.format(path)).sha256 for path in (one, other)}
    assert len(hashes | {load_policy("search:budget=2").sha256}) == 3
    with pytest.raises(ValueError, match=r"is not there; expected a \.zip of a trained policy"):
        load_policy("search:prior=absent.zip")


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["maskable-ppo", "dqn"])
def test_a_training_that_was_killed_goes_on_from_its_checkpoint(algorithm, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(policy_training.SETTINGS, algorithm, REPLAY if algorithm == "dqn" else SMALL)
    arguments = {"risk": "limits", "scenario": "svt", "horizon": 6}
    how = {"steps": 128, "seeds": 1, "envs": 4, "every": 32, "env_arguments": arguments}
    keep, kept = learners._keep, []

    def dies(model, diary, folder):
        keep(model, diary, folder)
        kept.append(diary["steps"])
        if len(kept) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(learners, "_keep", dies)
    with pytest.raises(KeyboardInterrupt):
        next(policy_training.train_policy(algorithm, tmp_path, **how))
    next(policy_training.train_policy(algorithm, tmp_path, **how))
    assert kept[0] < 128 <= json.loads((tmp_path / "0.json").read_text())["steps"]
    assert kept == sorted(kept)


def test_another_algorithm_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="expected one of ppo"):
        next(policy_training.train_policy("sarsa", tmp_path))
