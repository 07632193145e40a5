"""Six pictures of a study of stability: horizon, drift, washout, order, twins, spread against error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from training.evaluation.questions import SHORT
from training.evaluation.stability.measures import summary
from training.evaluation.world_model.rollout_arms import SCORED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"hr_bpm": "C3", "pr_ms": "C2", "qrs_ms": "C4", "qtcf_ms": "C0"}


def figure(document: Mapping[str, Any]) -> Figure:
    """The study's figure; solid is the world, dashed the virtual patient."""
    import matplotlib.pyplot as plt

    samples, ((horizon, drift, washout), (order, twins, spread)) = plt.subplots(2, 3, figsize=(15, 8))
    steps = range(1, int(document["settings"]["steps"]) + 1)
    hours = np.array([step * document["settings"]["dt_hours"] for step in steps])

    def column(interval: str, name: str) -> np.ndarray:
        rows = [r for r in document["rows"] if r["interval"] == interval]
        return np.array([np.nan if r.get(name) is None else r[name] for r in rows], dtype=float)

    lines = summary(document)
    ways = {"open loop": "C0", "told every 4": "C9", "told every 2": "C2", "told every 1": "C1", "copy": "C7"}
    for way, colour in {**ways, "virtual patient, open loop": "k"}.items():
        course = [np.nan if line[way] is None else line[way] for line in lines]
        horizon.plot(hours, course, "--" if way.startswith("virtual") else "-", color=colour, label=way)
    horizon.set(title="error of the treated, in units of the copy's last", ylabel="CRPS, mean of 4 intervals")
    horizon.set_ylim(bottom=0)

    for interval, colour in COLOURS.items():
        drift.plot(hours, column(interval, "change world"), color=colour, label=SHORT[interval])
        drift.plot(hours, column(interval, "change virtual patient"), "--", color=colour)
    drift.axhline(0, color="0.8", linewidth=0.8)
    drift.set(title="untreated: change from the start (dashed: truth)", ylabel="1/min or ms")

    last = SCORED[-1]
    for of, line in {"world": "C0-", "virtual patient": "k--", "pharmacology": "C2:"}.items():
        washout.plot(hours, column(last, f"effect {of}"), line, label=of)
    washout.set_ylim(bottom=min(0.0, washout.get_ylim()[0]))
    level = washout.twinx()
    level.plot(hours, column(last, "plasma level"), color="C1", alpha=0.6)
    level.set_ylabel("plasma level / largest", color="C1")
    level.set_ylim(bottom=0)
    washout.set(title="one dose, then watching: effect", ylabel="SDs between people")

    for interval, colour in COLOURS.items():
        order.plot(hours, column(interval, "order world"), color=colour, label=SHORT[interval])
        order.plot(hours, column(interval, "order virtual patient"), "--", color=colour)
    order.set(title="A then B less B then A (dashed: truth)", ylabel="root mean square, 1/min or ms")
    order.set_ylim(bottom=0)

    for name, colour in zip([name for name in document["rows"][0] if name.startswith("twin ")], ("C0", "C3")):
        distance = column(last, name)
        twins.plot(hours, np.where(distance > 0, distance, np.nan), colour, label=name.removesuffix(" [mV]"))
    twins.set(title="twins: distance of strips, noise in common", ylabel="mV")
    if any(line.get_ydata()[np.isfinite(line.get_ydata())].size for line in twins.lines):
        twins.set_yscale("log")

    for interval, colour in COLOURS.items():
        for of, line in {"world": "-", "virtual patient": "--"}.items():
            error = column(interval, f"error {of}")
            ratio = np.where(error > 0, column(interval, f"spread {of}") / np.where(error > 0, error, 1), np.nan)
            spread.plot(hours, ratio, line, color=colour, label=SHORT[interval] if of == "world" else None)
    spread.axhline(1, color="0.8", linewidth=0.8)
    spread.set(title="spread over error (1 is right; dashed: truth)", ylabel="SD / RMSE")
    spread.set_ylim(bottom=0)

    for axes in (horizon, drift, washout, order, twins, spread):
        axes.set_xlabel("hours")
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    row = document["settings"]
    samples.suptitle(f"{row['world_name']}: {document['n_patients']} patients, {row['samples']} samples")
    samples.tight_layout()
    plt.close(samples)
    return samples
