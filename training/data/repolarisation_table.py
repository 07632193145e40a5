"""The table ``ecg_gym/assets/repolarisation.npz``: action potential durations over blocks of IKr, INaL, ICaL and IKs.

    python -m training.data.repolarisation_table [--out PATH]     about 3 minutes on one quiet core; needs numba

Each cell type goes to its steady state at 60/min without drug (1,000 beats) and from there through ``BEATS`` beats with
every combination of blocks of the first three, and of IKr with one block of IKs. A negative block of IKr is the larger
conductance of high potassium. Where a cell no longer repolarises between two beats, its last step along IKr is carried
on, and ``filled`` counts it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ecg_gym.io import write_npz
from training.data.ord_cell import CELLS, LEVELS, PERIOD_MS, pace

BLOCKS = {
    "IKr": (-0.6, -0.3, -0.15, 0.0, 0.15, 0.3, 0.45, 0.6, 0.75),
    "INaL": (0.0, 0.3, 0.6, 1.0),
    "ICaL": (0.0, 0.25, 0.5),
}
IKS_BLOCK = 0.5  # beside IKr alone
BEATS, WARM_UP = 100, 1000
DEGREES, IKS_DEGREE = (6, 2, 2), 3  # of the polynomials in the blocks of BLOCKS, and in that of IKr beside IKs
SOURCE = (
    "O'Hara 2011 doi:10.1371/journal.pcbi.1002061 with IKr of Li 2017 doi:10.1161/CIRCEP.116.004628 and scales of "
    "Dutta 2017 doi:10.3389/fphys.2017.00616; training/data/repolarisation_table.py"
)


def durations(progress: Callable[[int, int], None] = lambda done, of: None) -> tuple[np.ndarray, np.ndarray]:
    """``(3 cells, 9, 4, 3, 3 levels)`` [ms] by CELLS, BLOCKS and LEVELS; and ``(3, 9, 3)`` with IKs blocked."""
    shape = tuple(len(values) for values in BLOCKS.values())
    apd, with_iks = (
        np.full((len(CELLS), *shape, len(LEVELS)), np.nan),
        np.full((len(CELLS), shape[0], len(LEVELS)), np.nan),
    )
    for c, cell in enumerate(CELLS):
        _, start = pace(cell, beats=WARM_UP)
        for done, at in enumerate(np.ndindex(shape), 1):
            apd[c, *at] = pace(cell, {name: BLOCKS[name][i] for name, i in zip(BLOCKS, at)}, BEATS, start)[0]
            progress(c * int(np.prod(shape)) + done, len(CELLS) * int(np.prod(shape)))
        for i, ikr in enumerate(BLOCKS["IKr"]):
            with_iks[c, i] = pace(cell, {"IKr": ikr, "IKs": IKS_BLOCK}, BEATS, start)[0]
    return apd, with_iks


def filled(apd: np.ndarray) -> tuple[np.ndarray, int]:
    """What is missing in ``(3, 9, ...)``, or fell where more IKr was blocked, carried on along IKr; and how many."""
    apd, missing = apd.copy(), ~np.isfinite(apd)
    for i in range(2, apd.shape[1]):
        missing[:, i] |= apd[:, i] < apd[:, i - 1]  # alternates, or does not come back
        carried = apd[:, i - 1] + np.maximum(apd[:, i - 1] - apd[:, i - 2], 0.0)
        apd[:, i] = np.where(missing[:, i], carried, apd[:, i])
    return apd, int(missing.sum())


def coefficients(apd: np.ndarray, with_iks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(2, 6, 3, 3)`` and ``(2, 6)`` of ``ecg_gym.pharmacology.repolarisation``: least squares of the logarithms."""
    grid = np.meshgrid(*BLOCKS.values(), indexing="ij")
    terms = list(np.ndindex(*(d + 1 for d in DEGREES)))[1:]  # without the constant: no block changes nothing
    design = np.stack([np.prod([b**p for b, p in zip(grid, term)], axis=0).ravel() for term in terms], axis=1)
    rest = tuple(BLOCKS[name].index(0.0) for name in BLOCKS)
    result, iks = np.zeros((2, *(d + 1 for d in DEGREES))), np.zeros((2, DEGREES[0] + 1))
    for i, (whole, other) in enumerate(zip(_quantities(apd), _quantities(with_iks))):
        solved = np.linalg.lstsq(design, np.log(whole / whole[rest]).ravel(), rcond=None)[0]
        for term, value in zip(terms, solved):
            result[i, *term] = value
        more = np.log(other / whole[:, 0, 0]) / IKS_BLOCK
        iks[i, : IKS_DEGREE + 1] = np.polynomial.polynomial.polyfit(BLOCKS["IKr"], more, IKS_DEGREE)
    return result, iks


def _quantities(apd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What stands for the end of T and for its peak-to-end, of durations ``(3 cells, ..., 3 levels)``."""
    return apd[2, ..., 2], apd[1, ..., 2] - apd[1, ..., 1]


def write(path: Path, solved: tuple[np.ndarray, np.ndarray] | None = None) -> None:
    """Write the table of these durations, or solve for them first."""
    solved = solved or durations(lambda done, of: print(f"\r{done} of {of}", end="", flush=True))
    (apd, gaps), (with_iks, more_gaps) = filled(solved[0]), filled(solved[1])
    missing, (polynomial, iks) = gaps + more_gaps, coefficients(apd, with_iks)
    grid = {f"block_{name}": np.array(values) for name, values in BLOCKS.items()}
    table = {
        "apd_ms": apd.astype(np.float32), "apd_iks_ms": with_iks.astype(np.float32), "coefficients": polynomial,
        "iks_coefficients": iks, "iks_block": IKS_BLOCK, "cells": np.array(CELLS), "levels": np.array(LEVELS),
        "filled": missing, "period_ms": PERIOD_MS, "beats": BEATS, "source": SOURCE, **grid,
    }  # fmt: skip
    write_npz(path, table, compressed=True)
    print(f"\n{path}: {apd.shape}, {missing} filled")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("ecg_gym/assets/repolarisation.npz"))
    write(parser.parse_args().out)
