"""Activation maps drawn on the tissue: one panel per map, one scale of colours, isochrones every 10 ms.

Flat tissue is drawn from above; a surface in space from two sides. Nodes without a time are grey crosses.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.io import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEP_MS = 10.0  # [ms] between isochrones
COLOURS = "viridis_r"  # early is bright
VIEWS = ((20, -60), (20, 120))  # elevation and azimuth [degrees] of the two sides
FLAT = 0.02  # thickness over extent below which tissue is flat


def draw_maps(
    maps: Mapping[str, np.ndarray], position: np.ndarray, triangles: np.ndarray | None = None, unit: str = "ms"
) -> Figure:
    """A figure of maps ``(N,)`` [ms] by title over nodes ``position (N, 3)`` [mm]; ``triangles (F, 3)`` if known."""
    from matplotlib.figure import Figure

    values = np.concatenate([np.asarray(one, dtype=float) for one in maps.values()])
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    plane = flat(position)
    rows = 1 if plane is not None else len(VIEWS)
    figure = Figure(figsize=(3.1 * len(maps) + 1.0, 3.3 * rows), layout="constrained")
    axes = []
    for row in range(rows):
        for column, (title, times) in enumerate(maps.items()):
            place = (rows, len(maps), row * len(maps) + column + 1)
            if plane is not None:
                ax = figure.add_subplot(*place)
                colours = _draw_flat(ax, plane, np.asarray(times, float), triangles, low, high)
            else:
                ax = figure.add_subplot(*place, projection="3d")
                colours = _draw_in_space(ax, position, np.asarray(times, float), triangles, low, high, VIEWS[row])
            if row == 0:
                ax.set_title(title, fontsize=9)
            axes.append(ax)
    bar = figure.colorbar(colours, ax=axes, label=f"activation [{unit}]", shrink=0.85)
    bar.set_ticks(
        np.arange(STEP_MS * np.ceil(low / STEP_MS), high, STEP_MS * max(1, round((high - low) / 80))).tolist()
    )
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a PNG aside and rename it."""
    with atomic_write(path) as aside:
        figure.savefig(aside, dpi=130, format="png")
    return path


def flat(position: np.ndarray) -> np.ndarray | None:
    """``(N, 2)`` coordinates in the plane of flat tissue, or None."""
    centred = position - position.mean(axis=0)
    if np.ptp(position[:, 2]) < FLAT * np.ptp(position[:, :2], axis=0).max():
        return position[:, :2]
    _, size, axes = np.linalg.svd(centred, full_matrices=False)
    return centred @ axes[:2].T if size[2] < FLAT * size[0] else None


def _draw_flat(
    ax: Any, plane: np.ndarray, times: np.ndarray, triangles: np.ndarray | None, low: float, high: float
) -> Any:
    from matplotlib.tri import Triangulation

    finite = np.isfinite(times)
    colours = ax.scatter(*plane[finite].T, c=times[finite], cmap=COLOURS, vmin=low, vmax=high, s=8)
    if finite.sum() >= 4:
        nodes = plane if triangles is not None else plane[finite]
        mesh = Triangulation(nodes[:, 0], nodes[:, 1], triangles)
        values = np.nan_to_num(times) if triangles is not None else times[finite]
        if triangles is not None:
            mesh.set_mask(~finite[mesh.triangles].all(axis=1))
        levels = np.arange(STEP_MS * np.floor(low / STEP_MS), high + STEP_MS, STEP_MS)
        if len(levels) > 1:
            colours = ax.tricontourf(mesh, values, np.linspace(low, high + 1e-6, 60), cmap=COLOURS, vmin=low, vmax=high)
            ax.tricontour(mesh, values, levels, colors="k", linewidths=0.5)
    ax.plot(*plane[~finite].T, "x", color="0.5", markersize=4)
    ax.set(aspect="equal", xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
    return colours


def _draw_in_space(
    ax: Any,
    position: np.ndarray,
    times: np.ndarray,
    triangles: np.ndarray | None,
    low: float,
    high: float,
    view: tuple[int, int],
) -> Any:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    finite = np.isfinite(times)
    scale = ScalarMappable(Normalize(low, high), colormaps[COLOURS])
    if triangles is not None:
        whole = triangles[finite[triangles].all(axis=1)]
        bands = STEP_MS * np.floor(times[whole].mean(axis=1) / STEP_MS) + STEP_MS / 2
        ax.add_collection3d(Poly3DCollection(position[whole], facecolors=scale.to_rgba(bands), edgecolors="none"))
    else:
        bands = STEP_MS * np.floor(times[finite] / STEP_MS) + STEP_MS / 2
        ax.scatter(*position[finite].T, c=scale.to_rgba(bands), s=14, depthshade=False)
    ax.scatter(*position[~finite].T, marker="x", color="0.6", s=8)
    centre, half = position.mean(axis=0), np.ptp(position, axis=0).max() / 2
    for axis, middle in zip("xyz", centre):
        getattr(ax, f"set_{axis}lim")(middle - half, middle + half)
    ax.view_init(*view)
    ax.set_axis_off()
    return scale
