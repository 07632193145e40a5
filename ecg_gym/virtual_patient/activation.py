"""When each node fires: shortest travel times from Purkinje exits, a focus, a pacing lead or an extra pathway.

The eikonal limit of conduction: a graph, a speed on each edge, Dijkstra from all sources with their delays. A drug
that slows conduction everywhere divides all times by one factor, so a map is computed once and rescaled.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from ecg_gym.virtual_patient.anatomy import Tissue, atria, heart_table, ventricles


@cache
def ventricular_map(kind: str, fusion_ms: float = 0.0) -> np.ndarray:
    """``(N,)`` activation times [ms] of the ventricular nodes after the first of them.

    ``kind`` is a key of ``sources`` in ``default_heart.json``: normal, lbbb, rbbb, bifascicular, preexcited, paced, or
    an ectopic focus. A pre-excited beat is a race: the normal path arrives ``fusion_ms`` after the accessory one.
    """
    if kind == "preexcited":
        times = np.minimum(_alone(kind), _alone("normal") + fusion_ms)
        return times - times.min()
    return _alone(kind)


@cache
def _alone(kind: str) -> np.ndarray:
    """``(N,)`` activation times [ms] from the sources of one kind."""
    table, tissue = heart_table(), ventricles()
    sources = table["sources"][kind]
    sites = {site["name"]: site for site in table["purkinje_sites"]} | {s["name"]: s for s in table["other_sites"]}
    starts = [sites[name] for name in sources["sites"]]
    delays = [site["delay_ms"] for site in starts] if "delays_ms" not in sources else sources["delays_ms"]
    speed = edge_speeds(tissue) * sources.get("speed_factor", 1.0)
    times = _travel(tissue, speed, [_nearest(tissue, site) for site in starts], delays)
    return times - times.min()


@cache
def atrial_map() -> np.ndarray:
    """``(N,)`` activation times [ms] of the atrial nodes after the sinus node fires, left atrium through Bachmann."""
    table, tissue = heart_table()["atria"], atria()
    scale = heart_table()["scale"]

    def node(place_mm: list[float], right: bool) -> int:
        distance = np.linalg.norm(tissue.position - scale * np.array(place_mm), axis=1)
        return int(np.argmin(np.where(tissue.right == right, distance, np.inf)))

    bridge = table["bachmann"]
    starts = [node(table["sinus_node_mm"], True), node(bridge["left_mm"], False)]
    times = _travel(tissue, np.full(len(tissue.pairs), table["speed_m_per_s"]), starts, [0.0, bridge["delay_ms"]])
    return times - times.min()


def inert(region: np.ndarray, potential_rows: np.ndarray) -> np.ndarray:
    """Electrode rows ``(9, N)`` for a heart whose ``region (N,)`` is scar: its potential follows its border smoothly.

    The scar's potential is the harmonic extension of the border's, so it makes Q waves without an ST shift:
    A V = A_live V_live + A_scar H V_live, hence the rows of the living nodes absorb those of the scar.
    """
    tissue = ventricles()
    n = len(tissue)
    i, j = tissue.pairs.T
    adjacency = csr_matrix((np.ones(2 * len(i)), (np.r_[i, j], np.r_[j, i])), shape=(n, n))
    dead, alive = np.flatnonzero(region), np.flatnonzero(~region)
    degree = np.asarray(adjacency.sum(axis=1)).ravel()
    laplace = np.diag(degree[dead]) - adjacency[dead][:, dead].toarray()
    extension = np.linalg.solve(laplace, adjacency[dead][:, alive].toarray())
    rows = np.zeros_like(potential_rows)
    rows[:, alive] = potential_rows[:, alive] + potential_rows[:, dead] @ extension
    return rows


def region(name: str) -> np.ndarray:
    """``(N,)`` bool: the ventricular nodes of a named territory of ``default_heart.json``."""
    where, tissue = heart_table()["territories"][name], ventricles()
    turned = np.angle(np.exp(1j * (tissue.phi - where["phi_rad"])))
    low, high = where["z"]
    return ~tissue.right & (np.abs(turned) <= where["half_width_rad"]) & (low <= tissue.z) & (tissue.z <= high)


def edge_speeds(tissue: Tissue) -> np.ndarray:
    """Conduction speed on each edge [m/s = mm/ms]: fast along the endocardium except at its Purkinje-free base."""
    table = heart_table()
    speed = table["speeds_m_per_s"]
    i, j = tissue.pairs.T
    fast = (tissue.layer[i] == 0) & (tissue.layer[j] == 0)
    fast &= (tissue.z[i] > table["purkinje_free_base_z"]) & (tissue.z[j] > table["purkinje_free_base_z"])
    right, left = tissue.right[i] & tissue.right[j], ~tissue.right[i] & ~tissue.right[j]
    out = np.where(tissue.layer[i] == tissue.layer[j], speed["myocardium"], speed["transmural"])
    return np.where(fast & left, speed["lv_endocardium"], np.where(fast & right, speed["rv_endocardium"], out))


def _nearest(tissue: Tissue, site: dict[str, Any]) -> int:
    """The endocardial node (epicardial for ``layer: 1``) nearest to a site given by z and phi."""
    candidates = np.flatnonzero((tissue.right == (site["chamber"] == "RV")) & (tissue.layer == site.get("layer", 0)))
    up = (tissue.z[candidates] - site["z_base0_apex1"]) * 90  # [mm] along the axis and around it: rough is enough
    around = np.angle(np.exp(1j * (tissue.phi[candidates] - site["phi_rad"]))) * 25
    return int(candidates[np.argmin(up**2 + around**2)])


def _travel(tissue: Tissue, speed: np.ndarray, starts: list[int], delays: list[float]) -> np.ndarray:
    """``(N,)`` earliest arrival [ms] from a virtual source tied to every start by its delay."""
    n = len(tissue)
    i, j = tissue.pairs.T
    weight = np.r_[tissue.distance / speed, np.maximum(delays, 1e-3)]
    graph = csr_matrix((weight, (np.r_[i, np.full(len(starts), n)], np.r_[j, starts])), shape=(n + 1, n + 1))
    return dijkstra(graph, directed=False, indices=n)[:n]
