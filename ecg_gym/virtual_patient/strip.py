"""``synthesise``: one strip of one heart under one modulation, with its truth."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np

from ecg_gym.pharmacology.exposure import reference_electrolytes
from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.virtual_patient import activation, repolarisation
from ecg_gym.virtual_patient.anatomy import atria, heart_table, ventricles
from ecg_gym.virtual_patient.heart import Heart, poses
from ecg_gym.virtual_patient.lead_field import ELECTRODES, electrode_matrix, leads_from_electrodes
from ecg_gym.virtual_patient.noise import electrode_noise
from ecg_gym.virtual_patient.population import population
from ecg_gym.virtual_patient.repolarisation import Beat, electrode_strip
from ecg_gym.virtual_patient.rhythm import Train, beat_train
from ecg_gym.virtual_patient.template import Fiducials, typical_beat
from ecg_gym.virtual_patient.truth import Truth, findings, hazards
from ecg_gym.waveform.intervals import JTPEAK_EXPONENT

RATE_HZ = 512.0  # five times the model grid
_LEAD_IN_S = 1.2  # simulated before the strip, so that its first T wave has a beat to belong to


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
    around = {name: row["sd"] for name, row in population()["strip"].items()}
    train = beat_train(
        heart.rhythm,
        heart.rate_bpm * (1 + around["rate"] * rng.standard_normal()),
        heart.pr_ms + around["pr_ms"] * rng.standard_normal(),
        heart.sdnn_ms,
        heart.conduction,
        change,
        rng,
        seconds + _LEAD_IN_S,
    )
    drift_ms = around["apd_ms"] * rng.standard_normal()
    samples = round((seconds + _LEAD_IN_S) * rate_hz)
    potential = _ventricular(heart, change, train, drift_ms, rate_hz, samples)
    potential += _atrial(heart, change, train, rng, rate_hz, samples)
    potential *= heart.r_gain
    potential += electrode_noise(rng, len(ELECTRODES), samples, rate_hz, heart.noise)
    skip = round(_LEAD_IN_S * rate_hz)
    signal = leads_from_electrodes(potential)[:, skip:].astype(np.float32)
    return signal, _truth(heart, change, train, drift_ms, skip / rate_hz, seconds, potassium)


@lru_cache(maxsize=512)
def ventricular_rows(pose: int, scar: str) -> np.ndarray:
    """``(9, N)``: what the electrodes see of each ventricular node of a heart in that pose, with that scar."""
    if scar:
        return activation.inert(activation.region(scar), ventricular_rows(pose, ""))
    return electrode_matrix(ventricles(), poses()[pose])


@lru_cache(maxsize=128)
def atrial_rows(pose: int) -> np.ndarray:
    """``(9, N)`` for the atria."""
    return electrode_matrix(atria(), poses()[pose])


@cache
def _pattern(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Activation times and the APD pattern they go with, both ``(N,)`` [ms].

    The APD pattern is always that of normal conduction: cells keep their repolarisation when the path changes, and that
    is where the secondary T waves of bundle branch block come from.
    """
    return activation.ventricular_map(kind), repolarisation.apd_pattern(activation.ventricular_map("normal"))


def _speed(heart: Heart, change: Modulation) -> float:
    """Factor on ventricular conduction times (above 1 is slower)."""
    span = float(np.ptp(activation.ventricular_map("normal"))) + heart_table()["qrs_beyond_activation_ms"]
    return heart.qrs_ms / span / change.conduction


@lru_cache(maxsize=4096)
def _knob(pose: int, scar: str, t_gain: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the knob x: its stops, and the Tpeak-Tend and J-Tpeak [ms] they give in this heart at the reference APD.

    Both depend on how the heart lies, so each pose is measured on its own noise-free beat; what is asked of a heart is
    then what it shows.
    """
    table = heart_table()["repolarisation_knob"]
    fire, pattern = _pattern("normal")
    rows, stops = ventricular_rows(pose, scar), np.array(table["x"])
    shown = []
    for x in stops:
        duration = table["reference_apd_ms"] + _dispersion(x, t_gain) * pattern
        beat = typical_beat(rows, Beat(0.0, fire, duration), _phase3_ms(x))
        shown.append((beat.qt_ms - beat.qrs_ms - beat.jtpeak_ms, beat.jtpeak_ms))
    tpeak_tend, jtpeak = np.array(shown).T
    return stops, np.maximum.accumulate(tpeak_tend), jtpeak


def _phase3_ms(x: float) -> float:
    return heart_table()["action_potential"]["phase3_ms"] * (1 + x)


def _dispersion(x: float, t_gain: float) -> float:
    return (1 + heart_table()["repolarisation_knob"]["dispersion_per_x"] * x) * t_gain


def _repolarise(heart: Heart, change: Modulation) -> tuple[float, float, float]:
    """Mean APD [ms] at 60/min, phase-3 time scale [ms] and dispersion factor that show what is asked of the T wave.

    One knob x widens phase 3 (1 + x) and dispersion (1 + 0.3 x) together for Tpeak-Tend; what it does to J-Tpeak is
    taken back from the mean APD, which moves J-Tpeak one to one.
    """
    t_gain = round(heart.t_gain * change.t_amplitude, 1)
    stops, tpeak_tend, jtpeak = _knob(heart.pose, heart.scar, t_gain)
    x = float(np.interp(heart.tpeak_tend_ms + change.tpeak_tend_ms, tpeak_tend, stops))
    asked = heart.qtcf_ms - heart.qrs_ms - heart.tpeak_tend_ms + change.jtpeak_ms
    mean = heart_table()["repolarisation_knob"]["reference_apd_ms"] + asked - float(np.interp(x, stops, jtpeak))
    return mean, _phase3_ms(x), _dispersion(x, t_gain)


def ventricular_beats(heart: Heart, change: Modulation, train: Train, drift_ms: float) -> tuple[list[Beat], float]:
    """The beats of a train as events, and their phase-3 time scale [ms]; APDs follow the rate with memory."""
    law = heart_table()["rate_law"]
    mean, phase3, dispersion = _repolarise(heart, change)
    rr = np.diff(train.qrs_s, prepend=np.nan)
    typical = float(np.nanmedian(rr)) if len(rr) > 1 else 60 / max(heart.rate_bpm, 20)
    rr = np.where(np.isfinite(rr), rr, typical)
    memory = rr.copy()
    for i in range(1, len(rr)):
        memory[i] = memory[i - 1] + (rr[i] - memory[i - 1]) / law["memory_beats"]
    memory += typical - memory[:1].sum() / max(1, len(memory[:1]))
    slow = _speed(heart, change)
    shorter, plateau = _injured(heart.injury)
    beats = []
    for start, kind, previous, remembered in zip(train.qrs_s, train.kind, rr, memory):
        fire, pattern = _pattern(kind)
        duration = (mean + drift_ms) * repolarisation.rate_factor(previous, remembered) + dispersion * pattern - shorter
        beats.append(Beat(start, fire * slow, np.maximum(duration, 60.0), plateau))
    return beats, phase3


def _ventricular(
    heart: Heart, change: Modulation, train: Train, drift_ms: float, rate_hz: float, samples: int
) -> np.ndarray:
    """Electrode potentials ``(9, samples)`` [mV] of the ventricles."""
    if not train.kind:
        return np.zeros((len(ELECTRODES), samples))
    beats, phase3 = ventricular_beats(heart, change, train, drift_ms)
    return electrode_strip(ventricular_rows(heart.pose, heart.scar), beats, rate_hz, samples, 0.0, phase3)


def _injured(territory: str) -> tuple[np.ndarray | float, np.ndarray | None]:
    """By how much injury shortens APDs ``(N,)`` [ms], and the factor on the plateau ``(N,)``."""
    if not territory:
        return 0.0, None
    table, inside = heart_table()["injury"], activation.region(territory)
    return np.where(inside, table["shorter_ms"], 0.0), np.where(inside, 1 - table["plateau_loss"], 1.0)


def _atrial(
    heart: Heart, change: Modulation, train: Train, rng: np.random.Generator, rate_hz: float, samples: int
) -> np.ndarray:
    """Electrode potentials ``(9, samples)`` [mV] of the atria: P waves, fibrillation or flutter; and pacing spikes."""
    table = heart_table()["atria"]
    total = np.zeros((len(ELECTRODES), samples))
    if len(train.p_s):
        fire = activation.atrial_map() / change.atrial_conduction
        stays = np.full(len(fire), table["apd_ms"])
        beats = [Beat(p, fire, stays) for p in train.p_s]
        rows = atrial_rows(heart.pose) * (heart.p_gain * change.atrial_conduction)
        total += electrode_strip(rows, beats, rate_hz, samples, 0.0, table["phase3_ms"], table["upstroke_ms"])
    if train.fibrillatory:
        total += _fibrillate(heart, train.fibrillatory, rng, rate_hz, samples)
    for spike in train.spikes_s:
        at = round(spike * rate_hz)
        if 0 <= at < samples - 2:
            total[:, at : at + 2] += np.array(heart_table()["spike_mv"])[:, None]
    return total


def _fibrillate(heart: Heart, kind: str, rng: np.random.Generator, rate_hz: float, samples: int) -> np.ndarray:
    """Three orthogonal dipoles that turn at a wandering frequency: f waves, sawtooth, or ventricular fibrillation."""
    row = heart_table()["fibrillation"][kind]
    tissue, rows = (
        (ventricles(), ventricular_rows(heart.pose, heart.scar))
        if kind == "ventricular"
        else (atria(), atrial_rows(heart.pose))
    )
    seen = rows @ (tissue.position - tissue.position.mean(axis=0))  # (9, 3)
    seen *= row["amplitude_mv"] / np.linalg.norm(leads_from_electrodes(seen), axis=1).max()
    time = np.arange(samples) / rate_hz
    frequency = rng.uniform(*row["hz"])
    wander = np.cumsum(rng.standard_normal((3, samples)), axis=1) * row["wander"] / np.sqrt(rate_hz)
    phase = (
        2 * np.pi * frequency * time + np.cumsum(wander, axis=1) / rate_hz * 2 * np.pi + rng.uniform(0, 6.28, (3, 1))
    )
    if row["coherent"]:
        phase = phase[:1] + np.array([0.0, 1.2, 2.4])[:, None]
    wave = sum(np.sin(k * phase + 0.7 * k) * row["harmonics"][k - 1] for k in range(1, len(row["harmonics"]) + 1))
    swell = 1 + row["swell"] * np.sin(2 * np.pi * rng.uniform(0.1, 0.4, (3, 1)) * time + rng.uniform(0, 6.28, (3, 1)))
    return seen @ (wave * swell)


def _truth(
    heart: Heart,
    change: Modulation,
    train: Train,
    drift_ms: float,
    skip_s: float,
    seconds: float,
    potassium: float | None,
) -> Truth:
    inside = (train.qrs_s >= skip_s) & (train.qrs_s < skip_s + seconds)
    qrs, kinds = train.qrs_s[inside], tuple(k for k, i in zip(train.kind, inside) if i)
    p = train.p_s[(train.p_s >= skip_s) & (train.p_s < skip_s + seconds)]
    rr = np.diff(qrs)
    intervals = dict.fromkeys(INTERVALS, float("nan"))
    if len(rr):
        beat = typical_beat_of(heart, change, usual_kind(kinds), float(np.median(rr)), drift_ms)
        pr = train.pr_s[inside]
        conducted = pr[np.isfinite(pr)]
        pr_ms = 1000 * float(np.median(conducted)) if len(conducted) else float("nan")
        intervals |= interval_values(beat, float(np.mean(rr)), pr_ms)
    kept = Train(qrs, kinds, p, train.pr_s[inside], train.fibrillatory)
    serum = potassium if potassium is not None else (heart.patient.potassium or reference_electrolytes()["potassium"])
    return Truth(
        heart.rhythm, qrs - skip_s, kinds, p - skip_s, intervals,
        findings(heart, kept, intervals), hazards(heart, change, intervals, serum),
    )  # fmt: skip


def usual_kind(kinds: tuple[str, ...]) -> str:
    """The most frequent kind of beat; of equally frequent ones the first to come, whatever the process's hash seed."""
    return max(dict.fromkeys(kinds), key=kinds.count)


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


def typical_beat_of(heart: Heart, change: Modulation, kind: str, rr_s: float, drift_ms: float = 0.0) -> Fiducials:
    """Fiducials of the noise-free beat of that kind at a steady RR [s]."""
    train = Train(np.array([0.0]), (kind,), np.empty(0), np.array([np.nan]))
    (beat,), phase3 = ventricular_beats(heart, change, train, drift_ms)
    _, pattern = _pattern(kind)
    mean, _, dispersion = _repolarise(heart, change)
    shorter, _ = _injured(heart.injury)
    steady = (mean + drift_ms) * float(repolarisation.rate_factor(np.array(rr_s), np.array(rr_s)))
    duration = np.maximum(steady + dispersion * pattern - shorter, 60.0)
    beat = Beat(0.0, beat.activation_ms, duration, beat.plateau)
    return typical_beat(ventricular_rows(heart.pose, heart.scar), beat, phase3)
