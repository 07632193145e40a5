"""Fits: the right reaction wins, rows do not disturb each other, what is not finite costs only its own row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ecg_gym.tissue import DataSet, Spec, fit, hearts, held_out_errors, polishing
from ecg_gym.tissue.diagnostics import DIAGNOSTICS
from ecg_gym.tissue.fitting import FitOptions, descend, protocol_stimuli
from ecg_gym.tissue.model import Model
from ecg_gym.tissue.objective import Target

QUICK = FitOptions(newton_stages=((0.22, 2), (0.55, 2), (1.0, 2)), stages=((0.1, 2, 0.05),))


@pytest.fixture(scope="module")
def heart() -> DataSet:
    return hearts("ms", [0])[0]


def test_a_seed_gives_the_same_heart_alone_or_among_others(heart: DataSet) -> None:
    again = hearts("ms", [0])[0]
    assert again.key == heart.key
    assert len(heart.key) == 16


@pytest.mark.slow
def test_the_true_reaction_is_fitted_to_the_noise_and_wins(heart: DataSet) -> None:
    own, other = fit([Spec("ms")], [heart])[0][0], fit([Spec("ap")], [heart], QUICK)[0][0]
    assert own.train_error < 1.3 * heart.noise**2
    assert own.validation_error < other.validation_error
    assert own.stable
    assert set(own.diagnostics) == set(DIAGNOSTICS)
    errors = held_out_errors([own], [heart])[0]
    assert errors["mae"] < 0.02
    assert errors["activation_ms"] < 3.0


def test_intervals_lie_around_the_truth_and_come_only_when_asked(heart: DataSet) -> None:
    options = FitOptions(newton_stages=((0.22, 2), (0.55, 2), (1.0, 6)), intervals=True)
    result = fit([Spec("ms")], [heart], options)[0][0]
    assert set(result.intervals) == {"tin", "tout", "topen", "tclose", "ug"}
    assert heart.truth is not None
    for name, (low, high) in result.intervals.items():
        assert low < high < 1.3 * low
        assert (low * high) ** 0.5 == pytest.approx(heart.truth.values[name], rel=0.1)


def test_a_row_that_is_not_finite_loses_its_gradient_and_not_the_batch(heart: DataSet) -> None:
    data = [heart, heart]
    model = Model.nominal(Spec("ms"), heart.graph, 2)
    model.parameters["diffusion.field"][1, 0] = float("nan")
    before = model.parameters["reaction"][0].clone()
    target, stimuli = Target.of(data, heart.train), protocol_stimuli(data, heart.train)
    best = descend(model, stimuli, target, 0.1, 3, 0.05, FitOptions())
    assert bool(torch.isfinite(best[0]))
    assert not bool(torch.isfinite(best[1]))
    assert not torch.equal(model.parameters["reaction"][0], before)
    assert bool(torch.isfinite(model.parameters["reaction"]).all())


def test_a_stage_ends_when_nothing_is_gained_any_more(heart: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    data = [heart]
    calls: list[int] = []
    slopes = polishing.jacobian

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return slopes(*arguments)

    monkeypatch.setattr(polishing, "jacobian", counted)
    target, stimuli = Target.of(data, heart.train), protocol_stimuli(data, heart.train)
    model = Model.nominal(Spec("ms", "iso"), heart.graph, 1)
    prior = polishing.prior_of(model, 1e-3, 1e-5)
    first, loss = polishing.levenberg_marquardt(model, stimuli, target, prior, 40, 0.5, 0.2)
    assert 2 < len(calls) < 40
    before = len(calls)
    _, again = polishing.levenberg_marquardt(first, stimuli, target, prior, 40, 0.5, 0.2)
    assert len(calls) - before < before
    assert float(again[0]) == pytest.approx(float(loss[0]), rel=2e-3)


def test_a_structure_with_networks_is_fitted_by_adam(heart: DataSet) -> None:
    result = fit([Spec("ms", "edge_mlp", "uv", 8)], [heart], QUICK)[0][0]
    assert np.isfinite(result.train_error)
    assert result.residual_share >= 0
    assert result.n_parameters > 100


def test_a_kind_of_observation_outside_the_four_is_refused(heart: DataSet) -> None:
    from dataclasses import replace

    with pytest.raises(ValueError, match="kind"):
        replace(heart, kind="smell")
