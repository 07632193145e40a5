"""Intervals of a fit's parameters hold the truth, also where the fit itself was left unfinished."""

from __future__ import annotations

import numpy as np

from ecg_gym.tissue import Spec, fit, hearts
from ecg_gym.tissue.fitting import FitOptions, flushed_denormals, model_of, protocol_stimuli
from ecg_gym.tissue.intervals import estimate
from ecg_gym.tissue.objective import Target


def test_an_unfinished_fit_leaves_no_bias_in_the_intervals() -> None:
    """Two Gauss-Newton steps with the slopes of the coarse simulation left this heart's tin nine deviations off."""
    heart = hearts("ms", [6020])[0]
    options = FitOptions(newton_stages=((0.22, 2), (0.55, 2), (1.0, 4)))
    result = fit([Spec("ms")], [heart], options)[0][0]
    assert heart.truth is not None
    truth = np.log([heart.truth.values[name] for name in result.values if name != "diffusion"])
    pacing, target = protocol_stimuli([heart], heart.train), Target.of([heart], heart.train)
    with flushed_denormals():
        estimates = estimate(model_of([result], [heart]), pacing, target, options.dt_ms)
    gap = np.abs(estimates.log_value[0] - truth) / estimates.deviation[0]
    assert gap.max() < 2.6
    assert (estimates.deviation >= estimates.white).all()
    fitted = np.log([value for name, value in result.values.items() if name != "diffusion"])
    assert (np.abs(fitted - truth) / estimates.deviation[0]).max() > 4  # the fit alone is off
