"""``fit``: the numbers of a structure from recordings, by descent through the simulation.

Structures of few numbers take Levenberg-Marquardt steps with forward-mode columns (the gradient is then exact and the
steps are few); those with networks or a value per node take Adam steps with gradients backwards through time. All data
sets and restarts of one structure are one tensor; losses add, Adam works element by element and gradients are clipped
per row, so a row has the fit it would have alone. A row whose loss is not finite loses its gradient and keeps the best
parameters it had; the others go on. The horizon grows in three stages, so that a wave is in place before its tail is
asked for.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ecg_gym.tissue import backward, kernel, tangents
from ecg_gym.tissue.diagnostics import diagnose
from ecg_gym.tissue.intervals import Estimate, estimate
from ecg_gym.tissue.model import Model, Stimuli, simulate
from ecg_gym.tissue.objective import Target
from ecg_gym.tissue.polishing import LARGEST, levenberg_marquardt, prior_of
from ecg_gym.tissue.reactions import reaction
from ecg_gym.tissue.recording import DataSet
from ecg_gym.tissue.spec import Spec

PENALTY = {"weak": 0.1, "medium": 1.0, "strong": 10.0}
FIELD_PENALTY = 1e-3  # times the mean square of a field of log conductances
PRIOR_PENALTY = 1e-5  # times the squared distance of log parameters from nominal, in units of PRIOR_SD
PRIOR_SD = 0.5
NETWORK_PENALTY = 1e-5  # times the mean square of an output layer
RESIDUAL_PENALTY = 1e-3  # times the share of the residual
ERROR_CEILING = 1.0  # reported for a model that did not stay finite


@dataclass(frozen=True)
class FitOptions:
    """How hard to try. ``effort`` multiplies the iterations of all stages."""

    effort: float = 1.0
    restarts: int = 1  # rows per data set, started at jittered parameters; the best goes on to the last stage
    seed: int = 0  # of the jitter and of the networks
    dt_ms: float = 0.5  # [ms] step of the simulation
    newton_stages: tuple[tuple[float, int], ...] = ((0.22, 3), (0.55, 3), (1.0, 8))
    # (share of the recording, Levenberg-Marquardt steps), for structures of few numbers; see ecg_gym.tissue.polishing
    stages: tuple[tuple[float, int, float], ...] = ((0.22, 18, 0.08), (0.55, 14, 0.07), (1.0, 26, 0.05))
    # (share of the recording, iterations, learning rate of Adam)
    network_rate: float = 0.3  # learning rate of networks and codes relative to the stage's
    clip: float = 0.3  # largest norm of a row's gradient, per tensor
    jitter: float = 0.25  # standard deviation of the log parameters of restarts
    batch_rows: int = 80  # rows per tensor: about 30 MB each on a sheet; few rows are as slow as many
    intervals: bool = False  # work out the 90 % intervals of the parameters: about seven steps more


@dataclass(frozen=True, eq=False)
class Fit:
    """What a fit gives back. Errors are mean squared errors of what was observed (u; times in 10 ms; potentials)."""

    spec: Spec
    data_key: str
    parameters: Mapping[str, np.ndarray]  # without the leading S; see Model
    values: Mapping[str, float]  # reaction parameters in their units, and diffusion [mm2/ms]
    train_error: float
    validation_error: float
    residual_share: float  # mean square of the residual over that of the reaction; 0 without one
    stable: bool  # False: some protocol gave no finite u or ran into the bounds; the errors are then ERROR_CEILING
    n_parameters: int
    iterations: int
    cpu_s: float
    diagnostics: Mapping[str, float]  # see ecg_gym.tissue.diagnostics; from train and validation protocols only
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # 90 %, same keys as values, if polished


def fit(
    specs: Sequence[Spec], datasets: Sequence[DataSet], options: FitOptions = FitOptions(),
    start: Mapping[tuple[Spec, str], Fit] | None = None, progress: Callable[[int, int], None] | None = None,
) -> list[list[Fit]]:  # fmt: skip
    """``result[i][j]`` is spec i fitted to data set j.

    ``start`` gives fits to begin from, by (spec, ``DataSet.key``): what two structures have in common is taken over.
    ``progress(done, total)`` is called after every batch. Data sets of different graphs, kinds or lengths may be mixed.
    """
    groups: dict[object, list[int]] = defaultdict(list)
    for j, data in enumerate(datasets):
        groups[data.batch_key].append(j)
    size = max(1, options.batch_rows // options.restarts)
    chunks = [
        (i, rows[k : k + size])
        for i in range(len(specs))
        for rows in groups.values()
        for k in range(0, len(rows), size)
    ]
    out: list[list[Fit | None]] = [[None] * len(datasets) for _ in specs]
    for done, (i, rows) in enumerate(chunks):
        part = [datasets[j] for j in rows]
        begin = [start.get((specs[i], d.key)) if start else None for d in part]
        for j, result in zip(rows, _fit_batch(specs[i], part, options, begin)):
            out[i][j] = result
        if progress:
            progress(done + 1, len(chunks))
    return out  # type: ignore[return-value]


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Inside, denormal numbers are 0: decaying tails are full of them, and 1.8 times slower without this."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@flushed_denormals()
def _fit_batch(spec: Spec, datasets: list[DataSet], options: FitOptions, start: Sequence[Fit | None]) -> list[Fit]:
    began = time.process_time()
    model = _initial(spec, datasets, options, start)
    owner = torch.arange(len(datasets)).repeat_interleave(options.restarts)
    target, stimuli = Target.of(datasets, datasets[0].train), protocol_stimuli(datasets, datasets[0].train)
    newton = model.count <= LARGEST and tangents.applies(model)
    stages = options.newton_stages if newton else options.stages
    iterations, best = 0, torch.zeros(model.rows)
    for stage, (share, count, *rate) in enumerate(stages):
        if 0 < stage == len(stages) - 1 and len(owner) > len(datasets):
            model, owner = _best_rows(model, best, len(datasets), options.restarts)
        steps = max(1, round(options.effort * count))
        here = stimuli.rows(owner), target.rows(owner)
        if newton:
            model, best = levenberg_marquardt(model, *here, _prior(model), steps, options.dt_ms, share)
        else:
            best = descend(model, *here, share, steps, rate[0], options)
        iterations += steps
    if len(owner) > len(datasets):
        model, owner = _best_rows(model, best, len(datasets), options.restarts)
    cpu = (time.process_time() - began) / len(datasets)
    spread = None
    if options.intervals and model.count <= LARGEST and "reaction" in model.parameters:
        spread = estimate(model, stimuli, target, options.dt_ms)
    return results_of(model, datasets, iterations, cpu, options, spread)


def _prior(model: Model) -> tuple[Tensor, Tensor]:
    return prior_of(model, PENALTY[model.spec.regulariser] * FIELD_PENALTY, PRIOR_PENALTY / PRIOR_SD**2)


def _initial(spec: Spec, datasets: list[DataSet], options: FitOptions, start: Sequence[Fit | None]) -> Model:
    model = Model.nominal(spec, datasets[0].graph, len(datasets) * options.restarts, options.seed)
    jitter = torch.Generator().manual_seed(options.seed + 1)
    for name in ("reaction", "diffusion.log_d"):
        if name in model.parameters:
            noise = options.jitter * torch.randn(model.parameters[name].shape, generator=jitter)
            noise[:: options.restarts] = 0.0  # the first of a data set's rows starts at the nominal values
            model.parameters[name] += noise
    for j, begin in enumerate(start):
        for name, value in begin.parameters.items() if begin is not None else ():
            if name in model.parameters and model.parameters[name].shape[1:] == value.shape:
                model.parameters[name][j * options.restarts] = torch.as_tensor(value)
    return model


def descend(
    model: Model, stimuli: Stimuli, target: Target, share: float, steps: int, rate: float, options: FitOptions
) -> Tensor:
    """``(S,)`` the least loss of every row; the model is left with the parameters that gave it."""
    length = max(2, round(share * target.samples))
    every = round(target.sample_ms / options.dt_ms)
    leaves = {name: value.detach().clone().requires_grad_() for name, value in model.parameters.items()}
    trial = model.with_parameters(leaves)
    networks = [v for k, v in leaves.items() if _is_network(k)]
    others = [v for k, v in leaves.items() if not _is_network(k)]
    groups = [{"params": others, "factor": 1.0}, {"params": networks, "factor": options.network_rate}]
    adam = torch.optim.Adam([g for g in groups if g["params"]], lr=rate, betas=(0.9, 0.98))
    best = torch.full((model.rows,), math.inf, dtype=model.graph.dtype)
    for step in range(steps):
        for group in adam.param_groups:
            group["lr"] = group["factor"] * rate * (0.1 + 0.9 * (0.5 + 0.5 * math.cos(math.pi * step / steps)))
        adam.zero_grad()
        u, ratio = voltages(trial, stimuli, options.dt_ms, length * every, every)
        loss = target.errors(u) + penalties(trial, ratio if model.spec.residual != "none" else None)
        finite = torch.isfinite(loss.detach())
        better = finite & (loss.detach() < best)
        best[better] = loss.detach()[better]
        for name, value in leaves.items():
            model.parameters[name][better] = value.detach()[better]
        if step == steps - 1 or not bool(finite.any()):
            break
        loss[finite].sum().backward()
        for value in leaves.values():
            clip_rows(value, options.clip)
        adam.step()
        put_inside(leaves, model.spec)
    return best


def voltages(model: Model, stimuli: Stimuli, dt_ms: float, steps: int, every: int) -> tuple[Tensor, Tensor]:
    """``(T, N, B, S)`` u and ``(S,)`` the share of the residual, with gradients, by the fastest way there is."""
    if backward.applies(model):
        return backward.simulate(model, stimuli, dt_ms, steps, every)
    if kernel.applies(model) and not any(value.requires_grad for value in model.parameters.values()):
        return kernel.voltages(model, stimuli, dt_ms, steps, every), torch.zeros(model.rows)
    run = simulate(model, stimuli, dt_ms, steps, every)
    return run.u, torch.zeros(model.rows) if run.share is None else run.share


def _is_network(name: str) -> bool:
    return name.startswith(("neural.", "residual.", "diffusion.net.")) or name == "code"


def clip_rows(leaf: Tensor, largest: float) -> None:
    """The gradient with what is not finite set to zero and every row's norm at most ``largest``."""
    if leaf.grad is None:
        return
    g = leaf.grad.nan_to_num(0.0, 0.0, 0.0)
    norm = g.reshape(len(g), -1).norm(dim=1) / largest
    leaf.grad = g / norm.clamp(min=1).reshape(-1, *[1] * (g.dim() - 1))


def put_inside(leaves: dict[str, Tensor], spec: Spec) -> None:
    """Reaction parameters are put back inside their bounds."""
    if "reaction" in leaves:
        rows = reaction(spec.reaction).parameters
        low = torch.tensor([math.log(row.low) for row in rows], dtype=leaves["reaction"].dtype)
        high = torch.tensor([math.log(row.high) for row in rows], dtype=leaves["reaction"].dtype)
        with torch.no_grad():
            leaves["reaction"].copy_(leaves["reaction"].clamp(low, high))


def penalties(model: Model, share: Tensor | None) -> Tensor:
    """``(S,)`` what is added to the error: rough fields, large networks, a large residual, far parameters."""
    p, weight = model.parameters, PENALTY[model.spec.regulariser]
    out = torch.zeros(model.rows, dtype=model.graph.dtype)
    if "reaction" in p:
        nominal = torch.tensor([math.log(row.value) for row in reaction(model.spec.reaction).parameters])
        out = out + PRIOR_PENALTY * (((p["reaction"] - nominal.to(out.dtype)) / PRIOR_SD) ** 2).sum(1)
    if "diffusion.field" in p:
        out = out + weight * FIELD_PENALTY * _roughness(model, p["diffusion.field"])
    for name in ("diffusion.net.w3", "residual.w3", "neural.w3"):
        if name in p:
            out = out + weight * NETWORK_PENALTY * (p[name] ** 2).mean((1, 2))
    return out if share is None else out + weight * RESIDUAL_PENALTY * share


def _roughness(model: Model, field_: Tensor) -> Tensor:
    """Mean square of a field's values, and for ``nodes`` also of its steps along the edges."""
    size = (field_**2).mean(1)
    if model.spec.diffusion != "nodes":
        return size
    i, j = model.graph.ends
    return 0.1 * size + ((field_[:, i] - field_[:, j]) ** 2).mean(1)


def _best_rows(model: Model, best: Tensor, count: int, restarts: int) -> tuple[Model, Tensor]:
    index = best.reshape(count, restarts).argmin(1) + restarts * torch.arange(count)
    return model.with_parameters({k: v[index].clone() for k, v in model.parameters.items()}), torch.arange(count)


def protocol_stimuli(
    datasets: Sequence[DataSet], protocols: Sequence[int], dtype: torch.dtype = torch.float32
) -> Stimuli:
    """The stimuli of chosen protocols of data sets on one graph."""
    return Stimuli.of([[d.pacing[k] for k in protocols] for d in datasets], len(datasets[0].graph), dtype)


def run_protocols(model: Model, datasets: Sequence[DataSet], protocols: Sequence[int], dt_ms: float = 0.5) -> Tensor:
    """``(T, N, B, S)`` u of fitted models on chosen protocols of their data sets, without gradients."""
    first = datasets[0]
    every = round(first.sample_ms / dt_ms)
    with torch.no_grad():
        return voltages(model, protocol_stimuli(datasets, protocols), dt_ms, first.samples * every, every)[0]


def model_of(fits: Sequence[Fit], datasets: Sequence[DataSet]) -> Model:
    """The models of fits of one spec to data sets on one graph, as one tensor."""
    model = Model.nominal(fits[0].spec, datasets[0].graph, len(fits))
    stacked = {name: torch.as_tensor(np.stack([f.parameters[name] for f in fits])) for name in model.parameters}
    return model.with_parameters(stacked)


def results_of(
    model: Model, datasets: list[DataSet], iterations: int, cpu_s: float, options: FitOptions,
    spread: Estimate | None = None,
) -> list[Fit]:  # fmt: skip
    """One fit per data set, as the rows of a model are: errors on train and validation protocols, diagnostics."""
    first = datasets[0]
    protocols = (*first.train, *first.validation)
    n_train = len(first.train)
    every = round(first.sample_ms / options.dt_ms)
    stimuli, steps = protocol_stimuli(datasets, protocols), first.samples * every
    with torch.no_grad():
        u, share = voltages(model, stimuli, options.dt_ms, steps, every)
    train = Target.of(datasets, first.train).errors(u[:, :, :n_train])
    validation = Target.of(datasets, first.validation).errors(u[:, :, n_train:])
    stable = torch.isfinite(u).all(0).all(0).all(0) & torch.isfinite(validation) & torch.isfinite(train)
    notes = diagnose(model, u, datasets, protocols)
    values = model.values()
    return [
        Fit(
            model.spec, d.key, {k: v[s].detach().numpy().copy() for k, v in model.parameters.items()},
            {k: float(v[s]) for k, v in values.items()},
            float(train[s]) if stable[s] else ERROR_CEILING, float(validation[s]) if stable[s] else ERROR_CEILING,
            float(share[s]), bool(stable[s]), model.count, iterations, cpu_s, notes[s],
            {} if spread is None else spread.intervals(model, s),
        )
        for s, d in enumerate(datasets)
    ]  # fmt: skip
