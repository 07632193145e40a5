"""How much of the next strip does McSharry's model know, once it is told the intervals and the beats?

The prior (EPK) is fitted to the strip before a treatment and drawn at the intervals and R peaks that the delineator
finds on the true strip after it. What it then misses is what a renderer has to add: noise, and changes of shape that
seven intervals do not tell. Beside it stand a copy of the strip before, the beats alone, fewer waves, waves of lead II
alone, no remainder, nothing but remainder, McSharry's slow relaxation, and what can be reached: the strip after, fitted
and drawn again. Last, do the drawn strips hold the intervals that were asked for, and who can be drawn at all?
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_gym.core import (
    ECG,
    INDEPENDENT_LEADS,
    MODEL_RATE_HZ,
    R_PEAK_OFFSET_S,
    World,
    independent_from_leads,
    limb_from_independent,
)
from ecg_gym.physiology import TARGET_INTERVALS, LeadFit, anchor_traces, fit_leads, multilead, recorded_rhythm
from ecg_gym.waveform import Intervals, measure, to_model_grid
from training.evaluation import questions
from training.evaluation.result import document, estimate, metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL, QUICK = 400, 48  # patients
READ_BACK = ("hr_bpm", "pr_ms", "qrs_ms", "qt_ms", "jtpeak_ms", "tpeak_tend_ms")
SHIPPED = "nine waves, remainder"
COPY = "copy of the strip before"
READ = (SHIPPED, "nine waves", "five waves, remainder", "five waves", "no waves, all remainder", COPY)


@dataclass(frozen=True)
class _Pairs:
    """Strips before and after, and what was measured on both."""

    before: np.ndarray  # (N, 12, 1024) [mV]
    after: np.ndarray
    intervals: Intervals  # of before
    then: Intervals  # of after
    beats_s: np.ndarray  # (N, K) [s] of after
    first_s: np.ndarray  # (N,) [s] its first R peak
    patient: np.ndarray  # (N,)


def study(
    truth: World, patients: int = USUAL, seeds: Sequence[int] = (0,), progress: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """The study's document; the medians over strips of RMSE and correlation, both means over the eight leads."""
    pairs = _pairs(truth, patients, seeds)
    progress()
    fit, fit_ms = _timed(lambda: fit_leads(pairs.before, pairs.intervals), patients=len(pairs.before))
    sinus = ~fit.abstained & pairs.then.p_present & pairs.then.regular & np.isfinite(pairs.beats_s).all(axis=1)
    others = fit.drawable & fit.abstained & np.isfinite(pairs.beats_s).all(axis=1)
    traces, draw_ms = _variants(pairs, fit)
    progress()
    true = independent_from_leads(pairs.after)
    metrics, rows = {}, []
    for group, members in (("sinus", np.flatnonzero(sinus)), ("other_rhythms", np.flatnonzero(others))):
        table = {name: _scores(trace[members], true[members]) for name, trace in traces.items()}
        for k, score in enumerate(("rmse_uv", "correlation")):
            values = {name: _median(scores[k].mean(axis=1), pairs.patient[members]) for name, scores in table.items()}
            metrics[f"{group}_{score}"] = metric(values.pop(SHIPPED), baselines=values)
        for name, (rmse, correlation) in table.items():
            by_lead = dict(zip(INDEPENDENT_LEADS, np.median(correlation, axis=0).round(3).tolist()))
            rows.append(
                {
                    "strips": group,
                    "n": len(members),
                    "drawn by": name,
                    "rmse [uV]": float(np.median(rmse.mean(axis=1))),
                    **by_lead,
                }
            )
    metrics |= _read_back(pairs, traces, sinus)
    metrics |= _coverage(fit, pairs.patient)
    metrics["fit_ms_per_strip"] = metric(fit_ms)
    metrics["draw_ms_per_strip"] = metric(draw_ms)
    progress()
    reasons = {str(why) or "drawn": int(np.sum(fit.reason == why)) for why in np.unique(fit.reason.astype(str))}
    return document("anchor", truth, patients, seeds, metrics, rows, reasons=reasons)


def real(folder: Path, limit: int, seed: int = 0) -> dict[str, Any]:
    """Fit quality, coverage and likeness on real strips, each drawn again at its own beats: the document."""
    from ecg_gym.datasets import read_record

    headers = sorted(folder.rglob("*.hea"))
    if not headers:
        raise ValueError(f"{folder} holds no WFDB headers; expected a folder of records; check the path")
    strips, refused = [], 0
    for i in np.random.default_rng(seed).permutation(len(headers)):
        try:
            strips.append(to_model_grid(read_record(headers[i]).ecg).signal)
        except ValueError:
            refused += 1
        if len(strips) == limit:
            break
    ecg = np.stack(strips)
    intervals, (beats, first) = measure(ECG(ecg, MODEL_RATE_HZ)), recorded_rhythm(ecg)
    fit = fit_leads(ecg, intervals)
    five = fit_leads(ecg, intervals, waves="five")
    samples = fit.drawable & np.isfinite(beats).all(axis=1)
    who, true, queries = np.arange(len(ecg)), independent_from_leads(ecg), intervals.as_array(TARGET_INTERVALS)
    metrics = _coverage(fit, who)
    rows = []
    for name, own, residual in (("five waves", five, False), ("nine waves", fit, False), (SHIPPED, fit, True)):
        rmse, correlation = _scores(
            anchor_traces(own, queries, beats, first_s=first, abstain=False, residual=residual)[samples], true[samples]
        )
        by_lead = dict(zip(INDEPENDENT_LEADS, np.median(correlation, axis=0).round(3).tolist()))
        rows.append(
            {
                "drawn by": name,
                "quality": float(np.median(own.quality[samples])),
                "rmse [uV]": float(np.median(rmse.mean(axis=1))),
                **by_lead,
            }
        )
    reasons = {str(why) or "drawn": int(np.sum(fit.reason == why)) for why in np.unique(fit.reason.astype(str))}
    return document(
        "anchor", folder, len(ecg), [seed], metrics, rows, data=folder.name, refused=refused, reasons=reasons
    )


def figure(truth: World, seed: int = 0, lead: str = "II") -> Figure:
    """Six people: the strip after a treatment, the anchor over it, and the strip before."""
    import matplotlib.pyplot as plt

    pairs = _pairs(truth, 40, [seed])
    fit = fit_leads(pairs.before, pairs.intervals)
    samples = anchor_traces(
        fit, pairs.then.as_array(TARGET_INTERVALS), pairs.beats_s, first_s=pairs.first_s, abstain=False
    )
    change = np.abs(pairs.then.qt_ms - pairs.intervals.qt_ms)
    rows = np.argsort(-np.where(fit.abstained, 0, np.nan_to_num(change)))[:4]
    rows = np.concatenate(
        [rows, np.flatnonzero(fit.abstained & fit.drawable & np.isfinite(pairs.beats_s).all(axis=1))[:2]]
    )
    drawing, axes = plt.subplots(len(rows), 1, figsize=(11, 1.7 * len(rows)), sharex=True)
    row, seconds = INDEPENDENT_LEADS.index(lead), np.arange(samples.shape[-1]) / MODEL_RATE_HZ
    for axis, i in zip(axes, rows):
        axis.plot(seconds, independent_from_leads(pairs.before)[i, row], color="0.8", lw=0.8, label="before")
        axis.plot(seconds, independent_from_leads(pairs.after)[i, row], color="0.2", lw=0.9, label="after")
        axis.plot(seconds, samples[i, row], color="tab:red", lw=0.9, label="anchor")
        axis.set_ylabel(f"{lead} [mV]")
        axis.set_xlim(0, 5)
        axis.set_title(
            f"{fit.reason[i] or 'sinus rhythm'}; QT {pairs.intervals.qt_ms[i]:.0f} to {pairs.then.qt_ms[i]:.0f} ms",
            fontsize=8,
            loc="left",
        )
    axes[0].legend(ncols=3, fontsize=8, loc="upper right")
    axes[-1].set_xlabel("time [s]")
    drawing.tight_layout()
    return drawing


def _pairs(truth: World, patients: int, seeds: Sequence[int]) -> _Pairs:
    parts = []
    for seed in seeds:
        queries = questions.transitions(truth, patients, seed)
        result = questions.futures(truth, queries.start, queries, 1, _strip, seed=seed, stream="true")
        alive = result["alive"][0].astype(bool)
        parts.append((queries.start.ecg[alive], result["ecg"][0][alive], 10_000 * seed + queries.patient[alive]))
    before, after, patient = (np.concatenate(column) for column in zip(*parts))
    intervals, then = (measure(ECG(strips, MODEL_RATE_HZ)) for strips in (before, after))
    return _Pairs(before, after, intervals, then, *recorded_rhythm(after), patient)


def _strip(before: Any, after: Any) -> Mapping[str, np.ndarray]:
    return {"ecg": after.ecg, "alive": after.alive}


def _variants(pairs: _Pairs, fit: LeadFit) -> tuple[dict[str, np.ndarray], float]:
    """The strip after by every way of drawing it ``(N, 8, 1024)``, and milliseconds per strip of the shipped one."""
    queries, beats = pairs.then.as_array(TARGET_INTERVALS), pairs.beats_s
    five = fit_leads(pairs.before, pairs.intervals, waves="five")
    alone = fit_leads(pairs.before, pairs.intervals, waves="five", lead="II")
    again = fit_leads(pairs.after, pairs.then)

    def draw(of: LeadFit, asks: np.ndarray = queries, series: np.ndarray | None = beats, **how: Any) -> np.ndarray:
        return anchor_traces(of, asks, series, abstain=False, **({"first_s": pairs.first_s} | how))

    shipped, ms = _timed(lambda: draw(fit), patients=int(fit.drawable.sum()))
    return {
        SHIPPED: shipped,
        "nine waves": draw(fit, residual=False),
        "five waves, remainder": draw(five),
        "five waves": draw(five, residual=False),
        "five waves of lead II": draw(alone, residual=False),
        "no waves, all remainder": draw(_waveless(fit)),
        "nine waves, remainder, relaxing at 1/s": draw(fit, relaxation_per_s=1.0),
        "first R peak as in the strip before": draw(fit, first_s=None),
        "first R peak at 0.4 s": draw(fit, first_s=R_PEAK_OFFSET_S),
        "even beats": draw(fit, series=None),
        "beats only": draw(fit, np.full_like(queries, np.nan)),
        COPY: independent_from_leads(pairs.before),
        "the strip after, drawn again": draw(again),
    }, ms


def _waveless(fit: LeadFit) -> LeadFit:
    """The same typical beats, stretched but not modelled: everything is remainder."""
    bells = np.exp(-0.5 * ((multilead.TIME_S - fit.centre_s[..., None]) / fit.width_s[..., None]) ** 2)
    whole = fit.residual_mv + fit.gain_mv @ bells
    return replace(fit, gain_mv=np.zeros_like(fit.gain_mv), residual_mv=whole.astype(np.float32))


def _timed(call: Callable[[], Any], patients: int) -> tuple[Any, float]:
    begin = time.process_time()
    result = call()
    return result, 1e3 * (time.process_time() - begin) / max(patients, 1)


def _scores(samples: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RMSE [uV] and correlation ``(n, 8)`` of strips about their own means."""
    x, y = (s - s.mean(axis=-1, keepdims=True) for s in (samples.astype(float), true.astype(float)))
    power = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    return 1e3 * np.sqrt(((x - y) ** 2).mean(axis=-1)), (x * y).sum(axis=-1) / np.maximum(power, 1e-9)


def _median(values: np.ndarray, patient: np.ndarray) -> dict[str, Any]:
    return estimate(lambda rows: float(np.median(values[rows])), patient)


def _read_back(pairs: _Pairs, traces: Mapping[str, np.ndarray], mask: np.ndarray) -> dict[str, Any]:
    """What the delineator finds on the drawn strips minus what was asked: median, and share within 10 ms (2 /min)."""
    rows = np.flatnonzero(mask)
    queries, patient, result = pairs.then.as_array(READ_BACK)[rows], pairs.patient[rows], {}
    error = {
        name: measure(ECG(limb_from_independent(trace[rows]), MODEL_RATE_HZ)).as_array(READ_BACK) - queries
        for name, trace in traces.items()
        if name in READ
    }
    for k, interval in enumerate(READ_BACK):
        within = 2.0 if interval == "hr_bpm" else 10.0
        middle = {name: _middle(table[:, k], patient) for name, table in error.items()}
        share = {name: _share(np.abs(table[:, k]) <= within, patient) for name, table in error.items()}
        result[f"read_back_{interval}"] = metric(middle.pop(SHIPPED), baselines=middle)
        result[f"read_back_{interval}_within"] = metric(share.pop(SHIPPED), baselines=share, within=within)
    return result


def _middle(values: np.ndarray, patient: np.ndarray) -> dict[str, Any]:
    return estimate(lambda rows: float(np.nanmedian(values[rows])), patient)


def _share(hits: np.ndarray, patient: np.ndarray) -> dict[str, Any]:
    return estimate(lambda rows: float(np.mean(hits[rows])), patient)


def _coverage(fit: LeadFit, patient: np.ndarray) -> dict[str, Any]:
    has_prior = np.flatnonzero(~fit.abstained)
    return {
        "coverage": metric(estimate(lambda r: float(np.mean(~fit.abstained[r])), patient)),
        "coverage_without_abstaining": metric(estimate(lambda r: float(np.mean(fit.drawable[r])), patient)),
        "quality": metric(_median(fit.quality[has_prior], patient[has_prior])),
        "quality_lowest_twentieth": metric(
            float(np.quantile(fit.quality[has_prior], 0.05)) if len(has_prior) else np.nan
        ),
    }
