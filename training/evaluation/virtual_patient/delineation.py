"""How well intervals are measured: against cardiologists' marks in a folder of WFDB records, or against virtual truth.

``study`` reads marks (``delineation_marks`` says how they become reference intervals), lead II scored beside the global
reference; paced records are listed apart, since their marks begin at the spike or behind it, as the reader pleased.
``virtual_study`` draws virtual strips per rhythm, conduction and noise level (``delineation_virtual``).

Methods: ``global`` is ``waveform.measure``, whose T end is the foot of the steepest tangent, as in the FDA's trials;
``global, manual T end`` goes further along that tangent (``fiducials.MANUAL``), where the readers of LUDB see the wave
end; ``lead II alone, manual T end`` sees nothing but lead II; ``neurokit dwt | cwt | peak | prominence`` are
NeuroKit2's methods on lead II (``peak`` marks no QRS boundaries: its Q and S peaks stand in). The rules of ``global``
were chosen with all of LUDB in view, so there these figures are in-sample; ``cross_check`` chooses the rules again on
the even records alone and scores them on the odd ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.core import ECG, LEADS
from ecg_gym.waveform import measure, resample
from ecg_gym.waveform.delineation import MANUAL, RULES, Rules
from ecg_gym.waveform.intervals import Intervals
from ecg_gym.waveform.neurokit import NEUROKIT, neurokit_row
from training.evaluation.virtual_patient import delineation_virtual
from training.evaluation.virtual_patient.delineation_marks import (
    INTERVALS,
    REFERENCES,
    Annotated,
    groups,
    load,
    reference_intervals,
)

__all__ = [
    "METHODS",
    "QUICK_METHODS",
    "compare",
    "method_named",
    "reference_intervals",
    "study",
    "virtual_size",
    "virtual_study",
]

GLOBAL, MANUAL_T_END, LEAD_II = "global", "global, manual T end", "lead II alone, manual T end"
QUICK_METHODS = (GLOBAL, MANUAL_T_END, LEAD_II, "neurokit dwt")
METHODS = (*QUICK_METHODS, "neurokit cwt", "neurokit peak", "neurokit prominence")
QUICK_RECORDS, QUICK_STRIPS = 20, 2
RESAMPLES = 1000  # of the bootstrap over records
ONLY_II = np.array([[float(lead == "II")] for lead in LEADS], dtype=np.float32)  # (12, 1)
CONVENTIONS = {
    GLOBAL: f"foot of the steepest tangent of the vector magnitude (t_tail {RULES.t_tail:g})",
    MANUAL_T_END: f"manual-like: {MANUAL.t_tail:g} times as far along that tangent",
    LEAD_II: f"manual-like, {MANUAL.t_tail:g} times, of lead II",
    "neurokit": "NeuroKit2's own, lead II",
}
GRID = {"t_tail": (1.25, 1.5, 1.75, 2.0), "p_slope": (0.2, 0.3, 0.4), "velocity_fraction": (0.02, 0.03, 0.04)}

ALIASES = {"global": GLOBAL, "manual": MANUAL_T_END, "lead-II": LEAD_II, "neurokit": "neurokit dwt"}

Progress = Callable[[], None]


def method_named(name: str) -> str:
    """A method by its short name (``global``, ``manual``, ``dwt`` ...) or its full one; raises ValueError."""
    full = ALIASES.get(name, name if name in METHODS else f"neurokit {name}")
    if full not in METHODS:
        raise ValueError(f"method is {name!r}; expected some of {', '.join([*ALIASES, *NEUROKIT])}; check the spelling")
    return full


def virtual_size(strips: int) -> int:
    """How many strips ``virtual_study`` draws for ``strips`` of each kind."""
    return len(delineation_virtual.plan(strips))


def study(
    records: Path,
    methods: Sequence[str] = METHODS,
    rates_hz: Sequence[float] = (500.0, 102.4),
    limit: int | None = None,
) -> dict[str, Any]:
    """The document of a folder of annotated records (the first ``limit`` by name).

    ``rows``: one per interval, group of records, method, reference and sampling rate. ``summary``: the headline
    figures of each method with 95 % bootstrap intervals over records. ``cross_check``: rules chosen on even records
    and scored on odd ones.
    """
    annotated = load(records, limit)
    results = _measure(annotated, methods, rates_hz)
    members = groups(annotated.names, annotated.headers)
    return {
        "study": "delineation",
        "truth": "marks",
        "n_patients": len(annotated.names),
        "data": [records.name],
        "skipped": list(annotated.skipped),
        "reference": "lower quartile of onsets and upper quartile of ends over the leads; median over beats",
        "t_end": CONVENTIONS,
        "summary": _summary(annotated, results, members["all but paced"]),
        "cross_check": _cross_check(annotated, members),
        "rows": _rows(annotated, results, members),
    }


def compare(
    records: Path, methods: Sequence[str] = METHODS, rates_hz: Sequence[float] = (500.0,), limit: int | None = None
) -> list[dict[str, Any]]:
    """The rows alone: bias, SD and failures [ms] of each method against the marks, per group of records."""
    annotated = load(records, limit)
    return _rows(annotated, _measure(annotated, methods, rates_hz), groups(annotated.names, annotated.headers))


def virtual_study(
    strips: int = 20,
    seed: int = 0,
    methods: Sequence[str] = METHODS,
    rates_hz: Sequence[float] = (500.0, 102.4),
    progress: Progress = lambda: None,
) -> dict[str, Any]:
    """The document of virtual strips: ``rows`` per interval, group, method and rate; ``summary`` of the population.

    A manual-like T end has no place here: the truth's T end is the tangent's. ``found_without_marks`` counts what was
    measured where nothing is to be found.
    """
    samples = delineation_virtual.draw(strips, seed, progress=progress)
    rows, summary = [], []
    for rate in rates_hz:
        at_rate = ECG(resample(samples.signal, delineation_virtual.RATE_HZ, rate), rate)
        for method in (name for name in methods if name not in (MANUAL_T_END, LEAD_II)):
            reading = _intervals([at_rate.signal], [rate], method)
            for interval in delineation_virtual.INTERVALS:
                values, truth = getattr(reading, interval), samples.truth[interval]
                for group in dict.fromkeys(samples.group):
                    mine = (samples.group == group) & samples.analysable
                    hidden = int((mine & samples.hidden).sum()) if interval in ("qt_ms", "tpeak_tend_ms") else 0
                    unseen = mine & (~samples.hidden if interval in ("qt_ms", "tpeak_tend_ms") else True)
                    rows.append({"interval": interval, "strips": group, "method": method, "rate_hz": rate,
                                 **_error(values, truth, unseen), "hidden": hidden})  # fmt: skip
                mine = (samples.group == "population") & samples.analysable
                for name, mask in (("population", mine), ("population without flutter", mine & ~samples.flutter)):
                    summary.append({"interval": interval, "strips": name, "method": method, "rate_hz": rate,
                                    **_headline(values, truth, mask)})  # fmt: skip
    return {
        "study": "delineation",
        "truth": "virtual",
        "n_patients": len(samples.group),
        "seed": seed,
        "not_analysable": int((~samples.analysable).sum()),
        "t_end": CONVENTIONS,
        "summary": summary,
        "rows": rows,
    }


def _measure(
    annotated: Annotated, methods: Sequence[str], rates_hz: Sequence[float]
) -> dict[tuple[str, float], Intervals]:
    """What each method measures at each rate."""
    result = {}
    for rate in rates_hz:
        signals = [resample(ecg.signal, ecg.rate_hz, rate) for ecg in annotated.strips]
        for method in methods:
            result[method, rate] = _intervals(signals, [rate] * len(signals), method)
    return result


def _intervals(signals: Sequence[np.ndarray], rates_hz: Sequence[float], method: str) -> Intervals:
    """One method on strips or batches of strips; raises ValueError for a method nobody knows."""
    kind, _, how = method.partition(" ")
    rows: list[dict[str, float]] = []
    for signal, rate in zip(signals, rates_hz):
        if kind == "neurokit":
            batch = signal if signal.ndim == 3 else signal[None]
            rows += [neurokit_row(strip, rate, how or "dwt")[0] for strip in batch]
        elif method in (GLOBAL, MANUAL_T_END, LEAD_II):
            strip = signal * ONLY_II if method == LEAD_II else signal
            reading = measure(ECG(strip, rate), rules=RULES if method == GLOBAL else MANUAL)
            rows += [reading.row(i) for i in range(len(reading))]
        else:
            raise ValueError(f"method is {method!r}; expected some of {METHODS}; check the spelling")
    return Intervals.from_rows(rows, [""] * len(rows))


def _rows(
    annotated: Annotated, results: Mapping[tuple[str, float], Intervals], members: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    return [
        {"interval": interval, "records": group, "method": method, "reference": reference, "rate_hz": rate,
         **_error(getattr(values, interval), annotated.truths[reference][interval], mask)}
        for (method, rate), values in results.items()
        for reference in REFERENCES
        for group, mask in members.items()
        for interval in INTERVALS
    ]  # fmt: skip


def _summary(
    annotated: Annotated, results: Mapping[tuple[str, float], Intervals], mask: np.ndarray
) -> list[dict[str, Any]]:
    return [
        {"interval": interval, "records": "all but paced", "method": method, "reference": reference, "rate_hz": rate,
         **_headline(getattr(values, interval), annotated.truths[reference][interval], mask)}
        for (method, rate), values in results.items()
        for reference in REFERENCES
        for interval in INTERVALS
    ]  # fmt: skip


def _cross_check(annotated: Annotated, members: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Rules chosen on the even records by the mean square error of all three intervals, and scored on the odd ones.

    Beside them the shipped rules on the same odd records: the difference is what looking at all records has bought.
    """
    even, odd = members["even, not paced"], members["odd, not paced"]
    if not even.any() or not odd.any():
        return {"chosen_on": "even", "rules": {}, "rows": []}
    candidates = [dict(zip(GRID, values)) for values in product(*GRID.values())]
    results = [_by_rules(annotated, replace(RULES, **candidate)) for candidate in candidates]  # type: ignore[arg-type]
    truths = annotated.truths["global"]
    cost = [
        sum(_mean_square(getattr(values, interval), truths[interval], even) for interval in INTERVALS)
        for values in results
    ]
    best = int(np.argmin(cost))
    rows = [
        {"interval": interval, "records": "odd, not paced", "rules": name,
         **_headline(getattr(values, interval), truths[interval], odd)}
        for name, values in (("chosen on even", results[best]), ("shipped", _by_rules(annotated, MANUAL)))
        for interval in INTERVALS
    ]  # fmt: skip
    shipped = {name: asdict(MANUAL)[name] for name in GRID}
    return {"chosen_on": "even, not paced", "rules": candidates[best], "shipped": shipped, "rows": rows}


def _by_rules(annotated: Annotated, rules: Rules) -> Intervals:
    rows = [measure(ecg, rules=rules).row(0) for ecg in annotated.strips]
    return Intervals.from_rows(rows, [""] * len(rows))


def _mean_square(values: np.ndarray, truth: np.ndarray, members: np.ndarray) -> float:
    error = (values - truth)[members]
    return float(np.nanmean(error**2)) if np.isfinite(error).any() else 0.0


def _error(values: np.ndarray, truth: np.ndarray, members: np.ndarray) -> dict[str, float | None]:
    """Bias, SD, robust SD (interquartile range / 1.349), failures and false finds of one column [ms]."""
    has_truth = members & np.isfinite(truth)
    error = (values - truth)[has_truth & np.isfinite(values)]
    spread = np.subtract(*np.percentile(error, [75, 25])) / 1.349 if len(error) else float("nan")
    return {
        "n": int(has_truth.sum()),
        "failures": int((has_truth & ~np.isfinite(values)).sum()),
        "without_truth": int((members & ~np.isfinite(truth)).sum()),
        "found_without_marks": int((members & ~np.isfinite(truth) & np.isfinite(values)).sum()),
        "bias_ms": _rounded(error.mean() if len(error) else np.nan),
        "sd_ms": _rounded(error.std() if len(error) else np.nan),
        "robust_sd_ms": _rounded(spread),
        "mae_ms": _rounded(np.abs(error).mean() if len(error) else np.nan),
    }


def _headline(values: np.ndarray, truth: np.ndarray, members: np.ndarray) -> dict[str, Any]:
    """Bias, SD, MAE [ms] and failure rate with 95 % bootstrap intervals over records."""
    has_truth = members & np.isfinite(truth)
    failed = ~np.isfinite(values[has_truth])
    error = (values - truth)[has_truth]
    document: dict[str, Any] = {"n": int(has_truth.sum())}
    if not has_truth.any():
        return document
    rng = np.random.default_rng(0)
    samples = rng.integers(len(error), size=(RESAMPLES, len(error)))
    document |= _with_interval("failure_rate", failed.astype(float), samples, lambda x: np.mean(x, axis=-1), 4)
    if failed.all():
        return document
    document |= _with_interval("bias_ms", error, samples, lambda x: np.nanmean(x, axis=-1))
    document |= _with_interval("sd_ms", error, samples, lambda x: np.nanstd(x, axis=-1))
    document |= _with_interval("mae_ms", error, samples, lambda x: np.nanmean(np.abs(x), axis=-1))
    return document


def _with_interval(
    name: str, values: np.ndarray, samples: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], digits: int = 2
) -> dict[str, Any]:
    some = np.isfinite(values[samples]).any(axis=-1)  # a resample of failures only says nothing about errors
    low, high = np.quantile(statistic(values[samples[some]]), [0.025, 0.975])
    return {
        name: _rounded(float(statistic(values)), digits),
        f"{name}_ci95": [_rounded(low, digits), _rounded(high, digits)],
    }


def _rounded(value: float, digits: int = 2) -> float | None:
    """A figure for JSON; None where there is none."""
    return round(float(value), digits) if np.isfinite(value) else None
