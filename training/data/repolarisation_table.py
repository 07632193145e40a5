"""The table ``ecg_gym/assets/repolarisation.npz``: action potential durations over blocks of IKr, INaL, ICaL and IKs.

    python -m training.data.repolarisation_table [--out PATH]     about 10 minutes on one core; needs numba

Each cell type goes to its steady state at 60/min without drug (1,000 beats) and from there through ``BEATS`` beats with
every combination of blocks. A negative block of IKr is the larger conductance of high potassium. Where a cell no longer
repolarises between two beats, what lies nearest along IKr stands in, and ``filled`` counts it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np

from training.data.ord_cell import CELLS, CHANNELS, LEVELS, PERIOD_MS, pace

BLOCKS = {
    "IKr": (-0.6, -0.3, -0.15, 0.0, 0.15, 0.3, 0.45, 0.6, 0.75),
    "INaL": (0.0, 0.25, 0.5, 0.75, 1.0),
    "ICaL": (0.0, 0.2, 0.4, 0.6),
    "IKs": (0.0, 0.5),
}
BEATS, WARM_UP = 150, 1000
SOURCE = (
    "O'Hara 2011 doi:10.1371/journal.pcbi.1002061 with IKr of Li 2017 doi:10.1161/CIRCEP.116.004628 and scales of "
    "Dutta 2017 doi:10.3389/fphys.2017.00616; training/data/repolarisation_table.py"
)


def durations(progress: Callable[[int, int], None] = lambda done, of: None) -> tuple[np.ndarray, int]:
    """``(3 cells, 9, 5, 4, 2, 3 levels)`` [ms] in the order of CELLS, BLOCKS and LEVELS, and how many were filled."""
    shape = tuple(len(v) for v in BLOCKS.values())
    apd = np.full((len(CELLS), *shape, len(LEVELS)), np.nan)
    for c, cell in enumerate(CELLS):
        _, start = pace(cell, beats=WARM_UP)
        for done, at in enumerate(np.ndindex(shape), 1):
            blocks = {name: BLOCKS[name][i] for name, i in zip(CHANNELS, at)}
            apd[c, *at] = pace(cell, blocks, BEATS, start)[0]
            progress(c * int(np.prod(shape)) + done, len(CELLS) * int(np.prod(shape)))
    return _filled(apd)


def _filled(apd: np.ndarray) -> tuple[np.ndarray, int]:
    """Missing values carried on along IKr, with the last step that was measured."""
    missing = 0
    for c, level in product(range(apd.shape[0]), range(apd.shape[-1])):
        for at in np.ndindex(apd.shape[2:-1]):
            row = apd[c, :, *at, level]
            for i in range(1, len(row)):
                if not np.isfinite(row[i]):
                    missing += 1
                    row[i] = row[i - 1] + max(row[i - 1] - row[i - 2], 0.0)
    return apd, missing


def write(path: Path) -> None:
    """Solve and write the table."""
    apd, missing = durations(lambda done, of: print(f"\r{done} of {of}", end="", flush=True))
    grid = {f"block_{name}": np.array(values) for name, values in BLOCKS.items()}
    aside = path.with_name(f".{path.name}.part")
    with open(aside, "wb") as file:
        np.savez_compressed(
            file, apd_ms=apd.astype(np.float32), cells=np.array(CELLS), levels=np.array(LEVELS), filled=missing,
            period_ms=PERIOD_MS, beats=BEATS, source=SOURCE, **grid,
        )  # fmt: skip
    aside.replace(path)
    print(f"\n{path}: {apd.shape}, {missing} filled")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("ecg_gym/assets/repolarisation.npz"))
    write(parser.parse_args().out)
