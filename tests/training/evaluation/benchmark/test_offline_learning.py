"""Learning from recorded steps: what is refused; with d3rlpy, a policy that resumes and keeps to masks."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from training.evaluation.benchmark import offline_learning
from training.evaluation.benchmark.offline_learning import OfflinePolicy, train_offline
from training.evaluation.benchmark.policies import load_policy

ACTIONS, FEATURES, EPISODES, LENGTH = 4, 3, 40, 5


@pytest.fixture
def recorded(tmp_path):
    """Steps in which action 2 earns 1 and the others nothing."""
    rng, n = np.random.default_rng(0), EPISODES * LENGTH
    actions, ends = rng.integers(ACTIONS, size=n), np.arange(n) % LENGTH == LENGTH - 1
    path = tmp_path / "steps.npz"
    np.savez(
        path, observations=rng.normal(size=(n, FEATURES)), actions=actions, rewards=(actions == 2).astype(float),
        terminations=ends, truncations=np.zeros(n, bool), masks=np.ones((n, ACTIONS), bool),
    )  # fmt: skip
    return path


def test_what_is_no_algorithm_or_no_file_of_steps_is_refused(recorded, tmp_path) -> None:
    with pytest.raises(ValueError, match="algorithm is 'iql'; expected one of cql, bc; check the spelling"):
        next(train_offline("iql", recorded, tmp_path))
    with pytest.raises(ValueError, match=r"holds no recorded steps.*; expected the .npz of `ecg-gym data offline`"):
        next(train_offline("cql", tmp_path / "nothing.npz", tmp_path))
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match=r"other.npz holds no recorded steps"):
        next(train_offline("bc", tmp_path / "other.npz", tmp_path))
    with pytest.raises(ValueError, match=r"nothing.d3 is not there; expected a .d3 of a trained policy"):
        load_policy(str(tmp_path / "nothing.d3"))


def test_without_d3rlpy_one_sentence_says_what_to_install(recorded, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "d3rlpy", None)
    with pytest.raises(ValueError, match=r"expected the extra; run pip install 'ecg-gym\[offline\]'"):
        next(train_offline("cql", recorded, tmp_path))


@pytest.mark.parametrize("algorithm", ["cql", "bc"])
def test_a_training_goes_on_where_it_was_killed_and_the_policy_takes_what_is_allowed(
    algorithm, recorded, tmp_path, monkeypatch
) -> None:
    pytest.importorskip("d3rlpy", reason="d3rlpy is not installed (the extra `offline`)")
    monkeypatch.setattr(offline_learning, "EVERY", 100)
    done = []

    def killed(steps: int) -> None:
        done.append(steps)
        if sum(done) == 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(train_offline(algorithm, recorded, tmp_path / "run", 400, seeds=1, progress=killed))
    done.clear()
    [path] = train_offline(algorithm, recorded, tmp_path / "run", 400, seeds=1, progress=done.append)
    assert done == [200, 100, 100]
    about = json.loads((tmp_path / "run" / "0.json").read_text())
    assert [step for step, _ in about["losses"]] == [100, 200, 300, 400]
    assert sorted(p.name for p in path.parent.iterdir()) == ["0.d3", "0.json"]
    policy, rows = OfflinePolicy(path), np.zeros((6, FEATURES))
    if algorithm == "cql":
        assert (policy.predict(rows)[0] == 2).all()
        masks = np.ones((6, ACTIONS), bool)
        masks[:3, 2] = False
        actions, memory = policy.predict(rows, action_masks=masks)
        assert (actions[:3] != 2).all()
        assert (actions[3:] == 2).all()
        assert memory is None
    assert load_policy(str(path)).sha256 == load_policy(str(tmp_path / "run" / "{seed}.d3")).sha256
