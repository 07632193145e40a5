"""Gradients of structures with a network, as a compiled loop: forwards with every state kept, then backwards.

The same steps as ``ecg_gym.tissue.model.simulate`` and the exact gradient of those steps, in float64, heart by heart
and protocol by protocol: twenty times faster than tensors of a few hearts. For catalogue reactions with a residual
network, and for the neural reaction, wherever the conductances do not depend on u.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ecg_gym.compiled import compiled_exact
from ecg_gym.tissue.kernel import DIFFUSIONS, NAMES, RECORD, _derivatives, _rates
from ecg_gym.tissue.model import (
    HIDDEN_RANGE,
    LARGEST_EXPLICIT,
    NEURAL_SCALE,
    RESIDUAL_SCALE,
    U_RANGE,
    Model,
    Stimuli,
)
from ecg_gym.tissue.reactions import REACTIONS, reaction
from ecg_gym.tissue.recording import STIMULUS_MS, STIMULUS_PER_MS

LAYERS = ("w1", "b1", "w2", "b2", "w3", "b3")
NEURAL = REACTIONS.index("neural")
Layers = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def applies(model: Model) -> bool:
    """Whether the loop knows this structure: a network in the reaction or beside it, conductances that are numbers."""
    spec = model.spec
    return spec.diffusion in DIFFUSIONS and (spec.residual != "none") != (spec.reaction == "neural")


def simulate(model: Model, stimuli: Stimuli, dt_ms: float, steps: int, every: int) -> tuple[Tensor, Tensor]:
    """``(T, N, B, S)`` u of models that start at rest, after every ``every``-th step; ``(S,)`` the residual's share.

    Both have gradients to the model's parameters; the share is 0 where there is no residual.
    """
    r, n = reaction(model.spec.reaction), len(model.graph.graph)
    role = "neural" if model.spec.reaction == "neural" else "residual"
    operator = model.operator()
    parts = max(1, math.ceil(dt_ms * operator.bound() / LARGEST_EXPLICIT))
    flat = torch.zeros(model.rows, 0, dtype=model.graph.dtype)
    if r.parameters:
        low, high = (torch.tensor([math.log(getattr(row, side)) for row in r.parameters]) for side in ("low", "high"))
        flat = model.parameters["reaction"].clamp(low, high)
    code = model.parameters.get("code", torch.zeros(model.rows, n, 0, dtype=model.graph.dtype))
    weights = [model.parameters[f"{role}.{name}"] for name in LAYERS]
    grid = (model.spec.reaction, model.graph.graph.edges, stimuli, dt_ms, steps, every, parts)
    u, shares = _Loop.apply(grid, flat, operator.conductance[:, 0].T, code, *weights)
    return u, shares[:, 0] / (shares[:, 1].detach() + 1e-12)


class _Loop(torch.autograd.Function):
    """u ``(T, N, B, S)`` and ``(S, 2)`` mean squares of the residual and of the reaction, summed over steps."""

    @staticmethod
    def forward(ctx: Any, grid: tuple[Any, ...], flat: Tensor, conductance: Tensor, code: Tensor, *weights: Tensor):
        name, edges, stimuli, dt, steps, every, parts = grid
        r, (rows, n) = reaction(name), code.shape[:2]
        masks, onset = stimuli.masks.numpy() > 0.5, stimuli.onset_ms.numpy().astype(float)
        beats, hidden = masks.shape[2], len(r.rest)
        arrays = [_numbers(x) for x in (flat, conductance, code, *weights)]
        index = np.array([NAMES.index(row.name) for row in r.parameters], int)
        u = np.empty((rows, steps // every, n, beats))
        shares = np.zeros((rows, 2))
        states = np.empty((rows, beats, steps + 1, n, 2 + hidden))  # u, hidden, u after the reaction
        ctx.edges, ctx.which, ctx.index, ctx.dtype = edges, REACTIONS.index(name), index, flat.dtype
        ctx.dt, ctx.every, ctx.parts, ctx.arrays, ctx.states = dt, every, parts, arrays, states
        for s in range(rows):
            mine = [x[s] for x in arrays]
            states[s, :, 0, :, 0], states[s, :, 0, :, 1:-1] = 0.0, np.array(r.rest)
            _forward(
                ctx.which, _record(index, mine[0]), edges, mine[1], mine[2], *_layers(mine[3:]), masks[..., s].copy(),
                onset[..., s].copy(), dt, every, parts, states[s], u[s], shares[s],
            )  # fmt: skip
        return torch.as_tensor(u, dtype=flat.dtype).movedim(0, 3), torch.as_tensor(shares, dtype=flat.dtype)

    @staticmethod
    def backward(ctx: Any, du: Tensor, dshares: Tensor):
        slope, share = _numbers(du.movedim(3, 0)), _numbers(dshares)
        gradients = [np.zeros_like(x) for x in ctx.arrays]
        for s in range(len(slope)):
            mine, out = [x[s] for x in ctx.arrays], [x[s] for x in gradients]
            values = _record(ctx.index, mine[0])
            _backward(
                ctx.which, values, values.view(np.float64), ctx.index, ctx.edges, mine[1], mine[2], *_layers(mine[3:]),
                ctx.dt, ctx.every, ctx.parts, ctx.states[s], slope[s], share[s, 0], out[0], out[1], out[2],
                *_layers(out[3:]),
            )  # fmt: skip
        return None, *(torch.as_tensor(x, dtype=ctx.dtype) for x in gradients)


def _numbers(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.detach().numpy(), dtype=float)


def _record(index: np.ndarray, logs: np.ndarray) -> np.ndarray:
    values = np.zeros(len(NAMES))
    values[index] = np.exp(logs)
    return values.view(RECORD)


def _layers(arrays: list[np.ndarray]) -> Layers:
    """Biases as vectors; views, so that what is added to them is added to the arrays."""
    w1, b1, w2, b2, w3, b3 = arrays
    return w1, b1[0], w2, b2[0], w3, b3[0]


@compiled_exact
def _bend(x: np.ndarray) -> None:
    """tanh of every element, in place, right to 1e-9: the fraction of Lambert on an eighth of x, doubled three times.

    Nothing but arithmetic, so that several elements are worked out at once.
    """
    for j in range(len(x)):
        t = min(max(x[j], -12.0), 12.0) * 0.125
        q = t * t
        t *= (135135.0 + q * (17325.0 + q * (378.0 + q))) / (135135.0 + q * (62370.0 + q * (3150.0 + q * 28.0)))
        t = 2.0 * t / (1.0 + t * t)
        t = 2.0 * t / (1.0 + t * t)
        x[j] = 2.0 * t / (1.0 + t * t)


@compiled_exact
def _network(
    x: np.ndarray, w1: np.ndarray, b1: np.ndarray, w2: np.ndarray, b2: np.ndarray, w3: np.ndarray, b3: np.ndarray,
    first: np.ndarray, second: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """Both hidden layers and the outputs ``(m,)`` of a network of ``x (inputs,)``."""
    width = len(b1)
    for j in range(width):
        first[j] = b1[j]
        second[j] = b2[j]
    for k in range(len(x)):
        for j in range(width):
            first[j] += x[k] * w1[k, j]
    _bend(first)
    for k in range(width):
        for j in range(width):
            second[j] += first[k] * w2[k, j]
    _bend(second)
    for m in range(len(out)):
        out[m] = b3[m]
    for k in range(width):
        for m in range(len(out)):
            out[m] += second[k] * w3[k, m]


@compiled_exact
def _network_back(
    x: np.ndarray, w1: np.ndarray, w2t: np.ndarray, w3: np.ndarray, first: np.ndarray, second: np.ndarray,
    slope: np.ndarray, dx: np.ndarray, d1: np.ndarray, d2: np.ndarray, g1: np.ndarray, h1: np.ndarray, g2: np.ndarray,
    h2: np.ndarray, g3: np.ndarray, h3: np.ndarray,
) -> None:  # fmt: skip
    """Gradient to the inputs into ``dx``, to the weights added to ``g``, to the biases added to ``h``.

    ``w2t`` is the second matrix transposed: every inner loop then runs along memory and adds to different numbers.
    """
    width = len(d1)
    for j in range(width):
        d1[j] = d2[j] = 0.0
    for m in range(len(slope)):
        h3[m] += slope[m]
        for j in range(width):
            g3[j, m] += second[j] * slope[m]
            d2[j] += w3[j, m] * slope[m]
    for j in range(width):
        d2[j] *= 1.0 - second[j] * second[j]
        h2[j] += d2[j]
    for j in range(width):
        for k in range(width):
            d1[k] += w2t[j, k] * d2[j]
    for k in range(width):
        for j in range(width):
            g2[k, j] += first[k] * d2[j]
    for k in range(width):
        d1[k] *= 1.0 - first[k] * first[k]
        h1[k] += d1[k]
    for k in range(len(x)):
        total = 0.0
        for j in range(width):
            g1[k, j] += x[k] * d1[j]
            total += w1[k, j] * d1[j]
        dx[k] = total


@compiled_exact
def _flow(u: np.ndarray, edges: np.ndarray, conductance: np.ndarray, out: np.ndarray) -> None:
    """What flows into every node [1/ms]."""
    out[:] = 0.0
    for e in range(len(edges)):
        part = conductance[e] * (u[edges[e, 1]] - u[edges[e, 0]])
        out[edges[e, 0]] += part
        out[edges[e, 1]] -= part


@compiled_exact
def _inputs(state: np.ndarray, code: np.ndarray, x: np.ndarray) -> None:
    """What the network sees of a node: u, the first hidden variable and the node's code."""
    x[0], x[1] = state[0], state[1]
    for k in range(len(code)):
        x[2 + k] = code[k]


@compiled_exact
def _columns(state: np.ndarray, u: np.ndarray, hidden: np.ndarray) -> None:
    """One state ``(N, 2 + hidden)`` as ``u (N,)`` and ``hidden (H, N)``, as the rates take it."""
    for i in range(len(u)):
        u[i] = state[i, 0]
        for j in range(len(hidden)):
            hidden[j, i] = state[i, 1 + j]


@compiled_exact
def _forward(
    which: int, p: np.ndarray, edges: np.ndarray, conductance: np.ndarray, code: np.ndarray, w1: np.ndarray,
    b1: np.ndarray, w2: np.ndarray, b2: np.ndarray, w3: np.ndarray, b3: np.ndarray, masks: np.ndarray,
    onset_ms: np.ndarray, dt: float, every: int, parts: int, states: np.ndarray, record: np.ndarray, shares: np.ndarray,
) -> None:  # fmt: skip
    """Fills ``states (B, steps + 1, N, 2 + hidden)`` from their first step on, and ``record (T, N, B)``."""
    beats, steps, n = states.shape[:3]
    size = states.shape[3] - 1
    width, outputs = len(b1), len(b3)
    x, first, second = np.empty(len(w1)), np.empty(width), np.empty(width)
    out, zero, base = np.empty(outputs), np.empty(outputs), np.empty(size)
    x[:] = 0.0
    _network(x, w1, b1, w2, b2, w3, b3, first, second, zero)
    f, flow, u = np.empty(n), np.empty(n), np.empty(n)
    hidden, rates = np.empty((size - 1, n)), np.empty((size, n))
    for b in range(beats):
        for step in range(steps - 1):
            t = step * dt
            old, new = states[b, step], states[b, step + 1]
            if which != NEURAL:
                _columns(old, u, hidden)
                _rates(which, u, hidden, p, rates)
            for i in range(n):
                _inputs(old[i], code[i], x)
                _network(x, w1, b1, w2, b2, w3, b3, first, second, out)
                if which == NEURAL:
                    base[0] = NEURAL_SCALE[0] * (out[0] - zero[0])
                    base[1] = NEURAL_SCALE[1] * (out[1] - zero[1])
                else:
                    base[:] = rates[:, i]
                    extra = RESIDUAL_SCALE * out[0]
                    shares[0] += extra * extra / (n * beats)
                    shares[1] += base[0] * base[0] / (n * beats)
                    base[0] += extra
                for m in range(len(masks)):
                    onset = onset_ms[m, b]
                    if masks[m, i, b] and onset <= t + 1e-6 and t + 1e-6 < onset + STIMULUS_MS:
                        base[0] += STIMULUS_PER_MS
                        break
                f[i], u[i] = base[0], old[i, 0]
                for j in range(1, size):
                    new[i, j] = min(max(old[i, j] + dt * base[j], HIDDEN_RANGE[0]), HIDDEN_RANGE[1])
            if parts > 1:
                u += dt * f
                old[:, size] = u
            for _ in range(parts):
                _flow(u, edges, conductance, flow)
                u += (dt / parts) * flow
            if parts == 1:
                u += dt * f
            for i in range(n):
                new[i, 0] = min(max(u[i], U_RANGE[0]), U_RANGE[1])
            if (step + 1) % every == 0:
                for i in range(n):
                    record[step // every, i, b] = new[i, 0]


@compiled_exact
def _backward(
    which: int, p: np.ndarray, q: np.ndarray, index: np.ndarray, edges: np.ndarray, conductance: np.ndarray,
    code: np.ndarray, w1: np.ndarray, b1: np.ndarray, w2: np.ndarray, b2: np.ndarray, w3: np.ndarray, b3: np.ndarray,
    dt: float, every: int, parts: int, states: np.ndarray, slope: np.ndarray, share: float, to_flat: np.ndarray,
    to_conductance: np.ndarray, to_code: np.ndarray, g1: np.ndarray, h1: np.ndarray, g2: np.ndarray, h2: np.ndarray,
    g3: np.ndarray, h3: np.ndarray,
) -> None:  # fmt: skip
    """Adds the gradient of sum(slope * u kept) + share * (mean squares of the residual) to the last nine arrays."""
    beats, steps, n = states.shape[:3]
    size = states.shape[3] - 1
    width, outputs, kr = len(b1), len(b3), len(index)
    x, first, second, out = np.empty(len(w1)), np.empty(width), np.empty(width), np.empty(outputs)
    dx, d1, d2, pull = np.empty(len(w1)), np.empty(width), np.empty(width), np.empty(outputs)
    base, other, aside = np.empty((size, n)), np.empty((size, n)), np.empty((size, n))
    local, u, hidden = np.empty((size, size + kr, n)), np.empty(n), np.empty((size - 1, n))
    f, gain, zero = np.zeros(n), np.empty(size), np.zeros(outputs)
    sub, flow = np.empty((parts, n)), np.empty(n)
    to_u, to_h, w2t = np.empty(n), np.empty((n, size - 1)), np.ascontiguousarray(w2.T)
    for b in range(beats):
        to_u[:], to_h[:] = 0.0, 0.0
        for step in range(steps - 2, -1, -1):
            old, new = states[b, step], states[b, step + 1]
            for i in range(n):
                if (step + 1) % every == 0:
                    to_u[i] += slope[step // every, i, b]
                if new[i, 0] <= U_RANGE[0] or new[i, 0] >= U_RANGE[1]:
                    to_u[i] = 0.0
                for j in range(size - 1):
                    if new[i, 1 + j] <= HIDDEN_RANGE[0] or new[i, 1 + j] >= HIDDEN_RANGE[1]:
                        to_h[i, j] = 0.0
            for i in range(n):  # diffusion begins at the old u where it is one part, else at u after the reaction
                sub[0, i], f[i] = old[i, size if parts > 1 else 0], dt * to_u[i]
            for part in range(1, parts):
                _flow(sub[part - 1], edges, conductance, flow)
                for i in range(n):
                    sub[part, i] = sub[part - 1, i] + (dt / parts) * flow[i]
            for part in range(parts - 1, -1, -1):
                for e in range(len(edges)):
                    i, j = edges[e, 0], edges[e, 1]
                    to_conductance[e] += (dt / parts) * (to_u[i] - to_u[j]) * (sub[part, j] - sub[part, i])
                _flow(to_u, edges, conductance, flow)
                for i in range(n):
                    to_u[i] += (dt / parts) * flow[i]
            if parts > 1:
                for i in range(n):
                    f[i] = dt * to_u[i]
            if which != NEURAL:
                _columns(old, u, hidden)
                _rates(which, u, hidden, p, base)
                _derivatives(which, u, hidden, p, q, index, base, other, aside, 1.0, local)
            for i in range(n):
                _inputs(old[i], code[i], x)
                _network(x, w1, b1, w2, b2, w3, b3, first, second, out)
                if which == NEURAL:
                    pull[0] = NEURAL_SCALE[0] * f[i]
                    pull[1] = NEURAL_SCALE[1] * dt * to_h[i, 0]
                    zero[0] -= pull[0]
                    zero[1] -= pull[1]
                else:
                    pull[0] = RESIDUAL_SCALE * (f[i] + 2.0 * share * RESIDUAL_SCALE * out[0] / (n * beats))
                _network_back(x, w1, w2t, w3, first, second, pull, dx, d1, d2, g1, h1, g2, h2, g3, h3)
                for k in range(code.shape[1]):
                    to_code[i, k] += dx[2 + k]
                if which == NEURAL:
                    to_u[i] += dx[0]
                    to_h[i, 0] += dx[1]
                    continue
                up = local[0, 0, i] * f[i]
                for j in range(size - 1):
                    up += local[1 + j, 0, i] * dt * to_h[i, j]
                for k in range(kr):
                    total = local[0, size + k, i] * f[i]
                    for j in range(size - 1):
                        total += local[1 + j, size + k, i] * dt * to_h[i, j]
                    to_flat[k] += total
                for m in range(size - 1):
                    total = local[0, 1 + m, i] * f[i]
                    for j in range(size - 1):
                        total += local[1 + j, 1 + m, i] * dt * to_h[i, j]
                    gain[m] = total
                for m in range(size - 1):
                    to_h[i, m] += gain[m]
                to_u[i] += up + dx[0]
                to_h[i, 0] += dx[1]
    if which == NEURAL:  # what the network gives at rest is taken off everywhere
        x[:] = 0.0
        _network(x, w1, b1, w2, b2, w3, b3, first, second, out)
        _network_back(x, w1, w2t, w3, first, second, zero, dx, d1, d2, g1, h1, g2, h2, g3, h3)
