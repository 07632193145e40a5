"""A simulation with its derivatives to every parameter, forward in time: what Levenberg-Marquardt and error bars need.

du/dp obeys the linearised equations, d/dt du = f_u du + sum f_h dh + f_p + L du + (dL/dp) u, and is carried along with
u; nothing is stored and nothing runs backwards. For catalogue reactions without a residual on ``iso``, ``aniso`` and
``spline`` diffusion; the loop is :mod:`ecg_gym.tissue.kernel`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ecg_gym.tissue import kernel
from ecg_gym.tissue.model import Model, Stimuli

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
    """``(E, Kd, S)`` derivatives of the conductances to the flat diffusion parameters, row by row at once."""
    leaves = {k: v.detach() for k, v in model.parameters.items()}
    columns = []
    for name, value in leaves.items():
        if not name.startswith("diffusion."):
            continue
        for j in range(value.shape[1]):
            unit = torch.zeros_like(value)
            unit[:, j] = 1.0

            def conductance(x: Tensor, name: str = name) -> Tensor:
                return model.with_parameters(leaves | {name: x}).operator().conductance

            columns.append(torch.func.jvp(conductance, (value,), (unit,))[1][:, 0])
    return torch.stack(columns, dim=1)
