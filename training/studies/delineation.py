"""How well intervals are measured: against cardiologists' marks in any folder of annotated WFDB records.

The global reference of a beat is the lower quartile over the leads of the marked onsets and the upper quartile of the
marked ends (earliest and latest, robust to two stray leads of twelve), the reference of a record the median over its
beats; lead II alone is scored beside it. A PR is expected where at least 60 % of the beats have a marked P wave. Paced
records are listed apart: their marks begin at the spike or behind it, as the reader pleased.

Methods: ``global`` is ``waveform.measure``, whose T end is the foot of the steepest tangent; ``global, manual T end``
goes 1.75 times as far along that tangent, where the readers of LUDB see the wave end; ``neurokit`` is NeuroKit2's dwt
on lead II. The rules of ``global`` were chosen with all of LUDB in view, so on LUDB these figures are in-sample; even
and odd records are listed apart to show how much they scatter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecg_gym.core import ECG
from ecg_gym.datasets import Wave, read_marks, read_record
from ecg_gym.waveform import measure, resample
from ecg_gym.waveform.beats import conditioned, r_peaks_of
from ecg_gym.waveform.fiducials import MANUAL
from ecg_gym.waveform.intervals import Intervals
from ecg_gym.waveform.measurement import measure_row

INTERVALS = ("pr_ms", "qrs_ms", "qt_ms")
METHODS = ("global", "global, manual T end", "neurokit")
REFERENCES = ("global", "lead II")
FEWEST_LEADS = 6  # a beat is scored if at least half the leads are marked
P_SHARE = 0.6


def study(
    records: Path, methods: Sequence[str] = METHODS, rates_hz: Sequence[float] = (500.0, 102.4)
) -> dict[str, Any]:
    """The study's document: one row per interval, group of records, method, reference and sampling rate."""
    rows = compare(records, methods, rates_hz)
    return {
        "study": "delineation",
        "n_patients": max((row["n"] for row in rows), default=0),
        "data": [str(records.name)],
        "reference": "lower quartile of onsets and upper quartile of ends over the leads; median over beats",
        "rows": rows,
    }


def compare(
    records: Path, methods: Sequence[str] = METHODS, rates_hz: Sequence[float] = (500.0,)
) -> list[dict[str, Any]]:
    """Bias, SD and failures [ms] of each method against the marks, per group of records."""
    names, strips, truths = _load(records)
    groups = _groups(names, strips)
    rows = []
    for rate in rates_hz:
        at_rate = [ECG(resample(ecg.signal, ecg.rate_hz, rate), rate) for _, ecg in strips]
        for method in methods:
            measured = Intervals.from_rows([_measure(ecg, method) for ecg in at_rate], [""] * len(at_rate))
            for reference in REFERENCES:
                for group, members in groups.items():
                    for interval in INTERVALS:
                        error = _error(getattr(measured, interval), truths[reference][interval], members)
                        rows.append({"interval": interval, "records": group, "method": method,
                                     "reference": reference, "rate_hz": rate, **error})  # fmt: skip
    return rows


def _load(records: Path) -> tuple[list[str], list[tuple[str, ECG]], dict[str, dict[str, np.ndarray]]]:
    """Names, (header text, strip) and reference intervals of every record in the folder that has marks."""
    names, strips = [], []
    truths: dict[str, dict[str, list[float]]] = {name: {i: [] for i in INTERVALS} for name in REFERENCES}
    for header in sorted(records.rglob("*.hea")):
        marks = read_marks(header)
        if not marks:
            continue
        record = read_record(header, allow_missing_leads=True)
        names.append(record.name)
        strips.append((header.read_text(encoding="utf-8", errors="replace"), record.ecg))
        for reference, chosen in (("global", marks), ("lead II", {"II": marks["II"]} if "II" in marks else {})):
            for interval, value in reference_intervals(chosen).items():
                truths[reference][interval].append(value)
    if not names:
        raise ValueError(
            f"{records} holds no record with marks; expected WFDB records with one annotation file per lead (.i .ii "
            "... .v6); point --records at a folder such as LUDB's data"
        )
    return names, strips, {name: {i: np.array(v) for i, v in rows.items()} for name, rows in truths.items()}


def _groups(names: Sequence[str], strips: Sequence[tuple[str, ECG]]) -> dict[str, np.ndarray]:
    """Which records belong to which group."""
    paced = np.array(["pacing" in text.lower() for text, _ in strips])
    number = np.array([int("".join(c for c in name if c.isdigit()) or 0) for name in names])
    fibrillating = np.array(["fibrillation" in text.lower() or "flutter" in text.lower() for text, _ in strips])
    return {
        "all": np.ones(len(names), dtype=bool),
        "all but paced": ~paced,
        "even, not paced": ~paced & (number % 2 == 0),
        "odd, not paced": ~paced & (number % 2 == 1),
        "fibrillation or flutter": fibrillating,
        "paced": paced,
    }


def _measure(ecg: ECG, method: str) -> dict[str, float]:
    """One row of numbers for one strip."""
    if method == "global, manual T end":
        leads = conditioned(ecg)
        return measure_row(leads[0], r_peaks_of(leads)[0], MANUAL)[0]
    return measure(ecg, method="neurokit" if method == "neurokit" else "global").row(0)


def reference_intervals(marks: Mapping[str, Sequence[Wave]]) -> dict[str, float]:
    """PR, QRS and QT [ms] of a record by its marks; NaN where too little was marked."""
    found: dict[str, list[float]] = {name: [] for name in INTERVALS}
    beats = list(_beats(marks))
    for qrs, p, t in beats:
        onset, end = _quartiles(qrs)
        found["qrs_ms"].append(end - onset)
        if len(p) >= min(FEWEST_LEADS, len(marks)):
            found["pr_ms"].append(onset - _quartiles(p)[0])
        if len(t) >= min(FEWEST_LEADS, len(marks)):
            found["qt_ms"].append(_quartiles(t)[1] - onset)
    if len(found["pr_ms"]) < P_SHARE * (len(beats) - 1):  # the first beat of a strip often has no marked P
        found["pr_ms"] = []
    return {name: 1000 * float(np.nanmedian(v)) if np.isfinite(v).any() else float("nan") for name, v in found.items()}


def _beats(marks: Mapping[str, Sequence[Wave]]) -> Iterator[tuple[list[Wave], list[Wave], list[Wave]]]:
    """QRS, P and T marks of each beat, one per lead that has it."""
    waves = [wave for lead in marks.values() for wave in lead]
    at = np.sort([wave.peak_s for wave in waves if wave.kind == "N"])
    for group in np.split(at, np.flatnonzero(np.diff(at) > 0.12) + 1):
        if len(group) < min(FEWEST_LEADS, len(marks)):
            continue
        r = float(np.median(group))
        yield tuple(  # type: ignore[misc]
            [wave for wave in waves if wave.kind == kind and first < wave.peak_s - r < last]
            for kind, first, last in (("N", -0.12, 0.12), ("p", -0.50, -0.04), ("t", 0.04, 0.70))
        )


def _quartiles(waves: Sequence[Wave]) -> tuple[float, float]:
    """Lower quartile of the onsets and upper quartile of the ends [s]."""
    onsets = [wave.onset_s for wave in waves if np.isfinite(wave.onset_s)]
    ends = [wave.end_s for wave in waves if np.isfinite(wave.end_s)]
    return (
        float(np.percentile(onsets, 25)) if onsets else float("nan"),
        float(np.percentile(ends, 75)) if ends else float("nan"),
    )


def _error(measured: np.ndarray, truth: np.ndarray, members: np.ndarray) -> dict[str, float]:
    """Bias, SD, robust SD (interquartile range / 1.349), failures and false finds of one column [ms]."""
    known = members & np.isfinite(truth)
    error = (measured - truth)[known & np.isfinite(measured)]
    spread = np.subtract(*np.percentile(error, [75, 25])) / 1.349 if len(error) else float("nan")
    return {
        "n": int(known.sum()),
        "failures": int((known & ~np.isfinite(measured)).sum()),
        "found_without_marks": int((members & ~np.isfinite(truth) & np.isfinite(measured)).sum()),
        "bias_ms": round(float(error.mean()), 2) if len(error) else float("nan"),
        "sd_ms": round(float(error.std()), 2) if len(error) else float("nan"),
        "robust_sd_ms": round(float(spread), 2),
        "mae_ms": round(float(np.abs(error).mean()), 2) if len(error) else float("nan"),
    }
