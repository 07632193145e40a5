"""A simulation of one heart as a compiled loop, with or without its derivatives to every parameter.

The same steps as ``ecg_gym.tissue.model.simulate`` and the same linearised equations as ``ecg_gym.tissue.tangents``, in
float64, heart by heart and protocol by protocol: five to thirty times faster than tensors of a few hearts, because
nothing leaves the cache. The rates are the functions of ``ecg_gym.tissue.reactions`` themselves, compiled. For
catalogue reactions without a residual whose conductances do not depend on u.
"""

from __future__ import annotations

import math
from types import FunctionType
from typing import Any

import numpy as np
import torch
from numba.extending import register_jitable
from torch import Tensor

from ecg_gym.compiled import compiled_exact
from ecg_gym.tissue import reactions, scalars
from ecg_gym.tissue.model import HIDDEN_RANGE, LARGEST_EXPLICIT, U_RANGE, Model, Stimuli, simulate
from ecg_gym.tissue.reactions import REACTIONS, reaction
from ecg_gym.tissue.recording import STIMULUS_MS, STIMULUS_PER_MS

NUDGE = 1e-6  # of the differences that give the local derivatives
DIFFUSIONS = ("iso", "aniso", "spline", "nodes", "edge_mlp")  # conductances are numbers, one per edge
NAMES = tuple(sorted({row.name for name in REACTIONS for row in reaction(name).parameters}))
RECORD = np.dtype([(name, np.float64) for name in NAMES])  # of the parameters of every reaction; most are unused


def applies(model: Model) -> bool:
    """Whether the loop knows this structure."""
    spec = model.spec
    return spec.diffusion in DIFFUSIONS and spec.residual == "none" and spec.reaction != "neural"


def voltages(model: Model, stimuli: Stimuli, dt_ms: float, steps: int, every: int) -> Tensor:
    """``(T, N, B, S)`` u of models that start at rest, kept after every ``every``-th step; no gradients.

    Structures that the loop does not know are simulated by ``ecg_gym.tissue.model.simulate``.
    """
    if not applies(model):
        with torch.no_grad():
            return simulate(model, stimuli, dt_ms, steps, every).u
    none = torch.zeros(len(model.graph.graph.edges), 0, model.rows)
    return _run(model, stimuli, none, False, dt_ms, steps, every)[0]


def simulate_with_tangents(
    model: Model, stimuli: Stimuli, conductance_tangents: Tensor, dt_ms: float, steps: int, every: int
) -> tuple[Tensor, Tensor]:
    """``(T, N, B, S)`` u and ``(T, N, B, K, S)`` its derivatives to the flat parameters, reaction first.

    ``conductance_tangents (E, Kd, S)`` are those of the conductances to the flat diffusion parameters.
    """
    return _run(model, stimuli, conductance_tangents, True, dt_ms, steps, every)


def _run(
    model: Model, stimuli: Stimuli, to_conductance: Tensor, tangents: bool, dt_ms: float, steps: int, every: int
) -> tuple[Tensor, Tensor]:
    operator, r, n = model.operator(), reaction(model.spec.reaction), len(model.graph.graph)
    parts = max(1, math.ceil(dt_ms * operator.bound() / LARGEST_EXPLICIT))
    low, high = np.log([row.low for row in r.parameters]), np.log([row.high for row in r.parameters])
    flat = np.clip(model.parameters["reaction"].detach().numpy().astype(float), low, high)
    conductance = operator.conductance[:, 0].detach().numpy().astype(float)
    slopes, masks = to_conductance.detach().numpy().astype(float), stimuli.masks.numpy() > 0.5
    beats = masks.shape[2]
    columns = len(low) + slopes.shape[1] if tangents else 0
    u = np.empty((model.rows, steps // every, n, beats), np.float32)
    du = np.empty((model.rows, steps // every if tangents else 0, n, beats, columns), np.float32)
    index = np.array([NAMES.index(row.name) for row in r.parameters])
    for s in range(model.rows):
        values = np.zeros(len(NAMES))
        values[index] = np.exp(flat[s])
        _simulate(
            REACTIONS.index(model.spec.reaction), values.view(RECORD), index, np.array(r.rest), model.graph.graph.edges,
            conductance[:, s].copy(), slopes[:, :, s].copy(), masks[..., s].copy(),
            stimuli.onset_ms[..., s].numpy().astype(float), dt_ms, every, parts, u[s], du[s],
        )  # fmt: skip
    dtype = model.graph.dtype
    return torch.as_tensor(u, dtype=dtype).movedim(0, 3), torch.as_tensor(du, dtype=dtype).movedim(0, 4)


def _scalar(name: str, **others: Any) -> Any:
    """A function of ``reactions`` for Numba, with ``others`` in place of what it calls by those names."""
    function = getattr(reactions, name)
    copy = FunctionType(function.__code__, function.__globals__ | others, name, function.__defaults__)
    return register_jitable(copy)


_above = _scalar("_above")
_gate = _scalar("_gate")
_fhn, _rm, _ms, _mms, _ap, _fk, _bocf = (
    _scalar(name, _above=_above, _gate=_gate) for name in ("fhn", "rm", "ms", "mms", "ap", "fk", "bocf")
)


@compiled_exact
def _rates(which: int, u: float, h: np.ndarray, p: np.ndarray, out: np.ndarray) -> None:
    """Rates of u and of the hidden variables of reaction number ``which`` into ``out``; ``p[0]`` is a record."""
    if which == 0:
        out[0], (out[1],) = _fhn(u, (h[0],), p[0], scalars)
    elif which == 1:
        out[0], (out[1],) = _rm(u, (h[0],), p[0], scalars)
    elif which == 2:
        out[0], (out[1],) = _ap(u, (h[0],), p[0], scalars)
    elif which == 3:
        out[0], (out[1],) = _ms(u, (h[0],), p[0], scalars)
    elif which == 4:
        out[0], (out[1],) = _mms(u, (h[0],), p[0], scalars)
    elif which == 5:
        out[0], (out[1], out[2]) = _fk(u, (h[0], h[1]), p[0], scalars)
    else:
        out[0], (out[1], out[2], out[3]) = _bocf(u, (h[0], h[1], h[2]), p[0], scalars)


@compiled_exact
def _simulate(
    which: int, p: np.ndarray, index: np.ndarray, rest: np.ndarray, edges: np.ndarray, conductance: np.ndarray,
    slopes: np.ndarray, masks: np.ndarray, onset_ms: np.ndarray, dt: float, every: int, parts: int, kept: np.ndarray,
    kept_du: np.ndarray,
) -> None:  # fmt: skip
    """Fills ``kept (T, N, B)`` and, where it has room, ``kept_du (T, N, B, K)``; one protocol after the other."""
    samples, n, beats = kept.shape
    columns, hidden, kr = kept_du.shape[3], len(rest), len(index)
    size, q = 1 + hidden, p.view(np.float64)  # the same memory: what changes in q changes in p[0]
    base, moved = np.empty(size), np.empty(size)
    local, pushed = np.empty((size, size + kr)), np.empty((hidden, columns))
    f, push = np.empty(n), np.empty((n, columns))
    flow, dflow = np.empty(n), np.empty((n, columns))
    for b in range(beats):
        u, du, h = np.zeros(n), np.zeros((n, columns)), np.empty((n, hidden))
        dh = np.zeros((n, hidden, columns))
        h[:] = rest
        for step in range(samples * every):
            t = step * dt
            for i in range(n):
                _rates(which, u[i], h[i], p, base)
                if columns:
                    _derivatives(which, u[i], h[i], p, q, index, base, moved, local)
                    for k in range(columns):
                        push[i, k] = local[0, 0] * du[i, k]
                    for j in range(hidden):
                        for k in range(columns):
                            push[i, k] += local[0, 1 + j] * dh[i, j, k]
                            pushed[j, k] = local[1 + j, 0] * du[i, k]
                        for m in range(hidden):
                            for k in range(columns):
                                pushed[j, k] += local[1 + j, 1 + m] * dh[i, m, k]
                        for k in range(kr):
                            pushed[j, k] += local[1 + j, size + k]
                    for k in range(kr):
                        push[i, k] += local[0, size + k]
                    for j in range(hidden):
                        for k in range(columns):
                            dh[i, j, k] += dt * pushed[j, k]
                f[i] = base[0]
                for j in range(hidden):
                    h[i, j] = min(max(h[i, j] + dt * base[1 + j], HIDDEN_RANGE[0]), HIDDEN_RANGE[1])
                for m in range(len(masks)):
                    onset = onset_ms[m, b]
                    if masks[m, i, b] and onset <= t + 1e-6 and t + 1e-6 < onset + STIMULUS_MS:
                        f[i] += STIMULUS_PER_MS
                        break
            if parts > 1:
                for i in range(n):
                    u[i] += dt * f[i]
                    for k in range(columns):
                        du[i, k] += dt * push[i, k]
            for _ in range(parts):
                _flows(u, du, edges, conductance, slopes, flow, dflow)
                for i in range(n):
                    u[i] += (dt / parts) * flow[i]
                    for k in range(columns):
                        du[i, k] += (dt / parts) * dflow[i, k]
            for i in range(n):
                if parts == 1:
                    u[i] += dt * f[i]
                    for k in range(columns):
                        du[i, k] += dt * push[i, k]
                inside = min(max(u[i], U_RANGE[0]), U_RANGE[1])
                if inside != u[i]:
                    u[i] = inside
                    du[i] = 0.0
            if (step + 1) % every == 0:
                row = step // every
                for i in range(n):
                    kept[row, i, b] = u[i]
                    for k in range(columns):
                        kept_du[row, i, b, k] = du[i, k]


@compiled_exact
def _derivatives(
    which: int, u: float, h: np.ndarray, p: np.ndarray, q: np.ndarray, index: np.ndarray, base: np.ndarray,
    moved: np.ndarray, local: np.ndarray,
) -> None:  # fmt: skip
    """Local derivatives of all rates to u, the hidden variables and the log parameters, by differences."""
    size = len(base)
    _rates(which, u + NUDGE, h, p, moved)
    for j in range(size):
        local[j, 0] = (moved[j] - base[j]) / NUDGE
    for m in range(size - 1):
        before = h[m]
        h[m] = before + NUDGE
        _rates(which, u, h, p, moved)
        h[m] = before
        for j in range(size):
            local[j, 1 + m] = (moved[j] - base[j]) / NUDGE
    for m in range(len(index)):
        before = q[index[m]]
        q[index[m]] = before * (1 - NUDGE)  # downwards, so that a parameter at its upper bound has a derivative too
        _rates(which, u, h, p, moved)
        q[index[m]] = before
        for j in range(size):
            local[j, size + m] = (base[j] - moved[j]) / NUDGE


@compiled_exact
def _flows(
    u: np.ndarray, du: np.ndarray, edges: np.ndarray, conductance: np.ndarray, slopes: np.ndarray, flow: np.ndarray,
    dflow: np.ndarray,
) -> None:  # fmt: skip
    """What flows into every node [1/ms] into ``flow (N,)``, and its derivatives into ``dflow (N, K)``."""
    columns, kd = du.shape[1], slopes.shape[1]
    flow[:] = 0.0
    dflow[:] = 0.0
    for e in range(len(edges)):
        i, j, c = edges[e, 0], edges[e, 1], conductance[e]
        drop = u[j] - u[i]
        flow[i] += c * drop
        flow[j] -= c * drop
        for k in range(columns):
            part = c * (du[j, k] - du[i, k])
            dflow[i, k] += part
            dflow[j, k] -= part
        if columns:
            for m in range(kd):
                part = slopes[e, m] * drop
                dflow[i, columns - kd + m] += part
                dflow[j, columns - kd + m] -= part
