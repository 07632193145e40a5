"""Repolarisation reserve: what blocks of IKr, INaL, ICaL and IKs together do to the action potential.

The human ventricular cell of O'Hara and Rudy (doi:10.1371/journal.pcbi.1002061) with the IKr of Li 2017
(doi:10.1161/CIRCEP.116.004628) and the scales of Dutta 2017 (doi:10.3389/fphys.2017.00616) was paced at 60/min with
every combination of blocks; ``training/data/repolarisation_table.py`` did so and wrote ``assets/repolarisation.npz``.
Over arrays of blocks b = (b_Kr, b_NaL, b_CaL, b_Ks), clipped to the table,

    apd(b)        = APD90_mid(b) / APD90_mid(0)                                  the last cells to repolarise
    dispersion(b) = (APD90 - APD50)_epi(b) / (APD90 - APD50)_epi(0)              how slowly the first ones do
    ln of either  = sum_ijk C[i, j, k] b_Kr^i b_NaL^j b_CaL^k + b_Ks sum_i D[i] b_Kr^i,        C[0, 0, 0] = 0

so that no block is exactly 1, equal blocks of IKr prolong more than proportionally, and a block of late sodium takes
more off a long action potential than off a short one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

TABLE = Path(__file__).parents[1] / "assets" / "repolarisation.npz"
CHANNELS = ("IKr", "INaL", "ICaL")  # order of the axes of the table; IKs was solved beside IKr alone


class Repolarisation(NamedTuple):
    """Factors on the unblocked values, ``(N,)``; 1 where nothing is blocked."""

    apd: np.ndarray  # on the time at which the last cells are back: the end of T
    dispersion: np.ndarray  # on the time from the peak of T to its end


@dataclass(frozen=True)
class ReserveTable:
    """The shipped table and the polynomials that stand for it."""

    apd_ms: np.ndarray  # (3 cells, K, N, C, 3 levels) [ms]: endo, epi, mid; 30, 50, 90 % repolarised
    apd_iks_ms: np.ndarray  # (3 cells, K, 3 levels) [ms] with `iks_block` of IKs
    iks_block: float
    blocks: tuple[np.ndarray, ...]  # the grid of each channel of CHANNELS
    coefficients: np.ndarray  # C (2, i, j, k) of ln apd and ln dispersion
    iks_coefficients: np.ndarray  # D (2, i)
    source: str

    @property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """Lowest and highest block of each channel."""
        return tuple((float(grid[0]), float(grid[-1])) for grid in self.blocks)


@cache
def table() -> ReserveTable:
    """The table of the package."""
    with np.load(TABLE, allow_pickle=False) as file:
        blocks = tuple(file[f"block_{name}"] for name in CHANNELS)
        return ReserveTable(
            apd_ms=file["apd_ms"].astype(float),
            apd_iks_ms=file["apd_iks_ms"].astype(float),
            iks_block=float(file["iks_block"]),
            blocks=blocks,
            coefficients=file["coefficients"],
            iks_coefficients=file["iks_coefficients"],
            source=str(file["source"]),
        )


def repolarisation(ikr: np.ndarray, inal: np.ndarray, ical: np.ndarray, iks: np.ndarray) -> Repolarisation:
    """Factors on duration and dispersion ``(N,)`` at blocked shares ``(N,)``; a negative one of IKr opens more.

    Shares beyond the table count as its edge.
    """
    grid = table()
    powers = [
        np.clip(np.asarray(block, dtype=float), low, high)[..., None] ** np.arange(count)
        for block, (low, high), count in zip((ikr, inal, ical), grid.limits, grid.coefficients.shape[1:])
    ]
    logs = np.einsum("aijk,...i,...j,...k->a...", grid.coefficients, *powers)
    logs = logs + np.clip(iks, 0.0, 1.0) * np.einsum("ai,...i->a...", grid.iks_coefficients, powers[0])
    return Repolarisation(*np.exp(logs))
