"""The study of the engine's speed tells every ratio by its name, and counts its turns rightly."""

from __future__ import annotations

import pytest

from training.evaluation.speed import engine

pytestmark = pytest.mark.slow


def test_every_ratio_is_told() -> None:
    size = engine.Size(turns=1, calls=1, warm_up=1, envs=(64,), neurokit=False, plans=1, memory_steps=128)
    turns: list[int] = []
    document = engine.study(size, lambda: turns.append(1))
    assert {
        "vitals_vs_cartpole", "learned_vitals_vs_cartpole", "native_vs_sync_64", "native_vs_sync_64_learned",
        "plan_50x16_cpu_s", "memory",
    } <= set(document["metrics"])  # fmt: skip
    assert len(turns) == engine.turns_of(size)
    assert 0 <= document["metrics"]["plan_50x16_cpu_s"]["best_unchanged_within_ties"] <= 1
