"""A simulation with its derivatives to every parameter, forward in time: what Levenberg-Marquardt and error bars need.

du/dp obeys the linearised equations, d/dt du = f_u du + sum f_h dh + f_p + L du + (dL/dp) u, and is carried along with
u; nothing is stored and nothing runs backwards. For catalogue reactions without a residual on ``iso``, ``aniso`` and
``spline`` diffusion; the loop is :mod:`ecg_gym.tissue.kernel`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ecg_gym.tissue import kernel
from ecg_gym.tissue.diffusion import TorchGraph
from ecg_gym.tissue.model import Model, Stimuli

NUDGE = 1e-6  # of the differences that give the derivatives of conductances
KINDS = ("iso", "aniso", "spline")


def applies(model: Model) -> bool:
    """Whether :func:`simulate_with_tangents` knows this structure."""
    return model.spec.diffusion in KINDS and kernel.applies(model)


def simulate_with_tangents(
    model: Model, stimuli: Stimuli, dt_ms: float, steps: int, every: int
) -> tuple[Tensor, Tensor]:
    """``(T, N, B, S)`` u and ``(T, N, B, K, S)`` its derivatives to the K flat parameters, reaction first."""
    return kernel.simulate_with_tangents(model, stimuli, _conductance_tangents(model), dt_ms, steps, every)


def _conductance_tangents(model: Model) -> Tensor:
    """``(E, Kd, S)`` derivatives of the conductances to the flat diffusion parameters, by differences in float64."""
    names = [name for name in model.parameters if name.startswith("diffusion.")]
    columns = [(name, j) for name in names for j in range(model.parameters[name].shape[1])]
    wide = {name: value.detach().double().repeat(1 + len(columns), 1) for name, value in model.parameters.items()}
    for k, (name, j) in enumerate(columns):
        wide[name][(1 + k) * model.rows : (2 + k) * model.rows, j] -= NUDGE
    with torch.no_grad():
        graph = TorchGraph(model.graph.graph, torch.float64)
        c = Model(model.spec, graph, wide).operator().conductance[:, 0].reshape(-1, 1 + len(columns), model.rows)
    return (c[:, :1] - c[:, 1:]) / NUDGE
