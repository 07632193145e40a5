"""Levenberg-Marquardt on the full recording: the last stage of a fit.

The Jacobian's columns are forward-mode derivatives: every row is copied once per parameter and carries one tangent
through the simulation (see :mod:`ecg_gym.tissue.tangents` for the fast way), so nothing is stored and nothing is
integrated backwards. Steps with three dampings are tried at once and the best is kept per row; a row that gains nothing
keeps its parameters. For structures of up to ``LARGEST`` fitted numbers.
"""

from __future__ import annotations

import math

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor

from ecg_gym.tissue import tangents
from ecg_gym.tissue.kernel import voltages
from ecg_gym.tissue.model import Model, Stimuli, simulate
from ecg_gym.tissue.objective import Target
from ecg_gym.tissue.reactions import reaction

LARGEST = 64  # fitted numbers
COLUMNS = 800  # tangents carried at once: models times parameters
DAMPINGS = (0.1, 1.0, 10.0)  # times the present damping of a row
LONGEST_STEP = 0.4  # of any log parameter at once
START_DAMPING = 1e-2
SETTLED = 1e-4  # share of the loss; two steps in a row that gain less end a stage


def flatten(model: Model) -> Tensor:
    """``(S, K)`` all parameters of each model in one row."""
    return torch.cat([v.reshape(len(v), -1) for v in model.parameters.values()], dim=1)


def unflatten(model: Model, flat: Tensor) -> Model:
    """The model with the parameters of :func:`flatten`, for any number of rows."""
    out, k = {}, 0
    for name, value in model.parameters.items():
        size = value[0].numel()
        out[name] = flat[:, k : k + size].reshape(len(flat), *value.shape[1:])
        k += size
    return model.with_parameters(out)


def bounds(model: Model) -> tuple[Tensor, Tensor]:
    """``(K,)`` lowest and highest value of every flat parameter: those of the catalogue, or +-4 for the rest."""
    k = sum(v[0].numel() for v in model.parameters.values())
    low, high = torch.full((k,), -4.0, dtype=torch.float64), torch.full((k,), 4.0, dtype=torch.float64)
    rows = reaction(model.spec.reaction).parameters  # "reaction" is the first entry where it exists
    for j, row in enumerate(rows):
        low[j], high[j] = math.log(row.low), math.log(row.high)
    return low, high


def jacobian(model: Model, stimuli: Stimuli, target: Target, dt_ms: float, share: float = 1.0) -> tuple[Tensor, Tensor]:
    """Residuals ``(S, R)`` and their derivatives ``(S, R, K)`` to the flat parameters over a share of the recording."""
    flat = flatten(model)
    s, k = flat.shape
    run = _tangents if tangents.applies(model) else _duals
    parts = [
        run(model, stimuli, target, dt_ms, max(2, round(share * target.samples)), rows)
        for rows in torch.arange(s).split(max(1, COLUMNS // k))
    ]
    return torch.cat([r for r, _ in parts]), torch.cat([j for _, j in parts])


def _tangents(
    model: Model, stimuli: Stimuli, target: Target, dt_ms: float, samples: int, rows: Tensor
) -> tuple[Tensor, Tensor]:
    part = model.with_parameters({name: value[rows] for name, value in model.parameters.items()})
    every = round(target.sample_ms / dt_ms)
    with torch.no_grad():
        u, slope = tangents.simulate_with_tangents(part, stimuli.rows(rows), dt_ms, samples * every, every)
        return target.rows(rows).residuals(u), target.rows(rows).slopes(u, slope)


def _duals(
    model: Model, stimuli: Stimuli, target: Target, dt_ms: float, samples: int, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """The same for every structure: one copy of a row per parameter, each with one dual number."""
    flat = flatten(model)
    k, every = flat.shape[1], round(target.sample_ms / dt_ms)
    owner = rows.repeat_interleave(k)
    tangent = torch.eye(k, dtype=flat.dtype).repeat(len(rows), 1)
    with torch.no_grad(), forward_ad.dual_level():
        dual = unflatten(model, forward_ad.make_dual(flat[owner], tangent))
        u = simulate(dual, stimuli.rows(owner), dt_ms, samples * every, every).u
        value, slope = forward_ad.unpack_dual(target.rows(owner).residuals(u))
    return value[::k].clone(), slope.reshape(len(rows), k, -1).transpose(1, 2).clone()


def levenberg_marquardt(
    model: Model, stimuli: Stimuli, target: Target, prior: tuple[Tensor, Tensor], steps: int, dt_ms: float,
    share: float = 1.0, settled: float = SETTLED,
) -> tuple[Model, Tensor]:  # fmt: skip
    """The improved model and its losses ``(S,)``; ``prior`` is mean and weight ``(K,)`` of a quadratic penalty.

    At most ``steps``; it ends when two steps in a row gain less than ``settled`` of the loss in every row.
    """
    mean, weight = (x.double() for x in prior)
    low, high = bounds(model)
    flat = flatten(model).double()
    loss = _losses(model, flat, stimuli, target, mean, weight, dt_ms, share)
    damping = torch.full_like(loss, START_DAMPING)
    triple = torch.arange(len(flat)).repeat(len(DAMPINGS))
    wide, idle = target.rows(triple), 0
    for _ in range(steps):
        r, j = jacobian(unflatten(model, flat.to(model.graph.dtype)), stimuli, target, dt_ms, share)
        j = j.nan_to_num(0.0, 0.0, 0.0)
        r = r.nan_to_num(0.0, 0.0, 0.0)
        normal = (j.transpose(1, 2) @ j).double()
        pull = (j.transpose(1, 2) @ r[..., None]).double()[..., 0] + weight * (flat - mean)
        trials = _trials(normal, pull, weight, damping, flat, low, high)  # (3, S, K)
        crowd = unflatten(model, torch.cat(list(trials)).to(model.graph.dtype))
        gains = _losses(crowd, torch.cat(list(trials)), stimuli.rows(triple), wide, mean, weight, dt_ms, share)
        gains = gains.reshape(len(DAMPINGS), -1)
        best, which = gains.min(0)
        better = best < loss
        winner = trials[which, torch.arange(len(flat))]
        flat = torch.where(better[:, None], winner, flat)
        damping = torch.where(better, damping * torch.tensor(DAMPINGS).double()[which], damping * 30).clamp(1e-7, 1e5)
        idle = idle + 1 if bool((best >= (1 - settled) * loss).all()) else 0
        loss = torch.where(better, best, loss)
        if idle == 2:
            break
    return unflatten(model, flat.to(model.graph.dtype)), loss


def _trials(
    normal: Tensor, pull: Tensor, weight: Tensor, damping: Tensor, flat: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    out = []
    scale = torch.diagonal(normal, dim1=1, dim2=2) + weight + 1e-9
    for factor in DAMPINGS:
        lifted = normal + torch.diag_embed(weight + factor * damping[:, None] * scale)
        step = -torch.linalg.solve(lifted, pull)
        longest = step.abs().amax(1, keepdim=True) / LONGEST_STEP
        out.append((flat + step / longest.clamp(min=1)).clamp(low, high))
    return torch.stack(out)


def _losses(
    model: Model, flat: Tensor, stimuli: Stimuli, target: Target, mean: Tensor, weight: Tensor, dt_ms: float,
    share: float,
) -> Tensor:  # fmt: skip
    every = round(target.sample_ms / dt_ms)
    with torch.no_grad():
        trial = unflatten(model, flat.to(model.graph.dtype))
        u = voltages(trial, stimuli, dt_ms, max(2, round(share * target.samples)) * every, every)
        loss = target.errors(u).double() + (weight * (flat - mean) ** 2).sum(1)
    return loss.nan_to_num(math.inf, math.inf, math.inf)


def prior_of(model: Model, field_weight: float, prior_weight: float) -> tuple[Tensor, Tensor]:
    """Mean and weight ``(K,)`` of the quadratic penalties of ``fitting.penalties`` on flat parameters."""
    means, weights = [], []
    for name, value in model.parameters.items():
        size = value[0].numel()
        if name == "reaction":
            means.append(torch.tensor([math.log(row.value) for row in reaction(model.spec.reaction).parameters]))
            weights.append(torch.full((size,), prior_weight))
        else:
            means.append(torch.zeros(size))
            weights.append(torch.full((size,), field_weight / size if name == "diffusion.field" else 1e-9))
    return torch.cat(means), torch.cat(weights)
