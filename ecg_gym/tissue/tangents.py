"""A simulation with its derivatives to every parameter, forward in time: what Levenberg-Marquardt and error bars need.

du/dp obeys the linearised equations, d/dt du = f_u du + sum f_h dh + f_p + L du + (dL/dp) u, and is carried along with
u; nothing is stored and nothing runs backwards. The local derivatives f_u, f_h and f_p come from differences in float64
on the few nodes of the trajectory itself, so they cost one call of the reaction per step whatever the number of
columns. For catalogue reactions without a residual on ``iso``, ``aniso`` and ``spline`` diffusion.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ecg_gym.tissue.model import HIDDEN_RANGE, LARGEST_EXPLICIT, U_RANGE, Model, Stimuli, rates

NUDGE = 1e-6  # of the differences, in float64
KINDS = ("iso", "aniso", "spline")


def applies(model: Model) -> bool:
    """Whether :func:`simulate_with_tangents` knows this structure."""
    return model.spec.diffusion in KINDS and model.spec.residual == "none" and model.spec.reaction != "neural"


def simulate_with_tangents(
    model: Model, stimuli: Stimuli, dt_ms: float, steps: int, every: int
) -> tuple[Tensor, Tensor]:
    """``(T, N, B, S)`` u and ``(T, N, B, K, S)`` its derivatives to the K flat parameters, reaction first."""
    local = _Local(model)
    operator, to_conductance = model.operator(), _conductance_tangents(model)  # (E, Kd, S)
    c, (b, bt) = operator.conductance[:, :, None], model.graph.incidence  # (E, 1, 1, S)
    parts = max(1, math.ceil(dt_ms * operator.bound() / LARGEST_EXPLICIT))
    u, hidden = model.rest(stimuli.masks.shape[2])
    n, k, s = *u.shape[:2], model.rows
    kr = local.count
    du = torch.zeros(n, k, kr + to_conductance.shape[1], s)
    dh = [torch.zeros_like(du) for _ in hidden]
    kept, slopes = [], []
    for step in range(steps):
        f, g, derivatives = local(u, hidden)
        current = stimuli.current(step * dt_ms)
        push = local.push(derivatives[0], du, dh)
        dh = [d.add(local.push(rows, du, dh), alpha=dt_ms) for d, rows in zip(dh, derivatives[1:])]
        hidden = tuple((h + dt_ms * x).clamp(*HIDDEN_RANGE) for h, x in zip(hidden, g))
        u = u + dt_ms * (f if current is None else f + current) if parts > 1 else u
        reached, carried = (u, du.add(push, alpha=dt_ms)) if parts > 1 else (u, du)
        for _ in range(parts):
            drop = (b @ reached.reshape(n, -1)).reshape(-1, k, 1, s)
            slope = c * (b @ carried.reshape(n, -1)).reshape(-1, k, du.shape[2], s)
            slope[:, :, kr:] += to_conductance[:, None] * drop
            flow = -(bt @ (c * drop).reshape(len(drop), -1)).reshape(n, k, s)
            reached = reached + (dt_ms / parts) * flow
            carried = carried.sub((bt @ slope.reshape(len(drop), -1)).reshape(du.shape), alpha=dt_ms / parts)
        if parts == 1:
            reached = reached + dt_ms * (f if current is None else f + current)
            carried = carried.add_(push, alpha=dt_ms)
        u, du = reached.clamp(*U_RANGE), carried
        if not torch.equal(u, reached):
            du = du * (u == reached)[:, :, None]
        if (step + 1) % every == 0:
            kept.append(u)
            slopes.append(du)
    return torch.stack(kept), torch.stack(slopes)


class _Local:
    """The reaction's rates on the trajectory and their derivatives to u, the hidden variables and the parameters."""

    def __init__(self, model: Model):
        wide = Model(model.spec, model.graph, {k: v.double() for k, v in model.parameters.items()})
        self.count = model.parameters["reaction"].shape[1]
        self.hidden = len(model.rest(1)[1])
        self.s = model.rows
        copies = 2 + self.hidden + self.count  # itself, nudged u, nudged hidden variables, nudged parameters
        flat = wide.parameters["reaction"].repeat(copies, 1)
        self.sign = torch.ones(self.count, self.s, dtype=torch.float64)
        for j in range(self.count):
            rows = slice((2 + self.hidden + j) * self.s, (3 + self.hidden + j) * self.s)
            flat[rows, j] -= NUDGE  # downwards, so that a parameter at its upper bound has a derivative too
            self.sign[j] = -1.0
        parameters = {k: v.repeat(copies, *[1] * (v.dim() - 1)) for k, v in wide.parameters.items()} | {
            "reaction": flat
        }
        self.rates, self.copies = rates(Model(model.spec, model.graph, parameters)), copies

    def __call__(self, u: Tensor, hidden: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...], list[Tensor]]:
        """Rates of u and of the hidden variables, and for each a ``(N, B, 1 + H + K, S)`` stack of derivatives."""
        n, k, s = u.shape
        shape = (n, k, self.copies, s)
        fields = [x.double()[:, :, None].expand(shape).contiguous() for x in (u, *hidden)]
        for j, x in enumerate(fields):
            x[:, :, 1 + j] += NUDGE
        f, g = self.rates.reaction(fields[0].reshape(n, k, -1), tuple(x.reshape(n, k, -1) for x in fields[1:]))
        out = []
        for x in (f, *g):
            x = x.reshape(shape)
            slope = (x[:, :, 1:] - x[:, :, :1]) / NUDGE
            slope[:, :, 1 + self.hidden :] *= self.sign
            out.append(slope.float())
        first = lambda x: x.reshape(shape)[:, :, 0].float()  # noqa: E731 - the copy that is not nudged
        return first(f), tuple(first(x) for x in g), out

    def push(self, slope: Tensor, du: Tensor, dh: list[Tensor]) -> Tensor:
        """How fast one variable's tangents grow by the reaction, ``(N, B, K, S)``."""
        out = slope[:, :, :1] * du
        for j, d in enumerate(dh):
            out.addcmul_(slope[:, :, 1 + j : 2 + j], d)
        out[:, :, : self.count] += slope[:, :, 1 + self.hidden :]
        return out


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
