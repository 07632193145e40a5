"""``FittedTissue``: a fitted model of both ventricles, asked two things: when does each node fire, and for how long.

The reaction-diffusion equations run on the virtual patient's own graph in NumPy; Purkinje exits, foci and pacing leads
stimulate where and when the virtual patient's sources do. A drug that slows conduction by a factor scales every
conductance by its inverse square; a longer action potential is another value of one reaction parameter (the knob) in
every node, which shifts all durations alike and needs no new simulation. Maps are made once per kind of beat for a few
velocities and interpolated between them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from scipy.sparse import csr_matrix

from ecg_gym.io import atomic_write
from ecg_gym.tissue.graph import Graph, biventricular
from ecg_gym.tissue.reactions import reaction
from ecg_gym.tissue.recording import STIMULUS_MS, STIMULUS_PER_MS

KNOBS = {"ms": "tclose", "mms": "tclose", "ap": "e0", "rm": "b", "fhn": "b"}  # what sets the action potential's length
VELOCITIES = (1.4, 1.2, 1.0, 0.9, 0.8, 0.7, 0.55)  # factors at which maps are made
STEP_MS = 0.2
LONGEST_MS = 1000.0  # of one simulated beat
LEVEL = 0.3  # of u: a node is active above it
LEAST_ACTIVE = 0.98  # share of the nodes that a wave must reach for its map to count
FORMAT = "ecg-gym tissue 1"


@dataclass(frozen=True, eq=False)
class FittedTissue:
    """One heart's tissue. Equal and hashed by ``key``, so caches can be kept by it."""

    reaction: str  # a key of KNOBS
    values: Mapping[str, float]  # parameters of the reaction, in the units of reactions.yaml
    knob: np.ndarray  # (N,) value of the knob parameter on every node
    conductance: np.ndarray  # (E,) [1/ms]
    key: str = ""
    notes: Mapping[str, Any] = field(default_factory=dict)  # where it came from; JSON

    def __post_init__(self) -> None:
        graph = biventricular()
        shapes = (np.shape(self.knob), np.shape(self.conductance))
        if self.reaction not in KNOBS:
            raise ValueError(f"reaction is {self.reaction!r}; expected one of {tuple(KNOBS)}; fit one of those")
        if shapes != ((len(graph),), (len(graph.edges),)):
            raise ValueError(
                f"knob and conductance have shapes {shapes}; expected ({len(graph)},) and ({len(graph.edges)},), the "
                "nodes and edges of ecg_gym.tissue.biventricular(); fit on that graph"
            )
        if not ((np.asarray(self.conductance) > 0).all() and (np.asarray(self.knob) > 0).all()):
            raise ValueError("a conductance or a knob value is not positive; expected positive numbers; check the fit")
        object.__setattr__(self, "key", self.key or _digest(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FittedTissue) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def activation_ms(self, kind: str, slowness: float, fusion_ms: float = 0.0) -> np.ndarray:
        """``(N,)`` firing times [ms] after the first, of a kind of beat (as in ``activation.ventricular_map``).

        ``slowness`` is the factor on conduction times that a drug or the heart itself asks for. A pre-excited beat is a
        race: the normal path arrives ``fusion_ms`` (at slowness 1) after the accessory one.
        """
        fire = self._at(kind, slowness)[0]
        if kind == "preexcited":
            fire = np.minimum(fire, self._at("normal", slowness)[0] + fusion_ms * slowness)
        return fire - fire.min()

    def longer_ms(self) -> np.ndarray:
        """``(N,)`` [ms], zero mean: by how much a node's action potential outlasts the average in a normal beat."""
        duration = self._at("normal", 1.0)[1]
        return duration - duration.mean()

    def knob_for(self, apd_ms: np.ndarray) -> np.ndarray:
        """The knob's value that gives a single cell an action potential of that length [ms], shape kept."""
        knobs, lengths = knob_table(self.reaction, tuple(sorted(self.values.items())))
        return np.exp(np.interp(apd_ms, lengths, np.log(knobs)))

    def with_apd(self, change_ms: float) -> FittedTissue:
        """The tissue a drug makes that changes every action potential by ``change_ms``: another knob in every node."""
        knobs, lengths = knob_table(self.reaction, tuple(sorted(self.values.items())))
        own = np.interp(np.log(self.knob), np.log(knobs), lengths)
        return FittedTissue(self.reaction, self.values, self.knob_for(own + change_ms), self.conductance)

    def _at(self, kind: str, slowness: float) -> tuple[np.ndarray, np.ndarray]:
        """Firing times and durations at a slowness: between two simulated ones, or the nearest one scaled."""
        stops, fire, duration = beat_maps(self, kind)
        place = float(np.clip(slowness, stops[0], stops[-1]))
        high = min(max(int(np.searchsorted(stops, place)), 1), len(stops) - 1)
        share = (place - stops[high - 1]) / (stops[high] - stops[high - 1])
        mix = lambda rows: (1 - share) * rows[high - 1] + share * rows[high]  # noqa: E731
        return mix(fire) * (slowness / place), mix(duration)

    @cached_property
    def operator(self) -> csr_matrix:
        """``(N, N)`` diffusion operator [1/ms]."""
        return biventricular().laplacian(self.conductance)

    def save(self, path: str | Path) -> None:
        """``path`` (safetensors: knob, conductance; the rest as JSON in its header). No pickle."""
        header = {
            "format": FORMAT, "reaction": self.reaction, "values": json.dumps(dict(self.values)),
            "graph": biventricular().key, "notes": json.dumps(dict(self.notes)),
        }  # fmt: skip
        arrays = {"knob": self.knob.astype(np.float32), "conductance": self.conductance.astype(np.float32)}
        with atomic_write(path) as aside:
            aside.write_bytes(save_tensors(arrays, header))

    @classmethod
    def load(cls, path: str | Path) -> FittedTissue:
        """The tissue written by :meth:`save`; raises ``ValueError`` for another kind of file or another graph."""
        data = Path(path).read_bytes()
        header = _header(data, path)
        if header.get("format") != FORMAT or header.get("graph") != biventricular().key:
            raise ValueError(
                f"{path} has format {header.get('format')!r} and graph {header.get('graph')!r}; "
                f"expected {FORMAT!r} and {biventricular().key!r}; write it again with FittedTissue.save"
            )
        arrays = load_tensors(data)
        return cls(
            header["reaction"], json.loads(header["values"]), arrays["knob"], arrays["conductance"],
            notes=json.loads(header["notes"]),
        )  # fmt: skip


def _header(data: bytes, path: str | Path) -> dict[str, str]:
    size = int.from_bytes(data[:8], "little")
    try:
        return dict(json.loads(data[8 : 8 + size])["__metadata__"])
    except (ValueError, KeyError) as problem:
        raise ValueError(f"{path} is no tissue file; expected one written by FittedTissue.save") from problem


def _digest(tissue: FittedTissue) -> str:
    import hashlib

    digest = hashlib.sha256(f"{tissue.reaction} {sorted(tissue.values.items())}".encode())
    digest.update(np.float32(tissue.knob).tobytes() + np.float32(tissue.conductance).tobytes())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=256)
def beat_maps(tissue: FittedTissue, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slowness ``(V,)`` rising, firing times ``(V, N)`` and durations ``(V, N)`` [ms] of a kind of beat.

    The slowness of a velocity is what its normal beat shows: the span of its map over that of velocity 1.
    """
    fire, duration = simulate_beat(tissue, kind)
    if kind == "normal":
        spans = np.ptp(fire, axis=1)
        rows = [v for v in range(len(fire)) if np.isfinite(spans[v])]
        fire, duration, spans = fire[rows], duration[rows], spans[rows]
        reference = [VELOCITIES[v] for v in rows].index(1.0)
        return spans / spans[reference], fire - fire.min(axis=1, keepdims=True), duration
    stops = beat_maps(tissue, "normal")[0]
    fire, duration = fire[: len(stops)], duration[: len(stops)]
    rows = np.isfinite(fire).all(axis=1) & np.isfinite(duration).all(axis=1)
    if rows.sum() < 2:
        raise ValueError(f"a {kind} beat does not cross the tissue {tissue.key}; expected it to; fit the tissue again")
    return stops[rows], (fire - fire.min(axis=1, keepdims=True))[rows], duration[rows]


def simulate_beat(
    tissue: FittedTissue, kind: str, velocities: tuple[float, ...] = VELOCITIES
) -> tuple[np.ndarray, np.ndarray]:
    """Firing times and durations ``(V, N)`` [ms] at all ``velocities`` at once; NaN where a wave reaches too little."""
    r, graph = reaction(tissue.reaction), biventricular()
    factor = np.array(velocities) ** 2
    onset = _stimuli(kind)[:, None] / np.array(velocities)  # (N, V): the Purkinje system slows as well
    p: dict[str, Any] = dict(tissue.values) | {KNOBS[tissue.reaction]: tissue.knob[:, None]}
    shape = (len(graph), len(velocities))
    u, hidden = np.zeros(shape), tuple(np.full(shape, value) for value in r.rest)
    up, down = np.full(shape, np.nan), np.full(shape, np.nan)
    start, latest = float(onset.min()), float(onset[np.isfinite(onset)].max()) + STIMULUS_MS
    for step in range(round(LONGEST_MS / STEP_MS)):
        t = start + step * STEP_MS
        du, dv = r.rates(u, hidden, p, np)
        du = du + factor * (tissue.operator @ u)
        if t <= latest:
            du += STIMULUS_PER_MS * ((onset <= t) & (t < onset + STIMULUS_MS))
        after = u + STEP_MS * du
        hidden = tuple(h + STEP_MS * d for h, d in zip(hidden, dv))
        crossed = t + STEP_MS * np.clip((LEVEL - u) / np.where(after == u, 1.0, after - u), 0, 1)
        up = np.where(np.isnan(up) & (after >= LEVEL), crossed, up)
        down = np.where((after < LEVEL) & (u >= LEVEL), crossed, down)
        u = after
        if step % 50 == 0 and t > latest + 60 and not (u >= LEVEL).any():
            break
    reached = np.isfinite(up) & np.isfinite(down)
    good = reached.mean(axis=0) >= LEAST_ACTIVE
    fire, duration = (_filled(graph, np.where(good, x, np.nan)) for x in (up, down - up))
    return fire.T, duration.T


def _filled(graph: Graph, field_: np.ndarray) -> np.ndarray:
    """The few nodes that no wave reached take the mean of their neighbours; a column without any value stays NaN."""
    neighbours = (abs(graph.incidence.T) @ abs(graph.incidence)).tolil()
    neighbours.setdiag(0)
    rows = neighbours.tocsr()
    out = field_.copy()
    for column in np.flatnonzero(np.isfinite(out).any(axis=0)):
        for _ in range(20):
            missing = np.isnan(out[:, column])
            if not missing.any():
                break
            value = rows @ np.where(missing, 0.0, out[:, column]) / np.maximum(rows @ (~missing).astype(float), 1e-9)
            has = missing & (rows @ (~missing).astype(float) > 0)
            out[has, column] = value[has]
    return out


@lru_cache(maxsize=32)
def _stimuli(kind: str) -> np.ndarray:
    """``(N,)`` when a node is stimulated [ms], infinite where never: the sources of the virtual patient's beat."""
    from ecg_gym.virtual_patient.activation import ventricular_map

    graph, times = biventricular(), ventricular_map(kind) if kind != "preexcited" else _alone_preexcited()
    onset = np.full(len(graph), np.inf)
    i, j = graph.edges.T
    earliest = np.full(len(graph), np.inf)
    np.minimum.at(earliest, i, times[j])
    np.minimum.at(earliest, j, times[i])
    for node in np.flatnonzero(times <= earliest + 1e-9):
        mine = np.r_[node, j[i == node], i[j == node]]
        onset[mine] = np.minimum(onset[mine], times[node])
    return onset


def _alone_preexcited() -> np.ndarray:
    from ecg_gym.virtual_patient.activation import ventricular_map

    return ventricular_map("preexcited", 1e6)  # the normal path comes too late to matter


@lru_cache(maxsize=64)
def knob_table(name: str, values: tuple[tuple[str, float], ...]) -> tuple[np.ndarray, np.ndarray]:
    """Knob values and the action potential durations [ms] they give a single cell, durations rising."""
    r, p = reaction(name), dict(values)
    row = next(row for row in r.parameters if row.name == KNOBS[name])
    knobs = np.exp(np.linspace(np.log(row.low), np.log(row.high), 33))
    u, hidden = np.zeros(33), tuple(np.full(33, value) for value in r.rest)
    active = np.zeros(33)
    for step in range(round(1200 / STEP_MS)):
        du, dv = r.rates(u, hidden, p | {row.name: knobs}, np)
        u = u + STEP_MS * (du + STIMULUS_PER_MS * (step * STEP_MS < STIMULUS_MS))
        hidden = tuple(h + STEP_MS * d for h, d in zip(hidden, dv))
        active += STEP_MS * (u >= LEVEL)
    order = np.argsort(active)
    keep = np.r_[True, np.diff(active[order]) > 1e-6] & (active[order] < 1100)
    return knobs[order][keep], active[order][keep]
