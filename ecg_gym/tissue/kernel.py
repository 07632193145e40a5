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

LANES = 8  # tangents that one register holds
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
            conductance[:, s].copy(), _wide(slopes[:, :, s], columns), masks[..., s].copy(),
            stimuli.onset_ms[..., s].numpy().astype(float), dt_ms, every, parts, u[s], du[s],
        )  # fmt: skip
    dtype = model.graph.dtype
    return torch.as_tensor(u, dtype=dtype).movedim(0, 3), torch.as_tensor(du, dtype=dtype).movedim(0, 4)


def _wide(slopes: np.ndarray, columns: int) -> np.ndarray:
    """``(E, K')`` float32: derivatives of conductances in the last of ``columns``; the first, the reaction's, are 0."""
    out = np.zeros((len(slopes), -(-columns // LANES) * LANES), np.float32)
    out[:, columns - slopes.shape[1] : columns] = slopes
    return out


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
def _rates(which: int, u: np.ndarray, h: np.ndarray, p: np.ndarray, out: np.ndarray) -> None:
    """Rates of reaction number ``which`` at ``u (N,)``, ``h (H, N)`` into ``out (1 + H, N)``; ``p[0]`` is a record."""
    r = p[0]
    if which == 0:
        for i in range(len(u)):
            out[0, i], (out[1, i],) = _fhn(u[i], (h[0, i],), r, scalars)
    elif which == 1:
        for i in range(len(u)):
            out[0, i], (out[1, i],) = _rm(u[i], (h[0, i],), r, scalars)
    elif which == 2:
        for i in range(len(u)):
            out[0, i], (out[1, i],) = _ap(u[i], (h[0, i],), r, scalars)
    elif which == 3:
        for i in range(len(u)):
            out[0, i], (out[1, i],) = _ms(u[i], (h[0, i],), r, scalars)
    elif which == 4:
        for i in range(len(u)):
            out[0, i], (out[1, i],) = _mms(u[i], (h[0, i],), r, scalars)
    elif which == 5:
        for i in range(len(u)):
            out[0, i], (out[1, i], out[2, i]) = _fk(u[i], (h[0, i], h[1, i]), r, scalars)
    else:
        for i in range(len(u)):
            out[0, i], (out[1, i], out[2, i], out[3, i]) = _bocf(u[i], (h[0, i], h[1, i], h[2, i]), r, scalars)


@compiled_exact
def _simulate(
    which: int, p: np.ndarray, index: np.ndarray, rest: np.ndarray, edges: np.ndarray, conductance: np.ndarray,
    slopes: np.ndarray, masks: np.ndarray, onset_ms: np.ndarray, dt: float, every: int, parts: int, record: np.ndarray,
    kept_du: np.ndarray,
) -> None:  # fmt: skip
    """Fills ``record (T, N, B)`` and, where it has room, ``kept_du (T, N, B, K)``; one protocol after the other.

    ``slopes (E, K')`` has a column for every tangent, K of them and some of zeros, so that columns fill registers.
    """
    samples, n, beats = record.shape
    columns, hidden, kr = kept_du.shape[3], len(rest), len(index)
    wide = slopes.shape[1] if columns else 0
    size, q = 1 + hidden, p.view(np.float64)  # the same memory: what changes in q changes in p[0]
    base, flow = np.empty((size, n)), np.empty(n)
    room = n if columns else 0
    other, aside = np.empty((size, room)), np.empty((size, room))
    local = np.empty((size, size + kr, room))
    push, dflow = np.empty((room, wide), np.float32), np.empty((room, wide), np.float32)
    for b in range(beats):
        u, h = np.zeros(n), np.empty((hidden, n))
        du, dh = np.zeros((room, wide), np.float32), np.zeros((hidden, room, wide), np.float32)
        for j in range(hidden):
            h[j] = rest[j]
        for step in range(samples * every):
            t = step * dt
            _rates(which, u, h, p, base)
            if columns:
                _derivatives(which, u, h, p, q, index, base, other, aside, dt, local)
                _push(local, du, dh, kr, push)
            for j in range(hidden):
                for i in range(n):
                    h[j, i] = min(max(h[j, i] + dt * base[1 + j, i], HIDDEN_RANGE[0]), HIDDEN_RANGE[1])
            _stimulate(masks, onset_ms, b, t, base[0])
            if parts > 1:
                for i in range(n):
                    u[i] += dt * base[0, i]
                    for k in range(wide):
                        du[i, k] += push[i, k]
            for _ in range(parts):
                _flows(u, edges, conductance, flow)
                if columns:
                    _flow_tangents(u, du, edges, conductance, slopes, dt / parts, dflow)
                    for i in range(n):
                        for k in range(wide):
                            du[i, k] += dflow[i, k]
                for i in range(n):
                    u[i] += (dt / parts) * flow[i]
            for i in range(n):
                if parts == 1:
                    u[i] += dt * base[0, i]
                    for k in range(wide):
                        du[i, k] += push[i, k]
                inside = min(max(u[i], U_RANGE[0]), U_RANGE[1])
                if inside != u[i]:
                    u[i] = inside
                    for k in range(wide):
                        du[i, k] = 0.0
            if (step + 1) % every == 0:
                row = step // every
                for i in range(n):
                    record[row, i, b] = u[i]
                    for k in range(columns):
                        kept_du[row, i, b, k] = du[i, k]


@compiled_exact
def _stimulate(masks: np.ndarray, onset_ms: np.ndarray, b: int, t: float, f: np.ndarray) -> None:
    """Adds the stimulus of protocol ``b`` at ``t`` to the rates ``f (N,)`` of u; where two overlap, one counts."""
    for m in range(len(masks)):
        if onset_ms[m, b] <= t + 1e-6 and t + 1e-6 < onset_ms[m, b] + STIMULUS_MS:
            for i in range(len(f)):
                already = False
                for other in range(m):
                    if masks[other, i, b] and onset_ms[other, b] <= t + 1e-6 < onset_ms[other, b] + STIMULUS_MS:
                        already = True
                if masks[m, i, b] and not already:
                    f[i] += STIMULUS_PER_MS


@compiled_exact
def _derivatives(
    which: int, u: np.ndarray, h: np.ndarray, p: np.ndarray, q: np.ndarray, index: np.ndarray, base: np.ndarray,
    other: np.ndarray, aside: np.ndarray, dt: float, local: np.ndarray,
) -> None:  # fmt: skip
    """``dt`` times the derivatives of the rates ``base`` to u, the hidden variables and the log parameters.

    By differences, into ``local (1 + H, 1 + H + parameters, N)``; ``other`` and ``aside (1 + H, N)`` are scratch.
    """
    size, n = base.shape
    up = dt / NUDGE
    for i in range(n):
        aside[0, i] = u[i] + NUDGE
    _rates(which, aside[0], h, p, other)
    for j in range(size):
        for i in range(n):
            local[j, 0, i] = (other[j, i] - base[j, i]) * up
    for m in range(size - 1):
        aside[m] = h[m]
    for m in range(size - 1):
        for i in range(n):
            aside[m, i] += NUDGE
        _rates(which, u, aside, p, other)
        aside[m] = h[m]
        for j in range(size):
            for i in range(n):
                local[j, 1 + m, i] = (other[j, i] - base[j, i]) * up
    for m in range(len(index)):
        before = q[index[m]]
        q[index[m]] = before * (1 - NUDGE)  # downwards, so that a parameter at its upper bound has a derivative too
        _rates(which, u, h, p, other)
        q[index[m]] = before
        for j in range(size):
            for i in range(n):
                local[j, size + m, i] = (base[j, i] - other[j, i]) * up


@compiled_exact
def _push(local: np.ndarray, du: np.ndarray, dh: np.ndarray, kr: int, push: np.ndarray) -> None:
    """One step of the reaction: what tangents of u gain into ``push (N, K)``; those of the hidden variables go on."""
    hidden, n, wide = dh.shape
    size = 1 + hidden
    before = np.empty((hidden, wide), np.float32)
    for i in range(n):
        factor = np.float32(local[0, 0, i])
        for k in range(wide):
            push[i, k] = factor * du[i, k]
        for j in range(hidden):
            factor = np.float32(local[0, 1 + j, i])
            for k in range(wide):
                push[i, k] += factor * dh[j, i, k]
                before[j, k] = dh[j, i, k]
        for k in range(kr):
            push[i, k] += np.float32(local[0, size + k, i])
        for j in range(hidden):
            factor = np.float32(local[1 + j, 0, i])
            for k in range(wide):
                dh[j, i, k] += factor * du[i, k]
            for m in range(hidden):
                factor = np.float32(local[1 + j, 1 + m, i])
                for k in range(wide):
                    dh[j, i, k] += factor * before[m, k]
            for k in range(kr):
                dh[j, i, k] += np.float32(local[1 + j, size + k, i])


@compiled_exact
def _flows(u: np.ndarray, edges: np.ndarray, conductance: np.ndarray, flow: np.ndarray) -> None:
    """What flows into every node [1/ms] into ``flow (N,)``."""
    flow[:] = 0.0
    for e in range(len(edges)):
        i, j = edges[e, 0], edges[e, 1]
        part = conductance[e] * (u[j] - u[i])
        flow[i] += part
        flow[j] -= part


@compiled_exact
def _flow_tangents(
    u: np.ndarray, du: np.ndarray, edges: np.ndarray, conductance: np.ndarray, slopes: np.ndarray, dt: float,
    dflow: np.ndarray,
) -> None:  # fmt: skip
    """``dt`` times the derivatives of the flows into ``dflow (N, K)``."""
    dflow[:] = 0.0
    for e in range(len(edges)):
        i, j = edges[e, 0], edges[e, 1]
        c, drop = np.float32(dt * conductance[e]), np.float32(dt * (u[j] - u[i]))
        for k in range(du.shape[1]):
            part = c * (du[j, k] - du[i, k]) + slopes[e, k] * drop
            dflow[i, k] += part
            dflow[j, k] -= part
