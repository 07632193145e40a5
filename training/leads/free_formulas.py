"""The baseline without a catalogue: a chat model writes du/dt and dv/dt itself, and gradient descent fits its numbers.

The formulas go through the grammar of ``ecg_gym.tissue.formula``; nothing is executed. Diffusion is one fitted number
on the graph of the tissue. Many such formulas diverge or do not excite: how many is part of what is measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ecg_gym.llm import ChatClient, NoAnswerError
from ecg_gym.tissue import DataSet
from ecg_gym.tissue.fitting import flushed_denormals
from ecg_gym.tissue.formula import CHARACTERS, Formula
from ecg_gym.tissue.model import Stimuli
from ecg_gym.tissue.objective import Target

DT_MS = 0.5  # [ms] step of the simulation
STAGES = ((0.25, 20, 0.05), (1.0, 20, 0.03))  # (share of the recording, iterations, learning rate of Adam)
LIMIT = 4.0  # |u| and |v| beyond which a formula counts as diverged
START_DIFFUSION = 0.8  # [mm2/ms]
SCHEMA = {
    "type": "object",
    "properties": {
        "du": {"type": "string", "maxLength": CHARACTERS},
        "dv": {"type": "string", "maxLength": CHARACTERS},
        "v_rest": {"type": "number", "minimum": -LIMIT, "maximum": LIMIT},
        "p": {"type": "array", "items": {"type": "number", "minimum": -1e4, "maximum": 1e4}, "maxItems": 10},
    },
    "required": ["du", "dv", "v_rest", "p"],
    "additionalProperties": False,
}
TASK = (
    "Write the reaction of a two-variable model of a cardiac cell: du/dt and dv/dt per millisecond. u is the membrane "
    "potential, 0 at rest and about 1 at the plateau; v is a recovery variable. Use only u, v, p0 to p9, "
    "numbers, + - * / "
    "**, exp, tanh, sigmoid and where(a > b, x, y). Give start values of p0, p1 ... in p and the value of v at rest in "
    "v_rest. An action potential should last 100 to 300 ms, and u = 0, v = v_rest must be at rest. Diffusion "
    "is added to "
    "du by the program, and gradient descent fits the parameters."
)


@dataclass(frozen=True)
class FreeReaction:
    """A reaction in formulas. Make it with :meth:`parse`."""

    du: Formula
    dv: Formula
    v_rest: float
    p: tuple[float, ...]

    @classmethod
    def parse(cls, row: Mapping[str, Any]) -> FreeReaction:
        """From an answer that fits ``SCHEMA``; ``ValueError`` for what the grammar does not have."""
        du, dv, p = Formula.parse(row["du"]), Formula.parse(row["dv"]), tuple(map(float, row["p"]))
        names = {f"p{k}" for k in range(len(p))}
        if missing := sorted({*du.parameters, *dv.parameters} - names):
            raise ValueError(f"the formulas use {missing}; expected a start value for each in p; add them")
        return cls(du, dv, float(row["v_rest"]), p)


@dataclass(frozen=True)
class FreeFit:
    """What came of it; errors as those of a fit of the catalogue, 1 where it diverged."""

    reaction: FreeReaction
    p: tuple[float, ...]  # fitted
    diffusion: float  # [mm2/ms]
    train_error: float
    validation_error: float
    stable: bool


def ask_reaction(client: ChatClient, attempts: int = 3) -> tuple[FreeReaction | None, list[str]]:
    """A reaction that the grammar accepts, or None; and why each other attempt failed, one word each."""
    messages = [{"role": "system", "content": TASK}, {"role": "user", "content": "Write du and dv."}]
    failures: list[str] = []
    for _ in range(attempts):
        try:
            value = client.ask(messages, SCHEMA, "reaction").value
        except NoAnswerError as error:
            return None, [*failures, *error.slips]
        try:
            return FreeReaction.parse(value), failures
        except ValueError as error:
            failures.append("outside the grammar")
            messages = [*messages[:2], {"role": "user", "content": f"That was refused: {error}. Write them again."}]
    return None, failures


@flushed_denormals()
def fit_free(reaction: FreeReaction, data: DataSet, stages: Sequence[tuple[float, int, float]] = STAGES) -> FreeFit:
    """Fit the parameters and one diffusivity to the train protocols; judge on the validation ones."""
    p = torch.tensor(reaction.p, dtype=torch.float32)
    log_d = torch.tensor(math.log(START_DIFFUSION))
    best, best_loss = (p.clone(), log_d.clone()), math.inf
    target, stimuli = Target.of([data], data.train), _stimuli(data, data.train)
    for share, iterations, rate in stages:
        p, log_d = (value.detach().clone().requires_grad_() for value in best)
        best_loss = math.inf  # of this horizon
        adam = torch.optim.Adam([p, log_d], lr=rate)
        scale = p.detach().abs().clamp(min=1e-3)
        steps = max(2, round(share * data.samples))
        for _ in range(iterations):
            adam.zero_grad()
            u = _simulate(reaction, p, log_d, data, stimuli, steps)
            loss = target.errors(u)[0]
            if not bool(torch.isfinite(loss)):
                break
            if float(loss.detach()) < best_loss:
                best, best_loss = (p.detach().clone(), log_d.detach().clone()), float(loss.detach())
            loss.backward()
            for leaf in (p, log_d):
                if leaf.grad is not None:
                    leaf.grad = leaf.grad.nan_to_num(0.0, 0.0, 0.0).clamp(-1, 1)
            before = p.detach().clone()
            adam.step()
            with torch.no_grad():  # relative steps: the parameters of a formula have no common size
                p.copy_(before + (p - before) * scale)
    return _judge(reaction, best, data)


def _judge(reaction: FreeReaction, values: tuple[Tensor, Tensor], data: DataSet) -> FreeFit:
    errors, stable = [], True
    with torch.no_grad():
        for protocols in (data.train, data.validation):
            u = _simulate(reaction, *values, data, _stimuli(data, protocols), data.samples)
            error = float(Target.of([data], protocols).errors(u)[0])
            stable &= bool(torch.isfinite(u).all()) and float(u.abs().max()) < LIMIT
            errors.append(error)
    p, diffusion = tuple(map(float, values[0])), float(values[1].exp())
    train, validation = errors if stable else (1.0, 1.0)
    return FreeFit(reaction, p, diffusion, train, validation, stable)


def _stimuli(data: DataSet, protocols: Sequence[int]) -> Stimuli:
    return Stimuli.of([[data.pacing[k] for k in protocols]], len(data.graph))


def _simulate(
    reaction: FreeReaction, p: Tensor, log_d: Tensor, data: DataSet, stimuli: Stimuli, samples: int
) -> Tensor:
    """``(samples, N, B, 1)`` u. What leaves -LIMIT..LIMIT is held there: it has diverged."""
    every = round(data.sample_ms / DT_MS)
    laplacian = torch.as_tensor(data.graph.laplacian(data.graph.weight).toarray(), dtype=torch.float32)
    parts = max(1, math.ceil(DT_MS * data.graph.row_bound * float(log_d.detach().exp()) / 1.6))
    spread = torch.linalg.matrix_power(torch.eye(len(data.graph)) + (DT_MS / parts) * log_d.exp() * laplacian, parts)
    u = torch.zeros(len(data.graph), stimuli.masks.shape[2])
    v = torch.full_like(u, reaction.v_rest)
    names = {f"p{k}": p[k] for k in range(len(p))}
    out = []
    for step in range(samples * every):
        values = {"u": u, "v": v, **names}
        du, dv = (formula(values, torch) for formula in (reaction.du, reaction.dv))
        if (current := stimuli.current(step * DT_MS)) is not None:
            du = du + current[..., 0]
        change = (DT_MS * du).expand_as(
            u
        )  # as the catalogue's models: one step together, or several of diffusion after
        u = (spread @ u + change if parts == 1 else spread @ (u + change)).clamp(-LIMIT, LIMIT)
        v = (v + DT_MS * dv).expand_as(v).clamp(-LIMIT, LIMIT)
        if (step + 1) % every == 0:
            out.append(u)
    return torch.stack(out)[..., None]
