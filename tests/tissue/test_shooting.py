"""Windows of a recording from free states: they close their gaps, and lead near parameters that a fit then finishes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecg_gym.tissue import DataSet, FitOptions, Spec, hearts, sheet
from ecg_gym.tissue.model import Model
from ecg_gym.tissue.shooting import ShootingOptions, fit_long, shoot
from ecg_gym.tissue.synthetic import observe

OPTIONS = ShootingOptions(stages=((0.1, 8, 0.08), (1.0, 10, 0.05)))


@pytest.fixture(scope="module")
def heart() -> DataSet:
    return hearts("ms", [5], graph=sheet(4))[0]


def test_windows_lead_from_far_parameters_towards_the_true_ones_and_close_their_gaps(heart: DataSet) -> None:
    assert heart.truth is not None
    true = np.log([heart.truth.values[name] for name in ("tin", "tout", "topen", "tclose")])
    model = Model.nominal(Spec("ms", "iso"), heart.graph, 1)
    model.parameters["reaction"][:, :4] = torch.as_tensor(true) + torch.tensor([0.3, -0.4, 0.4, -0.4])
    fitted, gaps = shoot(model, heart, OPTIONS)
    far = np.abs(model.parameters["reaction"][0, :4].numpy() - true).mean()
    near = np.abs(fitted.parameters["reaction"][0, :4].numpy() - true).mean()
    assert near < 0.7 * far
    assert gaps[-1] < gaps[0]


def test_a_fit_after_the_windows_reaches_the_noise(heart: DataSet) -> None:
    fit = fit_long(Spec("ms", "spline", width=8), heart, OPTIONS, FitOptions(newton_stages=((1.0, 5),)))
    assert fit.train_error < 1.3 * heart.noise**2


def test_what_cannot_be_cut_is_refused(heart: DataSet) -> None:
    model = Model.nominal(Spec("ms", "iso"), heart.graph, 1)
    with pytest.raises(ValueError, match="expected 'voltage' on every node"):
        shoot(model, observe(heart, "times", 0))
    with pytest.raises(ValueError, match="1 windows of 400 ms; expected at least 2"):
        shoot(model, heart, ShootingOptions(window_ms=400.0))
