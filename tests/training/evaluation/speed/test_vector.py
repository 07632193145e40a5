"""The benchmark of vector envs: its arithmetic, and that it steps what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from training.evaluation.speed import vector as module
from training.evaluation.speed.vector import CASES, Case, Size


class Stand:
    """A vector env whose steps move a clock by ``seconds`` and are counted."""

    def __init__(self, n: int, seconds: float, clock: list[float]) -> None:
        self.num_envs, self.seconds, self.clock, self.steps, self.closed = n, seconds, clock, 0, False

    def reset(self, seed: int) -> tuple[None, dict[str, Any]]:
        assert seed == 0
        return None, {"action_mask": np.tile([True, False, True], (self.num_envs, 1))}

    def step(self, action: np.ndarray) -> tuple[Any, ...]:
        assert set(action) <= {0, 2}
        self.steps += 1
        self.clock[0] += self.seconds
        return (None, None, None, None, self.reset(0)[1])

    def close(self) -> None:
        self.closed = True


def test_ratios_are_of_neighbouring_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    stands: list[Stand] = []
    clock = [0.0]  # the machine's own is as slow as others make it
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])

    def made(case: Case, n: int, way: str, scenario: str) -> Stand:
        stands.append(Stand(n, {"native": 0.002, "sync": 0.02, "async": 0.01}[way], clock))
        return stands[-1]

    monkeypatch.setattr(module, "_make", made)
    value: list[int] = []
    size = Size(envs=(1, 32), calls=3, turns=2, cases=CASES[:1])
    document = module.study(size, progress=value.append)
    assert sum(value) == module.turns_of(size) == (3 + 2) * 2
    assert [row["way"] for row in document["rows"]] == ["native", "sync", "async", "native", "sync"]
    assert all(stand.closed and stand.steps == 1 + 3 * 2 for stand in stands)
    for n in (1, 32):
        ratio = document["metrics"][f"oracle, limits, {n} envs"]
        assert ratio["value"] == pytest.approx(10)
        assert ratio["ci95"][0] <= ratio["value"] <= ratio["ci95"][1]
    sync = document["rows"][4]
    assert sync["steps_per_second"] == pytest.approx(32 / 0.02)
    assert document["rows"][0]["native_is_times"] == 1


@pytest.mark.slow
def test_it_steps_the_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PROCESSES", 0)
    rates = module.measure(CASES[0], 1, Size(calls=1, turns=1))
    assert set(rates) == {"native", "sync"}
    assert all(rate.shape == (1,) and rate[0] > 0 for rate in rates.values())
