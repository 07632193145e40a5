"""``DataSet``: one heart's recordings - graph, pacing protocols, what was observed, and which protocols are for what.

A fit reads the ``train`` protocols, an agent chooses by ``validation`` ones, and ``held_out`` ones judge at the end.
Four kinds of observation: ``voltage`` on every node, ``quarter`` (voltage on a quarter of the nodes), ``times`` (when
u crosses 0.3 upwards and downwards) and ``electrodes`` (potentials through a lead field).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ecg_gym.tissue.graph import Graph

KINDS = ("voltage", "quarter", "times", "electrodes")
SPARSE_KINDS = ("quarter", "times", "electrodes")
THRESHOLD = 0.3  # of u: a node is active above it
STIMULUS_PER_MS = 0.45  # [1/ms] current into paced nodes
STIMULUS_MS = 3.0  # how long a stimulus lasts


@dataclass(frozen=True)
class Pacing:
    """Who is stimulated and when: one set of nodes and one onset per stimulus (S1, S2)."""

    nodes: tuple[tuple[int, ...], ...]
    onset_ms: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.nodes) != len(self.onset_ms) or not self.nodes:
            raise ValueError(
                f"pacing has {len(self.nodes)} sets of nodes and {len(self.onset_ms)} onsets; expected one onset each"
            )

    def current(self, n: int, t_ms: float) -> np.ndarray:
        """``(n,)`` stimulus [1/ms] at a time."""
        out = np.zeros(n)
        for nodes, onset in zip(self.nodes, self.onset_ms):
            if onset <= t_ms < onset + STIMULUS_MS:
                out[list(nodes)] = STIMULUS_PER_MS
        return out


@dataclass(frozen=True, eq=False)
class Truth:
    """How a synthetic heart was made. For judging only: no fit and no agent reads it."""

    reaction: str
    values: dict[str, float]  # parameters of the reaction
    u: np.ndarray  # (P, T, N) float32, without noise
    log_diffusion: np.ndarray  # (N,) log D [log mm2/ms]


@dataclass(frozen=True, eq=False)
class DataSet:
    """P protocols of T samples, ``sample_ms`` apart; sample k is taken at ``(k + 1) * sample_ms``."""

    name: str
    graph: Graph
    pacing: tuple[Pacing, ...]  # P
    sample_ms: float
    samples: int  # T
    kind: str  # one of KINDS
    values: np.ndarray  # (P, T, M) voltage, quarter, electrodes; (P, N, beats, 2) [ms] times, NaN where none
    observed: np.ndarray  # (M,) nodes (voltage, quarter, times) or (M, N) matrix (electrodes)
    noise: float  # standard deviation of u (times: of the times, in units of 10 ms; electrodes: relative to their SD)
    train: tuple[int, ...] = (0, 1)
    validation: tuple[int, ...] = (2,)
    held_out: tuple[int, ...] = (3,)
    truth: Truth | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}; expected one of {KINDS}; check the spelling")
        p = len(self.pacing)
        if len(self.values) != p:
            raise ValueError(f"values hold {len(self.values)} protocols for {p} pacings; expected one each")
        if self.kind != "times" and self.values.shape[1:] != (self.samples, len(self.observed)):
            raise ValueError(
                f"values have shape {self.values.shape}; expected {(p, self.samples, len(self.observed))}; see DataSet"
            )
        protocols = (*self.train, *self.validation, *self.held_out)
        if len(set(protocols)) != len(protocols) or not set(protocols) <= set(range(p)):
            raise ValueError(f"train, validation and held_out are {protocols}; expected different protocols below {p}")

    @property
    def duration_ms(self) -> float:
        """Length of a recording [ms]."""
        return self.samples * self.sample_ms

    @cached_property
    def key(self) -> str:
        """Sixteen hexadecimal digits of all that a fit can see; with ``Spec.key`` it names a cached fit."""
        digest = hashlib.sha256(f"{self.graph.key} {self.pacing} {self.sample_ms} {self.kind}".encode())
        digest.update(f"{self.train} {self.validation} {self.held_out}".encode())
        for part in (self.values, self.observed):
            digest.update(np.ascontiguousarray(part, dtype=np.float64).tobytes())
        return digest.hexdigest()[:16]

    @property
    def batch_key(self) -> tuple[Any, ...]:
        """Data sets with the same one can be fitted as one tensor."""
        beats = max(len(p.nodes) for p in self.pacing)
        split = (self.train, self.validation, self.held_out)
        shape = (self.samples, self.sample_ms, len(self.pacing), beats)
        return (self.graph.key, self.kind, shape, split, self.observed.shape)
