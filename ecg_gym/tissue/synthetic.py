"""Synthetic hearts: a truth drawn around a catalogue reaction, a slow patch, S1-S2 pacing from several sites, noise.

Drawn wide on purpose. A heart counts only if every wave reaches at least 95 % of the nodes in both beats, because a
recording without propagation says nothing about propagation; :func:`hearts` draws until it has enough and says how
many it turned down. Simulated at 0.1 ms, so that no fit (0.5 ms) meets its own discretisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ecg_gym.tissue.graph import Graph, sheet
from ecg_gym.tissue.kernel import voltages
from ecg_gym.tissue.model import Model, Stimuli
from ecg_gym.tissue.reactions import reaction
from ecg_gym.tissue.recording import DataSet, Pacing, Truth
from ecg_gym.tissue.spec import Spec
from ecg_gym.tissue.timing import crossings

TIME_NOISE_MS = 40.0  # standard deviation of observed times per unit of noise: 2 ms at 0.05


@dataclass(frozen=True)
class Protocol:
    """How hearts are drawn and recorded."""

    parameter_sd: float = 0.20  # of the log of every reaction parameter
    diffusion_sd: float = 0.25  # of the log of the diffusivity
    patch_depth: tuple[float, float] = (0.5, 1.4)  # -log of the diffusivity's factor in the middle of the slow patch
    noise: tuple[float, float] = (0.02, 0.10)  # standard deviation of u, uniform
    sample_ms: float = 2.0
    duration_ms: float = 640.0
    dt_ms: float = 0.1
    gaps_ms: tuple[float, ...] = (30, 70, 110, 150, 190)  # S2 after the last repolarisation: the first that captures
    latest_s2_ms: float = 410.0  # hearts that no second stimulus captures by then are turned down
    disc: float = 1.6  # radius of a stimulus, in distances from a node to its nearest one
    activated: float = 0.95  # share of the nodes that both waves must reach
    split: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]] = ((0, 1), (2,), (3,))


# for the biventricular graph, which takes 100 to 220 ms to activate from one site; one protocol of it is long to fit
VENTRICLES = Protocol(duration_ms=960.0, latest_s2_ms=520.0, disc=2.5, split=((0,), (1,), (2,)))


def hearts(
    name: str, seeds: Sequence[int], kind: str = "voltage", graph: Graph | None = None, protocol: Protocol = Protocol(),
) -> list[DataSet]:  # fmt: skip
    """One data set per seed with reaction ``name`` as its truth; a seed gives the same heart alone or among others."""
    graph = graph if graph is not None else sheet()
    generators = [np.random.default_rng([seed, *name.encode()]) for seed in seeds]
    ready: dict[int, DataSet] = {}
    for _ in range(60):
        waiting = [k for k in range(len(seeds)) if k not in ready]
        if not waiting:
            break
        model = draw(name, graph, [generators[k] for k in waiting], protocol)
        pacing = [_pacing(graph, generators[k], protocol) for k in waiting]
        coupled = _captured(model, pacing, protocol, [generators[k] for k in waiting])
        usable = {row: protocols for row, protocols in enumerate(coupled) if protocols is not None}
        if not usable:
            continue
        part = model.with_parameters({key: value[list(usable)] for key, value in model.parameters.items()})
        u = _record(part, list(usable.values()), protocol)
        for column, (row, protocols) in enumerate(usable.items()):
            who, mine = waiting[row], u[..., column]
            if _propagates(mine, protocol):
                ready[who] = _data(f"{name}-{seeds[who]}", part, column, protocols, mine, protocol, generators[who])
    if missing := [seeds[k] for k in range(len(seeds)) if k not in ready]:
        raise RuntimeError(f"no propagating heart for seeds {missing} in 60 draws; expected some; draw them less wide")
    return [observe(ready[k], kind, seeds[k]) if kind != "voltage" else ready[k] for k in range(len(seeds))]


def draw(name: str, graph: Graph, generators: Sequence[np.random.Generator], protocol: Protocol = Protocol()) -> Model:
    """Models with log-normal parameters around the nominal ones and a Gaussian patch of slow tissue."""
    model = Model.nominal(Spec(name, "nodes"), graph, len(generators))
    rows = reaction(name).parameters
    low, high = (np.array([math.log(getattr(r, side)) for r in rows]) for side in ("low", "high"))
    size = float(np.median(np.linalg.norm(graph.position - graph.position.mean(axis=0), axis=1)))
    for s, rng in enumerate(generators):
        start = model.parameters["reaction"][s].numpy()
        jittered = np.clip(start + protocol.parameter_sd * rng.standard_normal(len(rows)), low, high)
        model.parameters["reaction"][s] = torch.as_tensor(jittered)
        model.parameters["diffusion.log_d"][s, 0] += float(protocol.diffusion_sd * rng.standard_normal())
        centre = graph.position[rng.integers(len(graph))]
        distance = np.linalg.norm(graph.position - centre, axis=1)
        patch = -rng.uniform(*protocol.patch_depth) * np.exp(-0.5 * (distance / (0.45 * size)) ** 2)
        model.parameters["diffusion.field"][s] = torch.as_tensor(patch)
    return model


def _pacing(
    graph: Graph, rng: np.random.Generator, protocol: Protocol
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """For every protocol the nodes of S1 and of S2, each a small disc somewhere."""
    count = sum(map(len, protocol.split))
    gap = protocol.disc * float(np.median(np.sort(_distances(graph), axis=1)[:, 1]))
    return [tuple(_disc(graph, int(rng.integers(len(graph))), gap) for _ in range(2)) for _ in range(count)]  # type: ignore[misc]


def _distances(graph: Graph) -> np.ndarray:
    return np.linalg.norm(graph.position[:, None] - graph.position[None], axis=2)


def _disc(graph: Graph, centre: int, radius_mm: float) -> tuple[int, ...]:
    return tuple(
        int(k) for k in np.flatnonzero(np.linalg.norm(graph.position - graph.position[centre], axis=1) <= radius_mm)
    )


def _captured(
    model: Model, pacing: list[list[tuple[tuple[int, ...], tuple[int, ...]]]], protocol: Protocol,
    generators: Sequence[np.random.Generator],
) -> list[list[Pacing] | None]:  # fmt: skip
    """For every heart its protocols, S2 as soon after repolarisation as it captures; None if that is too late."""
    quick = replace(protocol, dt_ms=0.5)
    first = [[Pacing((s1,), (0.0,)) for s1, _ in row] for row in pacing]
    latest = crossings(_record(model, first, quick), protocol.sample_ms, 1)[0, 1].nan_to_num(math.inf).amax(0)  # (B, S)
    extra = [[float(rng.uniform(0, 30)) for _ in row] for rng, row in zip(generators, pacing)]
    schedule: list[list[Pacing | None]] = [[None] * len(row) for row in pacing]
    for gap in protocol.gaps_ms:
        trial = [
            [Pacing(pair, (0.0, _even(float(latest[b, s]) + gap + extra[s][b]))) for b, pair in enumerate(row)]
            for s, row in enumerate(pacing)
        ]
        times = crossings(_record(model, trial, quick), protocol.sample_ms, 2)
        reached = (~times[1].isnan()).all(0).float().mean(0) >= protocol.activated  # (B, S)
        for s, row in enumerate(trial):
            for b, candidate in enumerate(row):
                if schedule[s][b] is None and reached[b, s] and candidate.onset_ms[1] <= protocol.latest_s2_ms:
                    schedule[s][b] = candidate
    return [None if None in row else row for row in schedule]  # type: ignore[misc]


def _even(onset_ms: float) -> float:
    """An onset that falls on the steps of every dt in use; what is infinite becomes later than any recording."""
    return 2.0 * round(onset_ms / 2) if math.isfinite(onset_ms) else 1e6


def _record(model: Model, pacing: list[list[Pacing]], protocol: Protocol) -> Tensor:
    every = round(protocol.sample_ms / protocol.dt_ms)
    samples = round(protocol.duration_ms / protocol.sample_ms)
    stimuli = Stimuli.of(pacing, len(model.graph.graph))
    return voltages(model, stimuli, protocol.dt_ms, samples * every, every)


def _propagates(u: Tensor, protocol: Protocol) -> bool:
    """Whether both waves of all protocols activate and repolarise enough nodes of ``u (T, N, B)``."""
    times = crossings(u, protocol.sample_ms, 3)
    both = ~times[:2].isnan().any(0).any(0)
    return (
        bool(torch.isfinite(u).all())
        and float(both.float().mean(0).min()) >= protocol.activated
        and bool(times[2, 0].isnan().all())
    )


def _data(
    label: str, model: Model, s: int, pacing: list[Pacing], u: Tensor, protocol: Protocol, rng: np.random.Generator
) -> DataSet:
    clean = u.permute(2, 0, 1).numpy().copy()  # (P, T, N)
    noise = float(rng.uniform(*protocol.noise))
    field = (model.parameters["diffusion.log_d"][s] + model.parameters["diffusion.field"][s]).numpy()
    values = {k: float(v[s]) for k, v in model.values().items()}
    graph = model.graph.graph
    noisy = (clean + noise * rng.standard_normal(clean.shape)).astype(np.float32)
    return DataSet(
        label, graph, tuple(pacing), protocol.sample_ms, clean.shape[1], "voltage", noisy, np.arange(len(graph)), noise,
        *protocol.split, Truth(model.spec.reaction, values, clean, field),
    )  # fmt: skip


def observe(data: DataSet, kind: str, seed: int) -> DataSet:
    """The same synthetic heart as another kind of observation sees it; its noise is of the same relative size."""
    if data.truth is None:
        raise ValueError(f"data set {data.name!r} has no truth; expected a synthetic one; see ecg_gym.tissue.synthetic")
    rng, n = np.random.default_rng([seed, 7]), len(data.graph)
    if kind == "voltage":
        return data
    if kind == "quarter":
        nodes = np.sort(rng.choice(n, round(n / 4), replace=False))
        return replace(data, kind=kind, values=data.values[..., nodes], observed=nodes)
    if kind == "times":
        u = torch.as_tensor(data.truth.u).permute(1, 2, 0)  # (T, N, P)
        times = crossings(u, data.sample_ms, 2).permute(3, 2, 0, 1).numpy()
        noisy = times + TIME_NOISE_MS * data.noise * rng.standard_normal(times.shape)
        return replace(data, kind=kind, values=noisy.astype(np.float32), observed=np.arange(n))
    matrix = lead_matrix(data.graph)
    potential = data.truth.u @ matrix.T
    noisy = potential + data.noise * potential.std() * rng.standard_normal(potential.shape)
    return replace(data, kind=kind, values=noisy.astype(np.float32), observed=matrix)


def lead_matrix(graph: Graph) -> np.ndarray:
    """``(M, N)`` potentials per unit of u: the virtual patient's nine electrodes, or twelve above a sheet.

    Above a sheet the medium is infinite and homogeneous: phi = -sum over the nodes of grad u . grad(1/r), which is the
    graph's operator applied to 1/r. Rows sum to zero and are scaled to norm one.
    """
    if graph.name == "biventricular":
        from ecg_gym.virtual_patient.anatomy import ventricles
        from ecg_gym.virtual_patient.lead_field import electrode_matrix

        rows = electrode_matrix(ventricles())
    else:
        low, high = graph.position.min(axis=0), graph.position.max(axis=0)
        x, y = np.meshgrid(np.linspace(low[0], high[0], 4), np.linspace(low[1], high[1], 3))
        sites = np.stack([x.ravel(), y.ravel(), np.full(12, 4.0)], axis=1)  # 4 mm above
        inverse = 1 / np.linalg.norm(sites[:, None] - graph.position[None], axis=2)
        rows = inverse @ graph.laplacian(graph.weight).toarray()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
