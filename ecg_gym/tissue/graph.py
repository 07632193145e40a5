"""``Graph``: the nodes of a tissue [mm] and the edges along which current flows. Cable, sheet, both ventricles.

An edge of weight w [1/mm2] carries D w (u_j - u_i) [1/ms] for a diffusivity D [mm2/ms], the same into one end as out of
the other: every diffusion on a graph conserves the sum of u.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from scipy.sparse import csr_matrix

CROSSED_MM = 5.0  # gaps between nodes that a wave of a reaction's nominal diffusivity crosses
_KEY_DECIMALS = 6  # of positions, weights and directions that tell one graph from another


@dataclass(frozen=True, eq=False)
class Graph:
    """N nodes, E edges. Two graphs with the same ``key`` are the same."""

    name: str
    position: np.ndarray  # (N, 3) float64 [mm]
    edges: np.ndarray  # (E, 2) int
    weight: np.ndarray  # (E,) [1/mm2] conductance per unit of diffusivity
    fibre: np.ndarray  # (N, 3) unit vectors along the muscle fibres
    features: np.ndarray  # (E, F) static features of the edges, scaled to about -1..1

    def __post_init__(self) -> None:
        n, e = len(self.position), len(self.edges)
        shapes = (self.position.shape, self.edges.shape, self.weight.shape, self.fibre.shape, self.features.shape[:1])
        if shapes != ((n, 3), (e, 2), (e,), (n, 3), (e,)):
            raise ValueError(
                f"graph arrays have shapes {shapes}; expected (N, 3), (E, 2), (E,), (N, 3), (E, F); see Graph"
            )
        if e and not (self.edges.min() >= 0 and self.edges.max() < n and (self.weight > 0).all()):
            raise ValueError(
                "edges point outside the nodes or a weight is not positive; expected 0..N-1 and weights > 0"
            )

    def __len__(self) -> int:
        return len(self.position)

    @cached_property
    def distance(self) -> np.ndarray:
        """``(E,)`` length of the edges [mm]."""
        i, j = self.edges.T
        return np.linalg.norm(self.position[j] - self.position[i], axis=1)

    @cached_property
    def fibre_cosine(self) -> np.ndarray:
        """``(E,)`` |cosine| between an edge and the mean fibre of its ends."""
        i, j = self.edges.T
        flip = np.sign(np.sum(self.fibre[i] * self.fibre[j], axis=1, keepdims=True) + 1e-12)
        mean = self.fibre[i] + flip * self.fibre[j]
        mean /= np.linalg.norm(mean, axis=1, keepdims=True) + 1e-12
        return np.abs(np.sum(mean * (self.position[j] - self.position[i]), axis=1)) / self.distance

    @cached_property
    def key(self) -> str:
        """Sixteen hexadecimal digits of the arrays, rounded: processors differ in the last bits of a cosine."""
        digest = hashlib.sha256()
        for part in (self.position, self.edges, self.weight, self.fibre, self.features):
            rounded = np.round(np.asarray(part, dtype=np.float64), _KEY_DECIMALS) + 0.0  # no negative zero
            digest.update(np.ascontiguousarray(rounded).tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def coarseness(self) -> float:
        """What nominal diffusivities are multiplied by so that waves cross wide gaps: 1 up to ``CROSSED_MM``.

        Between nodes farther apart a wave of nominal diffusivity dies, as it would not in tissue, which has no gaps.
        """
        return max(1.0, float(np.median(self.distance) / CROSSED_MM) ** 2)

    @cached_property
    def incidence(self) -> csr_matrix:
        """``(E, N)``: +1 at the second end of an edge, -1 at the first."""
        e = np.arange(len(self.edges))
        rows, columns = np.r_[e, e], np.r_[self.edges[:, 1], self.edges[:, 0]]
        ones = np.ones(len(e))
        return csr_matrix((np.r_[ones, -ones], (rows, columns)), shape=(len(e), len(self)))

    def laplacian(self, conductance: np.ndarray) -> csr_matrix:
        """``(N, N)`` operator -B^T diag(c) B of edge conductances ``(E,)`` [1/ms]: symmetric, rows sum to zero."""
        b = self.incidence
        return (-(b.T @ b.multiply(np.asarray(conductance)[:, None]).tocsr())).tocsr()

    @cached_property
    def row_bound(self) -> float:
        """Largest |eigenvalue| bound [1/mm2] of the operator of unit diffusivity (twice the largest sum of weights)."""
        return 2 * float(np.bincount(self.edges.ravel(), np.repeat(self.weight, 2), len(self)).max())


def cable(nodes: int, spacing_mm: float) -> Graph:
    """A line of nodes."""
    position = np.zeros((nodes, 3))
    position[:, 0] = spacing_mm * np.arange(nodes)
    edges = np.stack([np.arange(nodes - 1), np.arange(1, nodes)], axis=1)
    fibre = np.tile([1.0, 0.0, 0.0], (nodes, 1))
    weight = np.full(nodes - 1, spacing_mm**-2)
    return Graph(f"cable-{nodes}", position, edges, weight, fibre, np.ones((nodes - 1, 1)))


@cache
def sheet(side: int = 9, spacing_mm: float = 2.0, fibre_degrees: float = 30.0) -> Graph:
    """A square sheet: ``side`` x ``side`` nodes, four neighbours each, parallel fibres; node = row * side + column."""
    y, x = np.mgrid[:side, :side]
    position = spacing_mm * np.stack([x.ravel(), y.ravel(), np.zeros(side * side)], axis=1)
    node = np.arange(side * side).reshape(side, side)
    across = np.stack([node[:, :-1].ravel(), node[:, 1:].ravel()], axis=1)
    down = np.stack([node[:-1].ravel(), node[1:].ravel()], axis=1)
    edges = np.concatenate([across, down])
    angle = np.deg2rad(fibre_degrees)
    fibre = np.tile([np.cos(angle), np.sin(angle), 0.0], (side * side, 1))
    weight = np.full(len(edges), spacing_mm**-2)
    middle = position[edges].mean(axis=1)[:, :2] / (spacing_mm * (side - 1) / 2) - 1
    along = np.repeat([1.0, -1.0], len(across))[:, None]  # across or down
    return Graph(f"sheet-{side}", position, edges, weight, fibre, np.concatenate([middle, along], axis=1))


@cache
def biventricular() -> Graph:
    """Both ventricles of the virtual patient (1,011 nodes, 8,948 edges of 9.1 mm), fibres +60 to -60 degrees by layer.

    Weight 6/(mean number of neighbours x distance^2): on a random graph in three dimensions the sum over the neighbours
    is then D times the Laplacian. Fibre helix: Streeter 1969, Circ Res 24:339.
    """
    from ecg_gym.virtual_patient.anatomy import ventricles

    tissue = ventricles()
    i, j = tissue.pairs.T
    neighbours = np.bincount(tissue.pairs.ravel(), minlength=len(tissue))
    weight = 6.0 / ((neighbours[i] + neighbours[j]) / 2 * tissue.distance**2)
    round_axis = np.stack([-np.sin(tissue.phi), np.cos(tissue.phi), np.zeros(len(tissue))], axis=1)
    helix = np.deg2rad(60 - 120 * tissue.layer)[:, None]
    fibre = np.cos(helix) * round_axis + np.sin(helix) * np.array([0.0, 0.0, 1.0])
    mean = lambda field: (field[i] + field[j]) / 2  # noqa: E731 - a value per edge
    same = (tissue.layer[i] == tissue.layer[j]).astype(float)
    features = np.stack(
        [2 * mean(tissue.z) - 1, mean(np.cos(tissue.phi)), mean(np.sin(tissue.phi)), 2 * mean(tissue.layer) - 1,
         2 * same - 1, 2 * mean(tissue.right.astype(float)) - 1], axis=1,
    )  # fmt: skip
    return Graph("biventricular", tissue.position, tissue.pairs.astype(int), weight, fibre, features)


def control_points(graph: Graph, count: int) -> np.ndarray:
    """``(count,)`` nodes spread evenly over the graph: each next one is the farthest from those before."""
    nodes = [int(np.argmin(np.linalg.norm(graph.position - graph.position.mean(axis=0), axis=1)))]
    gap = np.linalg.norm(graph.position - graph.position[nodes[0]], axis=1)
    while len(nodes) < count:
        nodes.append(int(np.argmax(gap)))
        gap = np.minimum(gap, np.linalg.norm(graph.position - graph.position[nodes[-1]], axis=1))
    return np.array(nodes)


@cache
def smooth_basis(graph: Graph, count: int) -> np.ndarray:
    """``(N, count)`` bells around control points, every row summing to one: a field that is smooth in space."""
    centres = graph.position[control_points(graph, count)]
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=2) + 1e9 * np.eye(count)
    width = 0.8 * np.median(gaps.min(axis=1))
    distance = np.linalg.norm(graph.position[:, None] - centres[None], axis=2)
    bells = np.exp(-0.5 * (distance / width) ** 2)
    return bells / bells.sum(axis=1, keepdims=True)
