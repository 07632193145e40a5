"""The catalogue of diffusion operators: how current flows between the nodes of a graph, for S models at once.

Seven of the eight have the form L = -B^T diag(c) B with every conductance c > 0, or a sum of powers -(-L)^k with
weights >= 0. Whatever a network says, they conserve the sum of u (columns sum to zero) and dissipate (u^T L u <= 0).
``free`` promises nothing and is the baseline. Layout: fields are ``(N, B, S)``, edges ``(E, B, S)`` or ``(E, 1, S)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ecg_gym.tissue import networks
from ecg_gym.tissue.graph import Graph, smooth_basis
from ecg_gym.tissue.spec import Spec

LOG_FACTOR = 3.0  # |log| of what a field or a network of the edges may multiply a conductance by
FLUX_LOG_FACTOR = 1.2  # the same for a network that sees u: it sets the largest stable step at every moment
LOW_DIFFUSION, HIGH_DIFFUSION = 0.05, 6.0  # [mm2/ms]


@dataclass(frozen=True, eq=False)
class TorchGraph:
    """A graph as tensors."""

    graph: Graph
    dtype: torch.dtype = torch.float32

    @cached_property
    def ends(self) -> tuple[Tensor, Tensor]:
        """The two ends of every edge."""
        i, j = self.graph.edges.T
        return torch.as_tensor(np.ascontiguousarray(i)), torch.as_tensor(np.ascontiguousarray(j))

    @cached_property
    def incidence(self) -> tuple[Tensor, Tensor]:
        """B ``(E, N)`` and its transpose, sparse."""
        b = self.graph.incidence
        return _csr(b, self.dtype), _csr(b.T.tocsr(), self.dtype)

    def tensor(self, values: np.ndarray) -> Tensor:
        """An array with this graph's number format."""
        return torch.as_tensor(np.ascontiguousarray(values), dtype=self.dtype)

    @cached_property
    def weight(self) -> Tensor:
        """``(E, 1)`` [1/mm2]."""
        return self.tensor(self.graph.weight)[:, None]

    @cached_property
    def edge_inputs(self) -> Tensor:
        """``(E, F + 2)``: what a network may know of an edge: fibre cosine, relative length, static features."""
        length = self.graph.distance / self.graph.distance.mean() - 1
        columns = [2 * self.graph.fibre_cosine - 1, length, *self.graph.features.T]
        return self.tensor(np.stack(columns, axis=1))

    def basis(self, count: int) -> Tensor:
        """``(N, count)`` smooth basis of a spatial field."""
        return self.tensor(smooth_basis(self.graph, min(count, len(self.graph))))


def _csr(matrix: Any, dtype: torch.dtype) -> Tensor:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls its CSR layout a beta feature
        return torch.sparse_csr_tensor(
            torch.as_tensor(matrix.indptr.astype(np.int64)), torch.as_tensor(matrix.indices.astype(np.int64)),
            torch.as_tensor(matrix.data, dtype=dtype), matrix.shape,
        )  # fmt: skip


class _Flow(torch.autograd.Function):
    """-B^T (c * B u) with the gradient written out: L is symmetric, so its transpose is itself."""

    @staticmethod
    def forward(u: Tensor, c: Tensor, b: Tensor, bt: Tensor) -> Tensor:
        n, k, s = u.shape
        drop = (b @ u.reshape(n, k * s)).reshape(-1, k, s)
        return -(bt @ (c * drop).reshape(len(drop), k * s)).reshape(n, k, s)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        u, c, b, bt = inputs
        ctx.save_for_backward(u, c)
        ctx.save_for_forward(u, c)
        ctx.b, ctx.bt = b, bt

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, c = ctx.saved_tensors
        n, k, s = u.shape
        back = (ctx.b @ grad.reshape(n, k * s)).reshape(-1, k, s)
        to_u = -(ctx.bt @ (c * back).reshape(len(back), k * s)).reshape(n, k, s) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return to_u, None, None, None
        to_c = -back * (ctx.b @ u.reshape(n, k * s)).reshape(-1, k, s)
        return to_u, to_c.sum(1, keepdim=True) if c.shape[1] == 1 else to_c, None, None

    @staticmethod
    def jvp(ctx: Any, du: Tensor | None, dc: Tensor | None, *_: None) -> Tensor:
        u, c = ctx.saved_tensors
        out = torch.zeros_like(u)
        if du is not None:
            out = out + _Flow.forward(du.contiguous(), c, ctx.b, ctx.bt)
        if dc is not None:
            out = out + _Flow.forward(u, dc, ctx.b, ctx.bt)
        return out


def flow(u: Tensor, c: Tensor, graph: TorchGraph) -> Tensor:
    """``(N, B, S)`` [1/ms]: -B^T diag(c) B u for conductances ``c (E, 1 or B, S)`` [1/ms]."""
    return _Flow.apply(u, c, *graph.incidence)


def initial(
    spec: Spec, graph: TorchGraph, rows: int, diffusion: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """Parameters of ``rows`` operators: ``log_d (S, 1)`` and what the kind needs, with a neutral start."""
    out = {"log_d": torch.full((rows, 1), math.log(diffusion))}
    edge_inputs = graph.edge_inputs.shape[1]
    if spec.diffusion == "aniso":
        out["log_ratio"] = torch.full((rows, 1), math.log(2.0))
    elif spec.diffusion in ("spline", "nodes"):
        count = min(spec.width, len(graph.graph)) if spec.diffusion == "spline" else len(graph.graph)
        out["field"] = torch.zeros(rows, count)
    elif spec.diffusion == "gcn":
        out["log_hops"] = torch.log(torch.tensor([1.0, 0.05, 0.05])).repeat(rows, 1)
    elif spec.diffusion == "edge_mlp":
        out |= _weights_by_name(networks.perceptron(rows, edge_inputs, spec.width, 1, generator))
    elif spec.diffusion == "flux_mlp":
        out |= _weights_by_name(networks.perceptron(rows, 3, spec.width, 1, generator))
    elif spec.diffusion == "free":
        out |= _weights_by_name(networks.perceptron(rows, 3, spec.width, 1, generator, last=0.02))
    return out


def _weights_by_name(weights: networks.Weights) -> dict[str, Tensor]:
    return {f"net.{name}": value for name, value in weights.items()}


def _net(p: dict[str, Tensor]) -> networks.Weights:
    return {name[4:]: value for name, value in p.items() if name.startswith("net.")}


class Operator:
    """The operator of S models, ready to be applied: conductances that do not depend on u are worked out once."""

    def __init__(self, spec: Spec, graph: TorchGraph, p: dict[str, Tensor], basis: Tensor | None = None):
        self.kind, self.graph, self.p = spec.diffusion, graph, p
        d = torch.exp(p["log_d"].clamp(math.log(LOW_DIFFUSION), math.log(HIGH_DIFFUSION))).T  # (1, S)
        if self.kind == "aniso":
            cosine = graph.tensor(graph.graph.fibre_cosine**2)[:, None]
            d = d * (cosine + (1 - cosine) * torch.exp(-p["log_ratio"].clamp(0, LOG_FACTOR)).T)
        elif self.kind in ("spline", "nodes"):
            d = d * _bounded_exp(self._edge_field(p, basis))
        elif self.kind == "edge_mlp":
            x = graph.edge_inputs[None].expand(len(p["log_d"]), -1, -1)
            d = d * _bounded_exp(networks.apply(_net(p), x)[..., 0].T)
        self.conductance = (graph.weight * d)[:, None]  # (E, 1, S)

    def _edge_field(self, p: dict[str, Tensor], basis: Tensor | None) -> Tensor:
        field = p["field"].T if basis is None else basis @ p["field"].T  # (N, S)
        i, j = self.graph.ends
        return (field[i] + field[j]) / 2

    def __call__(self, u: Tensor) -> Tensor:
        """``(N, B, S)`` [1/ms] what flows into every node."""
        if self.kind == "gcn":
            return self._hops(u)
        if self.kind == "flux_mlp":
            return flow(u, self.conductance * self._flux_factor(u), self.graph)
        if self.kind == "free":
            return flow(u, self.conductance, self.graph) + self._messages(u)
        return flow(u, self.conductance, self.graph)

    def _hops(self, u: Tensor) -> Tensor:
        """-sum a_k (-M)^k u with M = L / bound, scaled so that a_1 = 1 is plain diffusion."""
        bound = self.graph.graph.row_bound
        weights = torch.exp(self.p["log_hops"].clamp(-9.0, 2.0)).T  # (3, S)
        d = torch.exp(self.p["log_d"].clamp(math.log(LOW_DIFFUSION), math.log(HIGH_DIFFUSION)))[:, 0]
        unit = (self.graph.weight / bound)[:, None].expand(-1, 1, u.shape[2])
        out, power = torch.zeros_like(u), u
        for k in range(3):
            power = -flow(power, unit, self.graph)
            out = out - weights[k] * power
        return d * bound * out

    def _flux_factor(self, u: Tensor) -> Tensor:
        i, j = self.graph.ends
        length = self.graph.edge_inputs[:, 1][:, None, None].expand(-1, *u.shape[1:])
        net = networks.on_nodes(_net(self.p), (u[i] + u[j]) / 2, (u[i] - u[j]).abs(), length)[0]
        return _bounded_exp(net, FLUX_LOG_FACTOR)

    def _messages(self, u: Tensor) -> Tensor:
        i, j = self.graph.ends
        length = self.graph.edge_inputs[:, 1][:, None, None].expand(-1, *u.shape[1:])
        into_i = networks.on_nodes(_net(self.p), u[i], u[j], length)[0]
        into_j = networks.on_nodes(_net(self.p), u[j], u[i], length)[0]
        return torch.zeros_like(u).index_add(0, i, into_i).index_add(0, j, into_j)

    def dense(self) -> Tensor:
        """``(S, N, N)`` the operator as matrices; ``ValueError`` for ``flux_mlp`` and ``free``, which depend on u."""
        if self.kind in ("flux_mlp", "free"):
            raise ValueError(f"diffusion is {self.kind!r}; expected one that is linear in u; use explicit steps")
        n, s = len(self.graph.graph), self.conductance.shape[2]
        unit = torch.eye(n, dtype=self.conductance.dtype)[:, :, None].expand(n, n, s).contiguous()
        return self(unit).permute(2, 0, 1)

    def bound(self) -> float:
        """Largest |eigenvalue| [1/ms] that the operator can have (for ``free``: of its conservative part)."""
        with torch.no_grad():
            ends = torch.zeros(len(self.graph.graph), self.conductance.shape[2], dtype=self.conductance.dtype)
            for end in self.graph.ends:
                ends.index_add_(0, end, self.conductance[:, 0])
            worst = 2 * float(ends.nan_to_num(0.0, 0.0, 0.0).max())
            if self.kind == "gcn":
                worst *= float(torch.exp(self.p["log_hops"].clamp(-9.0, 2.0)).sum(1).max())
            return worst * (math.exp(FLUX_LOG_FACTOR) if self.kind == "flux_mlp" else 1.0)


def _bounded_exp(x: Tensor, limit: float = LOG_FACTOR) -> Tensor:
    """exp of x, which is bent to stay within +-limit."""
    return torch.exp(limit * torch.tanh(x / limit))
