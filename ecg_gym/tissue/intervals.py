"""90 % intervals of a fit's reaction parameters: from the curvature of its error and how its residuals hang together.

A fit is not the place to read them off: its penalties pull towards nominal values harder than the data's noise
warrants, and its steps of 0.5 ms leave a bias. So the fit goes on with a prior of ``PRIOR_SD`` weighted by the noise
that is left, and then with steps ``FINER`` times finer until nothing is gained any more: what coarse steps or an
unfinished descent leave behind can be many times the interval. White noise would give the covariance of Laplace; where
the model is a little wrong (a smooth field for a patch) the residuals of a node hang together in time, which the
sandwich of Liang and Zeger (1986, Biometrika 73:13) with one cluster per node and protocol takes in. Each parameter has
the wider of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ecg_gym.tissue.kernel import voltages
from ecg_gym.tissue.model import Model, Stimuli
from ecg_gym.tissue.objective import Target
from ecg_gym.tissue.polishing import flatten, jacobian, levenberg_marquardt, prior_of
from ecg_gym.tissue.reactions import reaction

Z90 = 1.6448536  # standard normal quantile of a two-sided 90 % interval
PRIOR_SD = 0.5  # of log parameters of the reaction and of a field's log conductances
FINER = 4  # steps of the finer simulation per step of the fit
POLISH_STEPS, FINE_STEPS = 4, 16
SETTLED = 1e-6  # share of the loss: about a twentieth of a unit of chi square


@dataclass(frozen=True, eq=False)
class Estimate:
    """Where the reaction's log parameters lie, for S models and P parameters."""

    log_value: np.ndarray  # (S, P)
    deviation: np.ndarray  # (S, P) standard deviation, the wider of the two
    white: np.ndarray  # (S, P) the same as if residuals were independent

    def intervals(self, model: Model, s: int) -> dict[str, tuple[float, float]]:
        """Low and high ends of the 90 % interval of every reaction parameter of model ``s``, in its unit."""
        half = np.minimum(Z90 * self.deviation[s], 5.0)
        low, high = np.exp(self.log_value[s] - half), np.exp(self.log_value[s] + half)
        rows = reaction(model.spec.reaction).parameters
        return {row.name: (float(low[k]), float(high[k])) for k, row in enumerate(rows)}


def estimate(model: Model, stimuli: Stimuli, target: Target, dt_ms: float) -> Estimate:
    """The reaction's parameters of S fitted models with their errors; the models themselves stay as they are."""
    residual = _residuals(model, stimuli, target, dt_ms)
    noise = (residual**2).sum(1).mean() / residual.shape[1]  # of one scaled residual
    field = next((v.shape[1] for k, v in model.parameters.items() if k == "diffusion.field"), 1)
    mean, weight = prior_of(model, float(noise) / PRIOR_SD**2 * field, float(noise) / PRIOR_SD**2)
    for fine, steps in ((dt_ms, POLISH_STEPS), (dt_ms / FINER, FINE_STEPS)):
        model, _ = levenberg_marquardt(model, stimuli, target, (mean, weight), steps, fine, settled=SETTLED)
    r, j = (x.nan_to_num(0.0, 0.0, 0.0).double() for x in jacobian(model, stimuli, target, dt_ms / FINER))
    weight, flat = weight.double(), flatten(model).double()
    normal = j.transpose(1, 2) @ j + torch.diag_embed(weight.expand(len(j), -1))
    sensors = target.mask.shape[0] if target.kind == "electrodes" else len(model.graph.graph)
    clusters = sensors * stimuli.masks.shape[2]
    inverse = torch.linalg.inv(normal)
    effective = (j.abs().sum(2) > 0).sum(1).clamp(min=1)
    white = ((r**2).sum(1) / effective)[:, None, None] * inverse
    scores = (j * r[..., None]).reshape(len(j), -1, clusters, j.shape[2]).sum(1)  # (S, clusters, K)
    sandwich = inverse @ (scores.transpose(1, 2) @ scores) @ inverse * clusters / max(clusters - 1, 1)
    count = len(reaction(model.spec.reaction).parameters)  # "reaction" is the first part of the flat vector
    deviations = [torch.diagonal(x, dim1=1, dim2=2)[:, :count].clamp(min=0).sqrt().numpy() for x in (white, sandwich)]
    return Estimate(flat[:, :count].numpy(), np.maximum(*deviations), deviations[0])


def _residuals(model: Model, stimuli: Stimuli, target: Target, dt_ms: float) -> Tensor:
    """``(S, R)`` scaled residuals; the last axis of those of voltages is nodes (or electrodes) times protocols."""
    every = round(target.sample_ms / dt_ms)
    u = voltages(model, stimuli, dt_ms, target.samples * every, every)
    return target.residuals(u).nan_to_num(0.0, 0.0, 0.0).double()
