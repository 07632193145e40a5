"""The ratio of a round is of its own two medians."""

from __future__ import annotations

import pytest

from training.evaluation.speed import synthesis


def test_ratios_are_taken_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    ms = iter([300.0, 2.0, 3.0, 6.0, 600.0, 4.0, 6.0, 6.0, 300.0, 2.0, 3.0, 6.0])  # the machine is slow in the second
    monkeypatch.setattr(synthesis, "_ms", lambda work, times: next(ms))
    monkeypatch.setattr(synthesis, "ROUNDS", 3)
    monkeypatch.setattr(synthesis, "PEOPLE", 0)
    rows = {row["what"]: row for row in synthesis.ratios()["rows"]}
    first, volunteer, anybody = rows.values()
    assert (first["times_faster"], first["lowest"], first["highest"]) == (150, 150, 150)
    assert volunteer["times_faster"] == 100
    assert (anybody["times_faster"], anybody["lowest"], anybody["highest"]) == (50, 50, 100)
    assert (first["ms"], first["peer_ms"]) == (2, 300)


def test_a_call_costs_the_median_of_its_cpu_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.004, 1.0, 1.002, 2.0, 2.1])
    monkeypatch.setattr(synthesis.time, "process_time", lambda: next(clock))
    calls: list[int] = []
    assert synthesis._ms(lambda: calls.append(1), 3) == pytest.approx(4.0)
    assert len(calls) == 3
