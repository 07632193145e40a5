"""Screening without strips keeps what a ranking by strips would put first, and draws nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ecg_gym.core import WATCH, State
from ecg_gym.envs.scenarios import scenario_named
from ecg_gym.risk import RiskModel
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.virtual_patient import world as module
from planners.ranking import plan
from planners.screening import contenders


@pytest.fixture(scope="module")
def patient() -> State:
    return VirtualPatient().initial(1, np.random.default_rng(4), rhythm="af_rapid")


def test_no_strip_is_drawn(patient: State, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Callable[..., Any]:
        raise AssertionError("a strip was drawn")

    monkeypatch.setattr(module, "draw_strips", refuse)
    menu = scenario_named("af_rapid_response").menu
    kept = contenders(VirtualPatient(), patient.undrawn(), RiskModel.limits_only(), menu, k=4, keep=3)
    assert WATCH in kept
    assert 3 <= len(kept) <= 4
    assert set(kept) <= set(menu)


def test_the_best_by_strips_is_among_the_contenders(patient: State) -> None:
    world, risk, menu = VirtualPatient(), RiskModel.limits_only(), scenario_named("af_rapid_response").menu
    kept = contenders(world, patient, risk, menu, k=8, keep=6)
    whole = plan(world, patient, menu, risk, k=8, rules=lambda *_, **__: ())
    tied = {candidate.treatment for candidate in whole.candidates if candidate.tie == 1}
    assert tied & set(kept)
    assert len(kept) < len(whole.candidates)


def test_a_short_menu_is_kept_whole(patient: State) -> None:
    menu = scenario_named("af_rapid_response").menu[:3]
    assert set(contenders(VirtualPatient(), patient, RiskModel.limits_only(), menu, keep=8)) == set(menu)


def test_a_world_without_readings_is_refused(patient: State) -> None:
    class Other:
        dt_hours = 1.0

    with pytest.raises(ValueError, match="rank all candidates"):
        contenders(Other(), patient, RiskModel.limits_only(), (WATCH,))  # type: ignore[arg-type]
