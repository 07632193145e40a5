"""Virtual strips whose fiducials are known, for the study of the delineator.

The truth of a strip is the median over its own beats of the kind that is measured: the conducted kind if it makes up at
least a third of the beats, else the most frequent one. Where a T wave ends within 20 ms of the next QRS or behind it,
nobody can see its end: its QT is ``hidden``, and neither expected nor scored. A PR is expected where at least 60 % of
those beats follow a P wave at one distance (SD up to 25 ms): not in Mobitz I, third-degree block, fibrillation,
flutter, re-entry, ventricular or paced rhythms. Strips without beats of one kind (VF, asystole, torsade) and poor
recordings are not analysable; what is measured on them is counted as found without truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ecg_gym.virtual_patient import draw_heart, synthesise
from ecg_gym.virtual_patient.rhythm_table import rhythms
from ecg_gym.virtual_patient.truth import FINDINGS, Truth

INTERVALS = ("pr_ms", "qrs_ms", "qt_ms", "tpeak_tend_ms")
CONDUCTIONS = ("normal", "lbbb", "rbbb", "bifascicular", "preexcited")
NOISE_FACTORS = (0.5, 1.0, 2.0, 4.0)
RATE_HZ = 500.0
CONDUCTED_SHARE = 0.33  # of the beats
P_SHARE = 0.6  # of the measured beats follow a P wave
PR_SD_MS = 25.0  # and at one distance
LONGEST_PR_S = 0.45
FEWEST_BEATS = 3
HIDDEN_MS = 20.0  # before the next QRS


@dataclass(frozen=True)
class VirtualStrips:
    """Strips, the groups they were drawn for, and what is true of them."""

    signal: np.ndarray  # (N, 12, T) [mV] at RATE_HZ
    group: np.ndarray  # (N,) str, "population", "rhythm af", "conduction lbbb", "noise 2" ...
    truth: dict[str, np.ndarray]  # (N,) [ms] by interval, NaN where it is not expected
    analysable: np.ndarray  # (N,) bool
    hidden: np.ndarray  # (N,) bool: the T wave ends behind the next QRS
    flutter: np.ndarray  # (N,) bool: waves of the atria never rest and keep step with the QRS


def plan(strips: int) -> list[tuple[str, str | None, str | None, float | None]]:
    """The group, rhythm, conduction and noise factor of every strip; None is drawn from the population."""
    planned: list[tuple[str, str | None, str | None, float | None]] = [("population", None, None, None)] * (10 * strips)
    planned += [(f"rhythm {name}", name, None, None) for name in rhythms() for _ in range(strips)]
    planned += [(f"conduction {name}", "sinus", name, None) for name in CONDUCTIONS for _ in range(strips)]
    planned += [(f"noise {factor:g}", "sinus", None, factor) for factor in NOISE_FACTORS for _ in range(strips)]
    return planned


def draw(strips: int, seed: int, seconds: float = 10.0, progress: Callable[[], None] = lambda: None) -> VirtualStrips:
    """``strips`` of each rhythm, conduction and noise level, and ten times as many of the population as it comes."""
    planned = plan(strips)
    signals, rows, analysable, hidden, flutter = [], [], [], [], []
    for number, (_, rhythm, conduction, factor) in enumerate(planned):
        rng = np.random.default_rng([seed, number])
        heart = draw_heart(rng, rhythm=rhythm, conduction=conduction)
        if factor is not None:
            heart = replace(heart, noise=factor)
        signal, truth = synthesise(heart, rng=rng, rate_hz=RATE_HZ, seconds=seconds)
        intervals, is_hidden = strip_intervals(truth)
        poor = factor is None and bool(truth.findings[FINDINGS.index("Poor data quality")])
        can = not poor and len(truth.qrs_s) >= FEWEST_BEATS and bool(np.isfinite(intervals["qrs_ms"]))
        signals.append(signal)
        rows.append(intervals if can else dict.fromkeys(INTERVALS, float("nan")))
        analysable.append(can)
        hidden.append(is_hidden)
        flutter.append(bool(truth.findings[FINDINGS.index("Atrial flutter")]))
        progress()
    return VirtualStrips(
        np.stack(signals),
        np.array([group for group, *_ in planned]),
        {name: np.array([row[name] for row in rows]) for name in INTERVALS},
        np.array(analysable),
        np.array(hidden),
        np.array(flutter),
    )


def measured_kind(kinds: tuple[str, ...]) -> str:
    """The kind of beat whose intervals are the strip's; "" where no kind makes up a third of the beats."""
    counts = {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}
    conducted = {kind: n for kind, n in counts.items() if not kind.startswith("ectopic") and kind != "torsade"}
    for family in (conducted, counts):
        kind = max(family, key=lambda k: family[k], default="")
        if kind and family[kind] >= max(2, CONDUCTED_SHARE * len(kinds)) and kind != "torsade":
            return kind
    return ""


def strip_intervals(truth: Truth) -> tuple[dict[str, float], bool]:
    """True intervals [ms] of a strip's own beats, NaN where none is expected, and whether its T ends are hidden."""
    values = dict.fromkeys(INTERVALS, float("nan"))
    kind = measured_kind(truth.kinds)
    if not kind or "qrs_onset" not in truth.fiducials:
        return values, False
    at = truth.fiducials
    mine = np.array([k == kind for k in truth.kinds])
    following = np.append(at["qrs_onset"][1:], np.nan)[mine]
    values["qrs_ms"] = _median_ms((at["qrs_end"] - at["qrs_onset"])[mine])
    gap = following - at["t_end"][mine]
    is_hidden = bool(np.isfinite(gap).any() and np.nanmedian(gap) < HIDDEN_MS / 1000)
    if not is_hidden:
        values["qt_ms"] = _median_ms((at["t_end"] - at["qrs_onset"])[mine])
        values["tpeak_tend_ms"] = _median_ms((at["t_end"] - at["t_peak"])[mine])
    values["pr_ms"] = _pr_ms(at, mine, truth.intervals.get("pr_ms", float("nan")))
    return values, is_hidden


def _pr_ms(marks: Mapping[str, np.ndarray], mine: np.ndarray, row: float) -> float:
    """The median distance [ms] of the measured beats from the P wave that conducted to them, if it is one distance."""
    p = np.sort(marks.get("p_onset", np.empty(0)))
    if not np.isfinite(row) or len(p) == 0:
        return float("nan")
    onset = marks["qrs_onset"][mine]
    before = np.searchsorted(p, onset) - 1
    distance = np.where(before >= 0, onset - p[np.maximum(before, 0)], np.inf)
    follows = distance < LONGEST_PR_S
    # the first beat's P wave may lie before the strip
    if follows.sum() < P_SHARE * max(1, len(onset) - 1) or np.std(distance[follows]) > PR_SD_MS / 1000:
        return float("nan")
    return _median_ms(distance[follows])


def _median_ms(seconds: np.ndarray) -> float:
    return 1000 * float(np.nanmedian(seconds)) if np.isfinite(seconds).any() else float("nan")
