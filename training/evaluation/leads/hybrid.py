"""The hybrid tissue beside the virtual patient: drug effects on QT and QRS, and twins of real records.

Drug effects are read off noise-free beats of the same hearts, before and at a drug's peak. A record's twin is judged
twice: by the noise-free beat it shows, and by the delineator on a strip it draws.

    python -m training.evaluation.leads.hybrid --hearts 20 --records FOLDER    # of WFDB records, the first thirty
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.core import ECG, MODEL_RATE_HZ, WATCH, Dose, Patient, Treatment
from ecg_gym.datasets import read_record
from ecg_gym.tissue.world import HybridTissue
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.waveform import measure

DRUGS = (
    Dose("dofetilide", 0.5, "mg", "PO"), Dose("quinidine", 400.0, "mg", "PO"), Dose("ranolazine", 1000.0, "mg", "PO"),
    Dose("flecainide", 300.0, "mg", "PO"),
)  # fmt: skip
STEPS = 2  # hours after the dose


def drug_effects(hearts: int = 10, seed: int = 0, drugs: Sequence[Dose] = DRUGS) -> list[dict[str, Any]]:
    """One row per drug: mean effect on QT and QRS [ms] in both worlds, and the largest difference of one heart."""
    rows = []
    virtual, hybrid = VirtualPatient(), HybridTissue()
    for dose in drugs:
        effects = {
            name: _effects(world, dose, hearts, seed) for name, world in (("virtual", virtual), ("hybrid", hybrid))
        }
        row: dict[str, Any] = {"drug": str(dose), "hearts": hearts}
        for k, interval in enumerate(("qt", "qrs")):
            for name in effects:
                row[f"{interval}_{name}_ms"] = float(effects[name][:, k].mean())
            row[f"{interval}_difference_ms"] = float(
                abs(effects["hybrid"][:, k].mean() - effects["virtual"][:, k].mean())
            )
            row[f"{interval}_largest_ms"] = float(np.abs(effects["hybrid"][:, k] - effects["virtual"][:, k]).max())
        rows.append(row)
    return rows


def _effects(world: VirtualPatient, dose: Dose, hearts: int, seed: int) -> np.ndarray:
    """``(hearts, 2)`` change of QT and QRS [ms] by a dose against watching, with the same random numbers."""
    start = world.initial(hearts, _rngs(hearts, seed), healthy=True, typical=True, rhythm="sinus", conduction="normal")
    ends = []
    for treatment in (WATCH, Treatment((dose,))):
        state = start
        for step in range(STEPS):
            now = treatment if step == 0 else WATCH
            state = world.step(state, [now] * hearts, _rngs(hearts, seed + 1 + step))
        intervals = [truth.intervals for truth in world.truth(state)]
        ends.append(np.array([[i["qt_ms"], i["qrs_ms"]] for i in intervals]))
    return ends[1] - ends[0]


def _rngs(n: int, seed: int) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, k]) for k in range(n)]


def record_twins(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """One row per record that can be measured: its QRS and QT and those of both worlds' twins [ms]."""
    rows = []
    worlds = {"hybrid": HybridTissue(), "virtual": VirtualPatient()}
    for path in paths:
        try:
            ecg = read_record(path).ecg
            reading = measure(ecg).row(0)
        except ValueError:
            continue  # no beats in it
        if not (np.isfinite(reading["qrs_ms"]) and np.isfinite(reading["qt_ms"])):
            continue
        row: dict[str, Any] = {
            "record": path.name,
            "qrs_ms": float(reading["qrs_ms"]),
            "qt_ms": float(reading["qt_ms"]),
        }
        for name, world in worlds.items():
            row |= _twin_row(name, world, ecg)
        rows.append(row)
    return rows


def _twin_row(name: str, world: VirtualPatient, ecg: ECG) -> dict[str, float]:
    state = world.observe(ecg, Patient())
    intervals = world.truth(state)[0].intervals
    own = replace(state, hours=state.hours - world.dt_hours)  # a strip of the twin itself at hour 0, with nothing given
    strip = world.step(own, [WATCH], np.random.default_rng(1)).ecg[0]
    read = measure(ECG(strip, MODEL_RATE_HZ)).row(0)
    out = {f"{name}_{key}_ms": float(intervals[f"{key}_ms"]) for key in ("qrs", "qt")}
    return out | {f"{name}_strip_{key}_ms": float(read[f"{key}_ms"]) for key in ("qrs", "qt")}


def record_errors(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean absolute errors [ms] over the records, and the share within the goals (QRS 6 ms, QT 8 ms), per world."""
    out: dict[str, float] = {"records": float(len(rows))}
    for name in ("hybrid", "virtual", "hybrid_strip", "virtual_strip"):
        for key, goal in (("qrs", 6.0), ("qt", 8.0)):
            gap = np.abs([row[f"{name}_{key}_ms"] - row[f"{key}_ms"] for row in rows])
            out[f"{name}_{key}_mae_ms"] = float(np.nanmean(gap))
            out[f"{name}_{key}_within"] = float(np.mean(gap <= goal))
    return out


def main() -> None:
    """The command: one JSON document on stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hearts", type=int, default=20)
    parser.add_argument("--records", type=Path)
    parser.add_argument("--limit", type=int, default=30, help="records, in the order of their numbers")
    arguments = parser.parse_args()
    document: dict[str, Any] = {"drugs": drug_effects(arguments.hearts)}
    if arguments.records is not None:
        headers = sorted(arguments.records.rglob("*.hea"), key=lambda path: (len(path.stem), path.stem))
        document["records"] = record_errors(record_twins([h.with_suffix("") for h in headers[: arguments.limit]]))
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
