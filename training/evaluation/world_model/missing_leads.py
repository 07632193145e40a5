"""What missing leads cost: each of the twelve, as in the paper's Table 8, and two to six at once.

Held-out people are observed with leads gone, then given a treatment; both the strip the world believes it has seen and
the one it forecasts are compared with what was and what came. Three ways to hand over such a strip: *told* (the leads
are named as missing), *flat* (zeros, and nobody is told), *mean* (filled by the mean of the leads that are there).

    excess_n = mean over rate, PR, QRS, QTcF of CRPS(n leads missing) / CRPS(all leads) - 1

III, aVR, aVL and aVF follow from I and II and are not read by the world model, so they cost nothing there. A record
that comes through ``read_record`` has a single missing limb lead computed from two others; that repair is not used
here. Strips that begin at another beat, because the R peaks were found in other leads, are compared where they overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import ECG, LEADS, MODEL_RATE_HZ, MODEL_SAMPLES, State, World, concatenate
from ecg_gym.datasets.transitions import TrialDesign
from ecg_gym.rollout import advance
from ecg_gym.virtual_patient import VirtualPatient
from ecg_gym.waveform.filters import remove_baseline
from training.evaluation.questions import (
    HELD_OUT,
    INTERVALS,
    PURPOSES,
    SHORT,
    Questions,
    fair_crps,
    seen_by,
    transitions,
)
from training.evaluation.result import Size, document, estimate, mean_of, metric
from training.evaluation.trajectories import Progress, crowd_of, draws, latent_of, measured_of
from training.evaluation.world_model.rollout import excess

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL, SMALL = Size(patients=40, samples=4), Size(patients=4, samples=2)
WAYS = ("named", "flat", "mean")
MOST = 6  # leads missing at once
GROUPS = {
    "limb leads": LEADS[:6],
    "chest leads": LEADS[6:],
}
FURTHEST = 150  # columns (1.5 s) that two strips of one record may be apart
SCORED = INTERVALS[:4]

Gone = tuple[tuple[str, ...], ...]  # the missing leads of each patient


@dataclass(frozen=True)
class PatternScores:
    """One pattern of missing leads, handed over in one way; a row per patient."""

    pattern: str
    way: str
    missing: int  # leads
    crps: np.ndarray  # (N, 4) of the forecast
    lost: np.ndarray  # (N, 4) share of samples that could not be measured where the truth could
    absent: np.ndarray  # (N, 12) bool, the missing leads
    error_mv: np.ndarray  # (N, 12) mean absolute error [mV] of the strip believed to be seen, by lead
    flat: np.ndarray  # (N, 12) [mV] the same of a flat line
    signal: np.ndarray  # (N, 2) mean squared [mV^2] and absolute [mV] error of the forecast strip
    latent: np.ndarray  # (N, 2) the same of latents; NaN where the world has none

    def in_missing(self, error: np.ndarray) -> np.ndarray:
        """The mean ``(N,)`` over each patient's missing leads of an error by lead ``(N, 12)``; NaN without any."""
        count = self.absent.sum(axis=1)
        return np.where(count > 0, (error * self.absent).sum(axis=1) / np.maximum(count, 1), np.nan)


def patterns(n: int, rng: np.random.Generator) -> dict[str, Gone]:
    """Name -> the missing leads of each of ``n`` patients: none, each lead, 2 to 6 drawn for each patient, groups."""
    order = [rng.permutation(len(LEADS)) for _ in range(n)]
    many = {
        f"any {count}": tuple(tuple(LEADS[i] for i in sorted(mine[:count])) for mine in order)
        for count in range(2, MOST + 1)
    }
    return {
        "none": ((),) * n,
        **{f"miss-{lead}": ((lead,),) * n for lead in LEADS},
        **many,
        **{name: (leads,) * n for name, leads in GROUPS.items()},
    }


def rows_of(size: Size) -> int:
    """How many rows the study asks of the world, for the progress bar."""
    return (1 + len(WAYS) * (len(LEADS) + MOST - 1 + len(GROUPS))) * size.patients * size.samples * len(size.seeds)


def study(
    world: World, size: Size = USUAL, truth: World | None = None, progress: Progress = lambda rows: None
) -> dict[str, Any]:
    """The study's document; ``truth`` is where the patients live, by default the virtual patient."""
    truth = truth or VirtualPatient(dt_hours=world.dt_hours)
    parts: list[dict[tuple[str, str], PatternScores]] = []
    for seed in size.seeds:
        queries = transitions(truth, size.patients, seed, design=TrialDesign(dt_hours=(float(world.dt_hours),)))
        parts.append(_trial(world, truth, queries, size.samples, seed, progress))
    result = {key: _together([part[key] for part in parts]) for key in parts[0]}
    patient = np.arange(len(result["none", "named"].signal))
    return document(
        "missing-leads", world, len(patient), size.seeds, _metrics(result, patient), _rows(result, patient),
        samples=size.samples, dt_hours=float(world.dt_hours), scored=SCORED,
    )  # fmt: skip


def _trial(
    world: World, truth: World, queries: Questions, k: int, seed: int, progress: Progress
) -> dict[tuple[str, str], PatternScores]:
    n = len(queries)
    later = advance(truth, queries.start, queries.treatments, draws(("true", seed), n, 1, 1))
    true_latent = latent_of(seen_by(world, later), world)
    rng = np.random.default_rng([HELD_OUT, PURPOSES["test"], seed, 3])
    result = {}
    for name, absent in patterns(n, rng).items():
        for way in WAYS[:1] if name == "none" else WAYS:
            view = observe_without(world, queries.start, absent, way)
            samples = advance(
                world, crowd_of(view, k), [*queries.treatments] * k, draws(("model", seed), n, k, 1), progress
            )
            result[name, way] = _judge(
                name, way, absent, queries.start, later, true_latent, view, samples, k, world, truth
            )
    return result


def observe_without(world: World, start: State, absent: Gone, way: str) -> State:
    """The patients as ``world`` sees them when each strip comes without the leads ``absent``."""
    views = []
    for strip, missing, patient, doses in zip(start.ecg, absent, start.patients, start.doses):
        handed = handed_over(strip, missing, way)
        views.append(world.observe(ECG(handed, MODEL_RATE_HZ, missing if way == "named" else ()), patient, doses))
    return replace(concatenate(views), doses=start.doses, hours=start.hours.copy(), alive=start.alive.copy())


def handed_over(strip: np.ndarray, missing: Sequence[str], way: str) -> np.ndarray:
    """The strip ``(12, T)`` [mV] with its missing leads at zero, or at the mean of the others."""
    rows = [LEADS.index(lead) for lead in missing]
    filled = strip.copy()
    filled[rows] = np.delete(strip, rows, axis=0).mean(axis=0) if way == "mean" else 0.0
    return filled


def _judge(
    pattern: str,
    way: str,
    absent: Gone,
    start: State,
    later: State,
    true_latent: np.ndarray | None,
    view: State,
    state_drawn: State,
    k: int,
    world: World,
    truth: World,
) -> PatternScores:
    n = len(start)
    samples = measured_of(state_drawn, world).reshape(k, n, -1)[..., : len(SCORED)]
    real = measured_of(later, truth)[:, : len(SCORED)]
    crps = fair_crps(samples.reshape(k, -1), real.reshape(-1)).reshape(real.shape)
    lost = np.where(np.isfinite(real), (~np.isfinite(samples)).mean(axis=0), np.nan)
    calm = remove_baseline(start.ecg, MODEL_RATE_HZ)  # no world is asked for the wander of an electrode
    mask = np.array([[lead in missing for lead in LEADS] for missing in absent])
    by_lead = np.array([_seen_errors(*row) for row in zip(view.ecg, calm, mask)])
    off = state_drawn.ecg.reshape(k, n, len(LEADS), MODEL_SAMPLES) - later.ecg
    latent = np.full((n, 2), np.nan)
    mine = latent_of(state_drawn, world)
    if mine is not None and true_latent is not None:
        latent = _sizes(mine.reshape(k, n, -1) - true_latent)
    signal = _sizes(off.reshape(k, n, -1))
    return PatternScores(pattern, way, len(absent[0]), crps, lost, mask, by_lead[:, 0], by_lead[:, 1], signal, latent)


def _sizes(off: np.ndarray) -> np.ndarray:
    """Mean squared and mean absolute error of one sample, ``(N, 2)`` of errors ``(K, N, D)``."""
    return np.stack([(off**2).mean(axis=(0, 2)), np.abs(off).mean(axis=(0, 2))], axis=1)


def _seen_errors(view: np.ndarray, real: np.ndarray, absent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean absolute error ``(12,)`` [mV] of the strip ``(12, T)`` believed to be seen, and of a flat line."""
    mine, true = _overlap(view, real, lag(view[~absent], real[~absent]))
    return np.abs(mine - true).mean(axis=1), np.abs(true).mean(axis=1)


def lag(view: np.ndarray, real: np.ndarray) -> int:
    """How many columns later ``view`` begins in ``real`` (both ``(L, T)``), by the least mean absolute difference."""
    error = {}
    for shift in range(-FURTHEST, FURTHEST + 1):
        mine, true = _overlap(view, real, shift)
        error[shift] = np.abs(mine - true).mean()
    return min(error, key=lambda shift: (error[shift], abs(shift)))


def _overlap(view: np.ndarray, real: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    length = view.shape[1]
    if shift >= 0:
        return view[:, : length - shift], real[:, shift:]
    return view[:, -shift:], real[:, : length + shift]


def _together(parts: Sequence[PatternScores]) -> PatternScores:
    first = parts[0]
    names = ("crps", "lost", "absent", "error_mv", "flat", "signal", "latent")
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return replace(first, **joined)


def _metrics(runs: Mapping[tuple[str, str], PatternScores], patient: np.ndarray) -> dict[str, Any]:
    """By number of missing leads, averaged over patterns: what it costs the forecast, and the error in those leads."""
    full = runs["none", "named"]
    metrics: dict[str, Any] = {}
    for count in range(1, MOST + 1):
        names = [
            name for name, way in runs if way == "named" and runs[name, way].missing == count and name not in GROUPS
        ]

        def stacked(
            of: Callable[[PatternScores], np.ndarray], way: str = "named", names: Sequence[str] = names
        ) -> np.ndarray:
            return np.concatenate([of(runs[name, way]) for name in names])

        who, whole = np.tile(patient, len(names)), np.tile(full.crps, (len(names), 1))
        cost = {way: estimate(excess(stacked(lambda one: one.crps, way), whole), who) for way in WAYS}
        errors = {way: estimate(mean_of(stacked(lambda one: one.in_missing(one.error_mv), way)), who) for way in WAYS}
        beside = {
            "all leads, same leads": estimate(mean_of(stacked(lambda one: one.in_missing(full.error_mv))), who),
            **_beside(errors),
            "flat line": estimate(mean_of(stacked(lambda one: one.in_missing(one.flat))), who),
        }
        metrics[f"excess_{count}"] = metric(cost["named"], baselines={"all leads": 0.0, **_beside(cost)})
        metrics[f"missing_mae_mv_{count}"] = metric(errors["named"], baselines=beside)
    singles = {
        name: excess(runs[name, "named"].crps, full.crps)(patient) for name, _ in runs if name.startswith("miss-")
    }
    worst = max(singles, key=lambda name: np.nan_to_num(singles[name], nan=-np.inf))
    metrics["excess_worst_single"] = metric(
        estimate(excess(runs[worst, "named"].crps, full.crps), patient),
        baselines=_beside({way: estimate(excess(runs[worst, way].crps, full.crps), patient) for way in WAYS}),
        lead=worst.removeprefix("miss-"),
    )
    for name in GROUPS:
        cost = {way: estimate(excess(runs[name, way].crps, full.crps), patient) for way in WAYS}
        metrics[f"excess_{name.replace(' ', '_')}"] = metric(cost["named"], baselines=_beside(cost))
    metrics["full_mae_mv"] = metric(estimate(mean_of(full.error_mv.mean(axis=1)), patient))
    return metrics


def _beside(by_way: Mapping[str, Any]) -> dict[str, Any]:
    words = {"flat": "flat and not told", "mean": "mean of present leads"}
    return {words[way]: value for way, value in by_way.items() if way in words}


def _rows(runs: Mapping[tuple[str, str], PatternScores], patient: np.ndarray) -> list[dict[str, Any]]:
    """Table 8 and more: a row per pattern and way."""
    full = runs["none", "named"]
    rows = []
    for (name, way), one in runs.items():
        rows.append(
            {
                "pattern": name,
                "way": way,
                "missing": one.missing,
                "latent_mse": _mean(one.latent[:, 0]),
                "latent_mae": _mean(one.latent[:, 1]),
                "signal_mse": _mean(one.signal[:, 0]),
                "signal_mae": _mean(one.signal[:, 1]),
                **{f"crps_{SHORT[name]}": _mean(one.crps[:, i]) for i, name in enumerate(SCORED)},
                "excess": excess(one.crps, full.crps)(patient),
                "unmeasured_pr": _mean(one.lost[:, 1]),
                "seen_mae": _mean(one.error_mv.mean(axis=1)),
                "missing_mae": _mean(one.in_missing(one.error_mv)),
                "missing_mae_all_leads": _mean(one.in_missing(full.error_mv)),
            }
        )
    return rows


def _mean(values: np.ndarray) -> float:
    return mean_of(values)(np.arange(len(values)))


def summary(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows for people: Table 8's columns with the leads named as missing, and what the other ways cost."""
    table = {row["pattern"]: dict(row) for row in result["rows"] if row["way"] == "named"}
    for row in result["rows"]:
        if row["way"] != "named":
            table[row["pattern"]][f"excess_{row['way']}"] = row["excess"]
    left_out = ("way", "missing", "seen_mae", "unmeasured_pr")
    return [{name: value for name, value in row.items() if name not in left_out} for row in table.values()]


def figure(result: Mapping[str, Any]) -> Figure:
    """What each pattern costs the forecast, and how well the missing leads are filled in."""
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row["pattern"] for row in result["rows"] if row["pattern"] != "none"))
    place = np.arange(len(names))
    samples, panels = plt.subplots(2, 1, figsize=(11, 6.5), sharex=True)
    for way, shift in zip(WAYS, (-0.25, 0.0, 0.25)):
        rows = {row["pattern"]: row for row in result["rows"] if row["way"] == way}
        for axes, column, factor in ((panels[0], "excess", 100.0), (panels[1], "missing_mae", 1.0)):
            height = [np.nan if rows[name][column] is None else factor * rows[name][column] for name in names]
            axes.bar(place + shift, height, 0.24, label=way)
    panels[0].set(title="error of the forecast above that with all leads", ylabel="CRPS [%]")
    panels[1].set(title="error in the missing leads of the strip believed to be seen", ylabel="mean absolute [mV]")
    rows = {row["pattern"]: row for row in result["rows"]}
    whole = [rows[name]["missing_mae_all_leads"] for name in names]
    panels[1].plot(place, whole, "k_", ms=22, label="those leads when nothing is missing")
    panels[0].axhline(0, color="k", lw=0.8)
    panels[1].set_xticks(place, names, rotation=60, ha="right")
    for axes in panels:
        axes.legend(fontsize=8, frameon=False, ncols=4)
        axes.spines[["top", "right"]].set_visible(False)
    samples.tight_layout()
    plt.close(samples)
    return samples
