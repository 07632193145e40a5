"""``Model``: S tissue models of one structure as one set of tensors, and ``simulate``, which runs them.

u and the hidden variables are ``(N, B, S)``: nodes, trajectories (one per pacing protocol), models (one per data set or
restart, last, so that parameters ``(S,)`` broadcast along contiguous memory). One explicit step is ``u + dt (f(u, v) +
r(u, v) + stimulus)`` followed by as many diffusion sub-steps as keep dt x bound below 1.6; ``implicit=True`` takes one
backward Euler step of a linear operator instead, through a dense inverse. u is held inside -0.6..1.4 and hidden
variables inside -4..8 at every step, which no catalogue model reaches by itself at its nominal values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ecg_gym.tissue import diffusion, networks
from ecg_gym.tissue.diffusion import Operator, TorchGraph
from ecg_gym.tissue.graph import Graph
from ecg_gym.tissue.reactions import reaction
from ecg_gym.tissue.recording import STIMULUS_MS, STIMULUS_PER_MS, Pacing
from ecg_gym.tissue.spec import Spec

U_RANGE = (-0.6, 1.4)
HIDDEN_RANGE = (-4.0, 8.0)
LARGEST_EXPLICIT = 1.6  # dt times the largest |eigenvalue| of an explicit diffusion step; 2 is the limit of stability
RESIDUAL_SCALE = 0.05  # [1/ms] of the residual's output layer
NEURAL_SCALE = (0.3, 0.03)  # [1/ms] of the neural reaction's two outputs

State = tuple[Tensor, tuple[Tensor, ...]]


@dataclass(eq=False)
class Model:
    """Parameters ``(S, ...)`` of S models of one structure; ``parameters`` are leaves that a fit may change."""

    spec: Spec
    graph: TorchGraph
    parameters: dict[str, Tensor]

    @classmethod
    def nominal(cls, spec: Spec, graph: Graph, rows: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Model:
        """``rows`` models at the nominal values; networks start small, fields start flat."""
        g, r = TorchGraph(graph, dtype), reaction(spec.reaction)
        generator = torch.Generator().manual_seed(seed)
        p: dict[str, Tensor] = {}
        if r.parameters:
            p["reaction"] = torch.log(torch.tensor([row.value for row in r.parameters])).repeat(rows, 1)
        spread = diffusion.initial(spec, g, rows, r.diffusion * graph.coarseness, generator)
        p |= {f"diffusion.{k}": v for k, v in spread.items()}
        if spec.reaction == "neural":
            net = networks.perceptron(rows, 2, spec.width, 2, generator, last=0.3)
            p |= {f"neural.{k}": v for k, v in net.items()}
        if spec.residual != "none":
            inputs = 2 + (2 if spec.residual == "uv_code" else 0)
            residual = networks.perceptron(rows, inputs, spec.width, 1, generator, last=0.0)  # begins as none
            p |= {f"residual.{k}": v for k, v in residual.items()}
        if spec.residual == "uv_code":
            p["code"] = 0.1 * torch.randn(rows, len(graph), 2, generator=generator)
        return cls(spec, g, {name: value.to(dtype) for name, value in p.items()})

    @property
    def rows(self) -> int:
        """S."""
        return len(self.parameters["diffusion.log_d"])

    @property
    def count(self) -> int:
        """Fitted numbers per model."""
        return sum(value[0].numel() for value in self.parameters.values())

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The parameters whose names begin with ``prefix.``, without it."""
        return {k[len(prefix) + 1 :]: v for k, v in self.parameters.items() if k.startswith(prefix + ".")}

    def with_parameters(self, parameters: dict[str, Tensor]) -> Model:
        """The same structure with other numbers."""
        return Model(self.spec, self.graph, parameters)

    def operator(self) -> Operator:
        """The diffusion operator at the present parameters."""
        basis = self.graph.basis(self.spec.width) if self.spec.diffusion == "spline" else None
        return Operator(self.spec, self.graph, self.part("diffusion"), basis)

    def rest(self, trajectories: int) -> State:
        """u and hidden variables at rest, ``(N, B, S)``."""
        shape = (len(self.graph.graph), trajectories, self.rows)
        hidden = tuple(torch.full(shape, value, dtype=self.graph.dtype) for value in reaction(self.spec.reaction).rest)
        return torch.zeros(shape, dtype=self.graph.dtype), hidden

    def values(self) -> dict[str, np.ndarray]:
        """``(S,)`` of every named parameter of the reaction, in its unit, and ``diffusion`` [mm2/ms]."""
        out = {"diffusion": torch.exp(self.parameters["diffusion.log_d"][:, 0]).detach().numpy()}
        for k, row in enumerate(reaction(self.spec.reaction).parameters):
            out[row.name] = torch.exp(self.parameters["reaction"][:, k]).detach().numpy()
        return out


@dataclass(frozen=True, eq=False)
class Stimuli:
    """Who is stimulated when, for S models and B trajectories."""

    masks: Tensor  # (K, N, B, S) 0 or 1
    onset_ms: Tensor  # (K, B, S)

    @classmethod
    def of(cls, pacing: list[list[Pacing]], n: int, dtype: torch.dtype = torch.float32) -> Stimuli:
        """From ``pacing[s][b]``."""
        beats = max(len(p.nodes) for row in pacing for p in row)
        masks = np.zeros((beats, n, len(pacing[0]), len(pacing)))
        onset = np.full((beats, len(pacing[0]), len(pacing)), 1e9)
        for s, row in enumerate(pacing):
            for b, protocol in enumerate(row):
                for k, (nodes, start) in enumerate(zip(protocol.nodes, protocol.onset_ms)):
                    masks[k, list(nodes), b, s], onset[k, b, s] = 1.0, start
        return cls(torch.as_tensor(masks, dtype=dtype), torch.as_tensor(onset, dtype=dtype))

    def rows(self, index: Tensor) -> Stimuli:
        """The same for chosen models."""
        return Stimuli(self.masks[..., index], self.onset_ms[..., index])

    def current(self, t_ms: float) -> Tensor | None:
        """``(N, B, S)`` [1/ms] at a time, or None while nobody is stimulated."""
        on = (self.onset_ms <= t_ms + 1e-6) & (t_ms + 1e-6 < self.onset_ms + STIMULUS_MS)
        if not bool(on.any()):
            return None
        return STIMULUS_PER_MS * (self.masks * on[:, None]).amax(0)


def rates(model: Model) -> _Rates:
    """The right-hand side of the reaction and the residual, prepared for many calls."""
    return _Rates(model)


class _Rates:
    def __init__(self, model: Model):
        self.r, self.spec = reaction(model.spec.reaction), model.spec
        self.neural, self.residual = model.part("neural"), model.part("residual")
        self.code = model.parameters.get("code")
        self.p: dict[str, Tensor] = {}
        if self.r.parameters:
            low = torch.tensor([math.log(row.low) for row in self.r.parameters])
            high = torch.tensor([math.log(row.high) for row in self.r.parameters])
            bounded = model.parameters["reaction"].clamp(low, high).exp()
            self.p = {row.name: bounded[:, k].contiguous() for k, row in enumerate(self.r.parameters)}

    def reaction(self, u: Tensor, hidden: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """du/dt and rates of the hidden variables [1/ms], without the residual."""
        if self.spec.reaction != "neural":
            du, rest = self.r.rates(u, hidden, self.p, torch)
            return du, rest
        zero = torch.zeros(1, 1, u.shape[2], dtype=u.dtype)
        f0, g0 = networks.on_nodes(self.neural, zero, zero)
        f, g = networks.on_nodes(self.neural, u, hidden[0])
        return NEURAL_SCALE[0] * (f - f0), (NEURAL_SCALE[1] * (g - g0),)

    def extra(self, u: Tensor, hidden: tuple[Tensor, ...]) -> Tensor | None:
        """The residual [1/ms], or None."""
        if not self.residual:
            return None
        inputs = [u, hidden[0]]
        if self.code is not None:
            inputs += [self.code[..., k].T[:, None] for k in range(2)]
        return RESIDUAL_SCALE * networks.on_nodes(self.residual, *inputs)[0]


@dataclass(eq=False)
class Trajectory:
    """What a simulation gives back."""

    u: Tensor  # (T, N, B, S)
    end: State
    share: Tensor | None  # (S,) mean square of the residual over that of the reaction, or None without a residual


def simulate(
    model: Model, stimuli: Stimuli, dt_ms: float, steps: int, every: int,
    start: State | None = None, start_ms: float = 0.0, implicit: bool = False,
) -> Trajectory:  # fmt: skip
    """``steps`` steps of ``dt_ms``; u is kept after every ``every``-th. Starts at rest unless ``start`` is given."""
    operator, f = model.operator(), rates(model)
    u, hidden = start if start is not None else model.rest(stimuli.masks.shape[2])
    spread = _implicit(operator, dt_ms) if implicit else _explicit(operator, dt_ms)
    record, shares = [], torch.zeros(2, model.rows, dtype=model.graph.dtype)
    for k in range(steps):
        du, dv = f.reaction(u, hidden)
        if (extra := f.extra(u, hidden)) is not None:
            shares = shares + torch.stack([(extra**2).mean((0, 1)), (du.detach() ** 2).mean((0, 1))])
            du = du + extra
        current = stimuli.current(start_ms + k * dt_ms)
        u = spread(u, du if current is None else du + current).clamp(*U_RANGE)
        hidden = tuple((h + dt_ms * dh).clamp(*HIDDEN_RANGE) for h, dh in zip(hidden, dv))
        if (k + 1) % every == 0:
            record.append(u)
    share = shares[0] / (shares[1] + 1e-12) if f.residual else None
    return Trajectory(torch.stack(record), (u, hidden), share)


def _explicit(operator: Operator, dt_ms: float):
    parts = max(1, math.ceil(dt_ms * operator.bound() / LARGEST_EXPLICIT))

    def spread(u: Tensor, du: Tensor) -> Tensor:
        if parts == 1:
            return u + dt_ms * (du + operator(u))
        u = u + dt_ms * du
        for _ in range(parts):
            u = u + (dt_ms / parts) * operator(u)
        return u

    return spread


def _implicit(operator: Operator, dt_ms: float):
    inverse = torch.linalg.inv(
        torch.eye(len(operator.graph.graph), dtype=operator.graph.dtype) - dt_ms * operator.dense()
    )

    def spread(u: Tensor, du: Tensor) -> Tensor:
        return (inverse @ (u + dt_ms * du).permute(2, 0, 1)).permute(1, 2, 0)

    return spread
