"""``synthesise``: one strip of one heart under one modulation, with its truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ecg_gym.pharmacology.exposure import reference_electrolytes
from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.virtual_patient.anatomy import atria, heart_table, ventricles
from ecg_gym.virtual_patient.heart import Heart
from ecg_gym.virtual_patient.lead_field import ELECTRODES, leads_from_electrodes
from ecg_gym.virtual_patient.noise import electrode_noise
from ecg_gym.virtual_patient.population import population
from ecg_gym.virtual_patient.truth import Truth, hazards
from ecg_gym.waveform.intervals import JTPEAK_EXPONENT
from slow_strips.beat import electrode_strip
from slow_strips.beat_shapes import (
    atrial_rows,
    fiducials_of,
    mean_apds,
    p_curve,
    p_marks,
    ventricular_rows,
    ventricular_shape,
)
from slow_strips.fibrillation import continuous_waves
from slow_strips.findings import findings
from slow_strips.rhythm import TORSADE, Train, beat_train
from slow_strips.true_fiducials import Fiducials

RATE_HZ = 512.0  # five times the model grid
LEAD_IN_S = 1.2  # simulated before the strip, so that its first T wave has a beat to belong to


def synthesise(
    heart: Heart,
    change: Modulation = REST,
    rng: np.random.Generator | None = None,
    rate_hz: float = RATE_HZ,
    seconds: float = 10.0,
    potassium: float | None = None,
) -> tuple[np.ndarray, Truth]:
    """The strip ``(12, T)`` float32 [mV] and its truth. Without ``rng`` the strip is the same every time."""
    rng = np.random.default_rng(0) if rng is None else rng
    minute = _this_minute(heart, rng)
    train = beat_train(heart, change, minute["rate"], minute["pr_ms"], rng, seconds + LEAD_IN_S)
    samples = round((seconds + LEAD_IN_S) * rate_hz)
    mean_ms = mean_apds(heart, change, train, minute["apd_ms"])
    paths = list(zip(train.kind, train.fusion_ms.tolist()))
    shapes = {path: ventricular_shape(heart, change, *path, rate_hz) for path in set(paths) if path[0] != TORSADE}
    beats = [(shapes[p], start, mean) for p, start, mean in zip(paths, train.qrs_s, mean_ms) if p in shapes]
    atrial = p_curve(heart, change, rate_hz) if len(train.p_s) else None
    p_waves = [(atrial, start) for start in train.p_s] if atrial else []
    potential = electrode_strip(beats, len(ELECTRODES), rate_hz, samples, p_waves)
    if train.waves:
        rows, position = _chamber(heart, train.waves)
        potential += continuous_waves(train.waves, rows, position, rng, rate_hz, samples, train.cycles_s)
    for spike in train.spikes_s:
        at = round(spike * rate_hz)
        if 0 <= at < samples - 2:
            potential[:, at : at + 2] += np.array(heart_table()["spike_mv"])[:, None]
    potential *= np.float32(heart.r_gain)
    potential += electrode_noise(rng, len(ELECTRODES), samples, rate_hz, heart.noise)
    signal = leads_from_electrodes(potential[:, round(LEAD_IN_S * rate_hz) :]).astype(np.float32)
    return signal, _truth(heart, change, train, mean_ms, rate_hz, seconds, potassium)


def _this_minute(heart: Heart, rng: np.random.Generator) -> dict[str, float]:
    """How this strip differs from the heart's average: ``rate`` [1/min], ``pr_ms``, ``apd_ms``; population.yaml."""
    around = {name: row["sd"] * rng.standard_normal() for name, row in population()["strip"].items()}
    return {
        "rate": heart.rate_bpm * (1 + around["rate"]),
        "pr_ms": heart.pr_ms + around["pr_ms"],
        "apd_ms": around["apd_ms"],
    }


def _chamber(heart: Heart, waves: str) -> tuple[np.ndarray, np.ndarray]:
    """What the electrodes see ``(9, N)`` of the chamber these waves run in, and where its nodes are ``(N, 3)`` [mm]."""
    if heart_table()["waves"][waves]["chamber"] == "ventricles":
        return ventricular_rows(heart.pose, heart.scar), ventricles().position
    return atrial_rows(heart.pose), atria().position


def _truth(
    heart: Heart,
    change: Modulation,
    train: Train,
    mean_ms: np.ndarray,
    rate_hz: float,
    seconds: float,
    potassium: float | None,
) -> Truth:
    inside = (train.qrs_s >= LEAD_IN_S) & (train.qrs_s < LEAD_IN_S + seconds)
    inside_p = (train.p_s >= LEAD_IN_S) & (train.p_s < LEAD_IN_S + seconds)
    kept = train.where(inside, inside_p, LEAD_IN_S)
    intervals: dict[str, float] = dict.fromkeys(INTERVALS, float("nan"))
    marks = Marks(heart, change, kept, mean_ms[inside], rate_hz)
    if len(kept.qrs_s) > 1:
        rr = np.diff(kept.qrs_s)
        kind, fusion = usual_beat(kept)
        intervals |= {"hr_bpm": 60 / float(np.mean(rr)), "rr_ms": 1000 * float(np.mean(rr))}
        if kind != TORSADE:
            own = [k == kind and f == fusion for k, f in zip(kept.kind, kept.fusion_ms)]
            beat = fiducials_of(heart, change, kind, float(np.median(mean_ms[inside][own])), fusion, rate_hz)
            pr = kept.pr_s[np.isfinite(kept.pr_s)]
            visible = p_marks(heart, change, rate_hz)[0] if len(pr) else 0.0
            pr_ms = 1000 * float(np.median(pr)) + beat.onset_ms - visible if len(pr) else float("nan")
            intervals |= interval_values(beat, float(np.mean(rr)), pr_ms)
    serum = potassium if potassium is not None else (heart.patient.potassium or reference_electrolytes()["potassium"])
    return Truth(
        heart.rhythm, kept.qrs_s, kept.kind, kept.p_s, intervals,
        findings(heart, kept, intervals), hazards(heart, change, intervals, serum), marks,
    )  # fmt: skip


class Marks(Mapping[str, np.ndarray]):
    """Where each wave of each beat begins, peaks and ends [s]; worked out when somebody looks, which few ever do."""

    def __init__(
        self, heart: Heart, change: Modulation, train: Train, mean_ms: np.ndarray, rate_hz: float, later_s: float = 0.0
    ) -> None:
        self._of = (heart, change, train, mean_ms, rate_hz)
        self._later_s = later_s
        self._times: dict[str, np.ndarray] | None = None

    def moved(self, later_s: float) -> Marks:
        """The same marks on a clock that begins so much earlier [s]."""
        return Marks(*self._of, self._later_s + later_s)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names():
            raise KeyError(name)
        if self._times is None:
            self._times = {mark: times + self._later_s for mark, times in _marks(*self._of).items()}
        return self._times[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def _names(self) -> tuple[str, ...]:
        train = self._of[2]
        return (*_BEAT, *(_P if len(train.p_s) else ())) if len(train.qrs_s) else ()

    def __repr__(self) -> str:
        return f"Marks({', '.join(self)})"


_BEAT, _P = ("qrs_onset", "r_peak", "qrs_end", "t_peak", "t_end"), ("p_onset", "p_peak", "p_end")
_MOVES_WITH_APD = (0, 0, 0, 1, 1)  # a longer action potential moves the T peak and end, one to one


def _marks(
    heart: Heart, change: Modulation, train: Train, mean_ms: np.ndarray, rate_hz: float
) -> dict[str, np.ndarray]:
    """Where each wave of each beat begins, peaks and ends [s], by the definitions of ``template``."""
    rows = np.full((len(train.qrs_s), len(_BEAT)), np.nan)
    for kind, fusion in set(zip(train.kind, train.fusion_ms.tolist())):
        alike = np.array([k == kind and f == fusion for k, f in zip(train.kind, train.fusion_ms)])
        if kind == TORSADE:
            rows[alike, 0] = train.qrs_s[alike]
            continue
        middle = float(np.median(mean_ms[alike]))
        beat = fiducials_of(heart, change, kind, middle, fusion, rate_hz)
        offsets = (0.0, beat.r_peak_ms, beat.qrs_ms, beat.qrs_ms + beat.jtpeak_ms, beat.qt_ms)
        at = beat.onset_ms + np.array(offsets) + np.outer(mean_ms[alike] - middle, _MOVES_WITH_APD)
        rows[alike] = train.qrs_s[alike, None] + at / 1000
    marks = dict(zip(_BEAT, rows.T))
    if len(train.p_s):
        visible = p_marks(heart, change, rate_hz)
        marks |= {name: train.p_s + ms / 1000 for name, ms in zip(_P, visible)}
    return marks


def usual_beat(train: Train) -> tuple[str, float]:
    """Kind and fusion [ms] of the beat that intervals are read from: the most frequent, of equals the first to come.

    Beats that a P wave conducted to count before others as soon as they are a third: a reader measures those.
    """
    beats = list(zip(train.kind, train.fusion_ms.tolist()))
    conducted = [beat for beat, pr in zip(beats, train.pr_s) if np.isfinite(pr)]
    chosen = conducted if 3 * len(conducted) >= len(beats) else beats
    return max(dict.fromkeys(chosen), key=chosen.count)


INTERVALS = (
    "hr_bpm",
    "rr_ms",
    "pr_ms",
    "qrs_ms",
    "qt_ms",
    "qtcf_ms",
    "qtcb_ms",
    "jtpeak_ms",
    "jtpeakc_ms",
    "tpeak_tend_ms",
)


def interval_values(beat: Fiducials, rr_s: float, pr_ms: float) -> dict[str, float]:
    """The intervals of a noise-free beat at a mean RR [s], by the names of ``waveform.Intervals``."""
    return {
        "hr_bpm": 60 / rr_s,
        "rr_ms": 1000 * rr_s,
        "pr_ms": pr_ms,
        "qrs_ms": beat.qrs_ms,
        "qt_ms": beat.qt_ms,
        "qtcf_ms": beat.qt_ms / np.cbrt(rr_s),
        "qtcb_ms": beat.qt_ms / np.sqrt(rr_s),
        "jtpeak_ms": beat.jtpeak_ms,
        "jtpeakc_ms": beat.jtpeak_ms / rr_s**JTPEAK_EXPONENT,
        "tpeak_tend_ms": beat.qt_ms - beat.qrs_ms - beat.jtpeak_ms,
    }
