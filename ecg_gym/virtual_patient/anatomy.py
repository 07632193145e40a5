"""The default heart as a graph: ventricular and atrial nodes in millimetres, neighbours, and the gradient on them.

Local frame of the ventricles: the third axis is the long axis and points to the apex; the left ventricle is a
truncated prolate ellipsoid in three layers, the right ventricle a crescent in two beside it. The atria are two shells.
Every figure comes from ``default_heart.json``, which says where it came from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree


@cache
def heart_table() -> dict[str, Any]:
    """The figures of the default heart, as read from ``default_heart.json``."""
    return json.loads(Path(__file__).with_name("default_heart.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Tissue:
    """N nodes of muscle and how they hang together."""

    position: np.ndarray  # (N, 3) [mm] in the local frame
    volume: np.ndarray  # (N,) relative volume of a node
    pairs: np.ndarray  # (E, 2) neighbours
    distance: np.ndarray  # (E,) [mm]
    gradient: tuple[csr_matrix, csr_matrix, csr_matrix]  # three (N, N): d/dx, d/dy, d/dz of a field on the nodes
    right: np.ndarray  # (N,) bool: right ventricle, or right atrium
    layer: np.ndarray  # (N,) 0 endocardium .. 1 epicardium
    z: np.ndarray  # (N,) 0 base .. 1 apex
    phi: np.ndarray  # (N,) [rad] around the long axis; the septum lies at pi

    def __len__(self) -> int:
        return len(self.position)


@cache
def ventricles() -> Tissue:
    """Both ventricles (about a thousand nodes, 8 mm apart)."""
    shape = heart_table()["ventricles"]
    left = [_shell(r, r, length, shape) for r, length in shape["left_layers_mm"]]
    right = [_shell(rx, ry, length, shape, shape["right_offset_mm"]) for rx, ry, length in shape["right_layers_mm"]]
    wall, long_axis = shape["left_layers_mm"][-1]
    gap = wall + shape["septal_gap_mm"]
    right = [p[(np.hypot(p[:, 0], p[:, 1]) / gap) ** 2 + (p[:, 2] / long_axis) ** 2 >= 1] for p in right]
    shells = [*left, *right]
    layers = [*np.linspace(0, 1, len(left)), *np.linspace(0, 1, len(right))]
    position = np.concatenate(shells)
    layer = np.concatenate([np.full(len(s), x) for s, x in zip(shells, layers)])
    is_right = np.arange(len(position)) >= sum(map(len, left))
    base, apex = shape["base_mm"], long_axis
    volume = np.where(is_right, shape["right_volume_factor"], 1.0)
    return _tissue(
        position, volume, is_right, layer, (position[:, 2] - base) / (apex - base),
        reach_mm=shape["reach_mm"], bridge_mm=shape["bridge_mm"],
    )  # fmt: skip


@cache
def atria() -> Tissue:
    """Both atria (two shells of about 90 nodes each), in the same local frame, above the base."""
    shape = heart_table()["atria"]
    shells = [np.array(a["centre_mm"]) + a["radius_mm"] * _fibonacci(shape["nodes"]) for a in shape["shells"]]
    position = np.concatenate(shells)
    is_right = np.arange(len(position)) < len(shells[0])
    flat = np.zeros(len(position))
    return _tissue(
        position, np.full(len(position), shape["volume"]), is_right, flat, flat,
        reach_mm=shape["reach_mm"], bridge_mm=shape["bridge_mm"],
    )  # fmt: skip


def _shell(rx: float, ry: float, length: float, shape: dict[str, Any], offset: Any = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Points ``(n, 3)`` [mm] on a truncated ellipsoid, one spacing apart along the meridian and along each ring."""
    z = np.linspace(shape["base_mm"], length, 400)
    radius = rx * np.sqrt(np.clip(1 - (z / length) ** 2, 0, None))
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(z), np.diff(radius)))])
    rings = round(arc[-1] / shape["spacing_mm"])
    points = []
    for k in range(rings + 1):
        height = np.interp(arc[-1] * k / rings, arc, z)
        share = np.sqrt(max(0.0, 1 - (height / length) ** 2))
        count = max(1, round(2 * np.pi * rx * share / shape["spacing_mm"]))
        angle = 2 * np.pi * (np.arange(count) + 0.5 * (k % 2)) / count
        points.append(np.stack([rx * share * np.cos(angle), ry * share * np.sin(angle), np.full(count, height)], 1))
    return np.concatenate(points) + np.asarray(offset)


def _fibonacci(n: int) -> np.ndarray:
    """``(n, 3)`` nearly even points on the unit sphere."""
    k = np.arange(n) + 0.5
    polar, turn = np.arccos(1 - 2 * k / n), np.pi * (1 + 5**0.5) * k
    return np.stack([np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.cos(polar)], axis=1)


def _tissue(
    position: np.ndarray, volume: np.ndarray, right: np.ndarray, layer: np.ndarray, z: np.ndarray,
    *, reach_mm: float, bridge_mm: float,
) -> Tissue:  # fmt: skip
    pairs = cKDTree(position).query_pairs(reach_mm, output_type="ndarray")
    distance = np.linalg.norm(position[pairs[:, 0]] - position[pairs[:, 1]], axis=1)
    across = right[pairs[:, 0]] != right[pairs[:, 1]]
    keep = ~across | (distance < bridge_mm)
    pairs, distance = pairs[keep], distance[keep]
    phi = np.arctan2(position[:, 1], position[:, 0])
    scale = heart_table()["scale"]
    gradient = _gradient(scale * position, pairs[~across[keep]])
    return Tissue(scale * position, volume, pairs, scale * distance, gradient, right, layer, z, phi)


def _gradient(position: np.ndarray, pairs: np.ndarray) -> tuple[csr_matrix, csr_matrix, csr_matrix]:
    """Weighted least squares on the neighbours of each node (weights 1/distance^2), as three sparse matrices."""
    n = len(position)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    start = np.searchsorted(both[:, 0], np.arange(n + 1))
    values = np.zeros((len(both), 3))
    for i in range(n):
        rows = slice(start[i], start[i + 1])
        step = position[both[rows, 1]] - position[i]
        weighted = step / np.sum(step**2, axis=1, keepdims=True)
        # A thin wall says little about the direction across it: a small ridge leaves that component near zero.
        values[rows] = np.linalg.solve(weighted.T @ step + 1e-2 * np.eye(3), weighted.T).T
    off = [csr_matrix((values[:, k], (both[:, 0], both[:, 1])), shape=(n, n)) for k in range(3)]
    whole = [g - csr_matrix((np.asarray(g.sum(axis=1)).ravel(), (range(n), range(n))), shape=(n, n)) for g in off]
    return whole[0], whole[1], whole[2]
