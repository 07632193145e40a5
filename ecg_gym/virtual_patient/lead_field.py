"""What nine electrodes see of a heart in a torso: the matrix from membrane potentials to electrode potentials.

The torso is a homogeneous ellipsoid; its boundary is solved with constant elements and analytic solid angles (van
Oosterom and Strackee 1983, IEEE TBME 30:125). By reciprocity nine rows of the inverse suffice, and any pose of the
heart costs one matrix product. The unit of length is the millimetre; conductivity and volume go into one gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.spatial.transform import Rotation

from ecg_gym.virtual_patient.anatomy import Tissue, heart_table

ELECTRODES = ("RA", "LA", "LL", "V1", "V2", "V3", "V4", "V5", "V6")
_BLOCK = 64  # triangles whose solid angles are computed at once


@dataclass(frozen=True)
class Pose:
    """Where the heart lies, relative to the default heart."""

    turn_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)  # rotation vector, torso frame (left, head, front)
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0


def electrode_matrix(tissue: Tissue, pose: Pose = Pose()) -> np.ndarray:
    """``(9, N)``: electrode potentials per unit of membrane potential on the nodes; every row sums to zero.

    phi_e = - sum_i volume_i Z_e(x_i) . grad V(x_i), with Z the lead field of electrode e.
    """
    table = heart_table()
    turn = Rotation.from_rotvec(pose.turn_rad) * Rotation.from_matrix(np.array(table["axes"]))
    axes = turn.as_matrix()
    position = pose.scale * tissue.position @ axes.T + np.array(table["centre_mm"]) + np.array(pose.shift_mm)
    field = _lead_field(position) @ axes  # (9, N, 3) back in the local frame, where the gradient lives
    weight = table["gain"] * pose.scale**2 * tissue.volume
    return -sum((field[..., k] * weight) @ tissue.gradient[k] for k in range(3))


def leads_from_electrodes(potential: np.ndarray) -> np.ndarray:
    """The 12 leads ``(12, T)`` from the nine electrodes ``(9, T)``; Einthoven and Wilson hold by construction."""
    ra, la, ll = potential[:3]
    one, two = la - ra, ll - ra
    wilson = (ra + la + ll) / 3
    return np.stack([one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2, *(potential[3:] - wilson)])


def _lead_field(position: np.ndarray) -> np.ndarray:
    """``(9, N, 3)``: potential at each electrode of a unit dipole along each axis at each position [1/mm^2]."""
    centres, transfer = _torso()
    # sum over elements of transfer (centre - position) / distance^3: one product, the position taken out of the sum
    weighted = np.concatenate([*(transfer * centres.T[k] for k in range(3)), transfer]).T  # (F, 4 x 9)
    parts = [
        _inverse_cube(block, centres) @ weighted for block in np.split(position, range(_BLOCK, len(position), _BLOCK))
    ]
    summed = np.concatenate(parts).reshape(len(position), 4, len(transfer))
    return (summed[:, :3] - position[:, :, None] * summed[:, 3:]).transpose(2, 0, 1)


def _inverse_cube(position: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """``(N, F)``: one over the third power of the distance from each position to each centre."""
    square = np.zeros((len(position), len(centres)))
    for here, there in zip(position.T, centres.T):
        square += (there - here[:, None]) ** 2
    return 1 / (square * np.sqrt(square))


@cache
def _torso() -> tuple[np.ndarray, np.ndarray]:
    """Element centres ``(F, 3)`` [mm] and the transfer ``(9, F)`` from infinite-medium to electrode potentials."""
    table = heart_table()["torso"]
    corners, faces = _icosphere(table["subdivisions"])
    semi_axes = np.array(table["semi_axes_mm"])
    corners = corners * semi_axes
    centres = corners[faces].mean(axis=1)
    blocks = np.split(centres, range(_BLOCK, len(centres), _BLOCK))
    angle = np.abs(np.concatenate([_solid_angle(block, corners[faces]) for block in blocks]))
    np.fill_diagonal(angle, 0)
    share = angle / angle.sum(axis=1, keepdims=True)  # a closed surface fills 2 pi, seen from one of its own elements
    # phi = 2 phi_inf + share phi is singular (a constant solves it without a source): deflate with the mean.
    n = len(faces)
    system = np.eye(n) - share + 1 / n
    electrodes = np.stack([_weights(centres / semi_axes, e, semi_axes) for e in table["electrodes_mm"].values()])
    return centres, 2 * np.linalg.solve(system.T, electrodes.T).T


def _weights(directions: np.ndarray, place_mm: list[float], semi_axes: np.ndarray) -> np.ndarray:
    """A smooth patch of elements around an electrode, weights summing to one."""
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    towards = np.array(place_mm) / semi_axes
    distance = np.linalg.norm(unit - towards / np.linalg.norm(towards), axis=1)
    nearest = np.argsort(distance)[:4]
    weights = np.zeros(len(unit))
    weights[nearest] = np.exp(-((distance[nearest] / 0.06) ** 2))
    return weights / weights.sum()


def _solid_angle(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """``(P, F)`` signed solid angles of triangles ``(F, 3, 3)`` seen from ``points (P, 3)``."""
    a, b, c = (triangles[None, :, k] - points[:, None] for k in range(3))
    la, lb, lc = (np.linalg.norm(x, axis=-1) for x in (a, b, c))
    triple = np.einsum("pfk,pfk->pf", a, np.cross(b, c))
    dots = [np.einsum("pfk,pfk->pf", x, y) for x, y in ((a, b), (a, c), (b, c))]
    return 2 * np.arctan2(triple, la * lb * lc + dots[0] * lc + dots[1] * lb + dots[2] * la)


def _icosphere(subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    """Corners and faces of a unit icosahedron whose triangles were split in four ``subdivisions`` times."""
    g = (1 + 5**0.5) / 2
    ring = [(-1, g), (1, g), (-1, -g), (1, -g)]
    corners = np.array([(x, y, 0) for x, y in ring] + [(0, x, y) for x, y in ring] + [(y, 0, x) for x, y in ring])
    corners /= np.linalg.norm(corners, axis=1, keepdims=True)
    from scipy.spatial import ConvexHull

    for _ in range(subdivisions):
        faces = ConvexHull(corners).simplices
        edges = np.unique(
            np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1), axis=0
        )
        middle = corners[edges].mean(axis=1)
        corners = np.concatenate([corners, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
    return corners, ConvexHull(corners).simplices
