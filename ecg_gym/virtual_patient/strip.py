"""``synthesise``: one strip of one heart under one modulation, with its truth."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache

import numpy as np

from ecg_gym.pharmacology.exposure import reference_electrolytes
from ecg_gym.pharmacology.modulation import REST, Modulation
from ecg_gym.virtual_patient import activation, repolarisation
from ecg_gym.virtual_patient.anatomy import atria, heart_table, ventricles
from ecg_gym.virtual_patient.beat import BeatShape, beat_shape, electrode_strip
from ecg_gym.virtual_patient.heart import Heart, poses
from ecg_gym.virtual_patient.lead_field import ELECTRODES, electrode_matrix, leads_from_electrodes
from ecg_gym.virtual_patient.noise import electrode_noise
from ecg_gym.virtual_patient.population import population
from ecg_gym.virtual_patient.rhythm import TORSADE, Train, beat_train
from ecg_gym.virtual_patient.template import Fiducials, p_wave, typical_beat
from ecg_gym.virtual_patient.truth import Truth, findings, hazards
from ecg_gym.virtual_patient.waves import continuous_waves
from ecg_gym.waveform.intervals import JTPEAK_EXPONENT

RATE_HZ = 512.0  # five times the model grid
_NEAR_MS = 20.0  # mean action potential durations at which fiducials are read off a beat
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
    if len(train.p_s):
        atrial, stays = atrial_shape(heart, change, rate_hz), heart_table()["atria"]["apd_ms"]
        beats += [(atrial, start, stays) for start in train.p_s]
    potential = electrode_strip(beats, len(ELECTRODES), rate_hz, samples)
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


def _chamber(heart: Heart, waves: str) -> tuple[np.ndarray, np.ndarray]:
    """What the electrodes see ``(9, N)`` of the chamber these waves run in, and where its nodes are ``(N, 3)`` [mm]."""
    if heart_table()["waves"][waves]["chamber"] == "ventricles":
        return ventricular_rows(heart.pose, heart.scar), ventricles().position
    return atrial_rows(heart.pose), atria().position


@cache
def _longer() -> np.ndarray:
    """``(N,)`` [ms] how much longer than the mean action potentials last, always by the order of normal conduction.

    Cells keep their repolarisation when the path changes, and that is where the secondary T waves of bundle branch
    block come from.
    """
    return repolarisation.apd_pattern(activation.ventricular_map("normal"))


@lru_cache(maxsize=256)
def ventricular_shape(heart: Heart, change: Modulation, kind: str, fusion_ms: float, rate_hz: float) -> BeatShape:
    """The shape of one kind of ventricular beat of this heart; ``fusion_ms`` only matters to pre-excited ones."""
    slow = slowness(heart, change)
    _, phase3, dispersion = _repolarise(heart, change)
    shorter, plateau = _injured(heart.injury)
    fire = activation.ventricular_map(kind, round(fusion_ms / slow)) * slow
    rows = ventricular_rows(heart.pose, heart.scar)
    return beat_shape(rows, fire, dispersion * _longer() - shorter, rate_hz, phase3, plateau=plateau)


@lru_cache(maxsize=256)
def atrial_shape(heart: Heart, change: Modulation, rate_hz: float) -> BeatShape:
    """The shape of a P wave of this heart."""
    table, fire = heart_table()["atria"], activation.atrial_map() / change.atrial_conduction
    rows = atrial_rows(heart.pose) * (heart.p_gain * change.atrial_conduction)
    return beat_shape(rows, fire, np.zeros(len(fire)), rate_hz, table["phase3_ms"], table["upstroke_ms"])


def slowness(heart: Heart, change: Modulation) -> float:
    """Factor on ventricular conduction times (above 1 is slower) that shows the QRS this heart has in sinus rhythm."""
    stops, qrs, _ = _conduction_shown(heart.pose)
    beyond = max(1.0, heart.qrs_ms / float(qrs[-1]))
    return float(np.interp(heart.qrs_ms, qrs, stops)) * beyond / change.conduction


@lru_cache(maxsize=128)
def _conduction_shown(pose: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the slowness of conduction: its stops, and QRS and J-Tpeak [ms] they show in this pose, without a scar."""
    table = heart_table()
    stops, fire = np.array(table["slowness_stops"]), activation.ventricular_map("normal")
    mean, phase3, rows = table["repolarisation_knob"]["reference_apd_ms"], _phase3_ms(0.0), ventricular_rows(pose, "")
    shown = []
    for stop in stops:
        shape = beat_shape(rows, fire * stop, _longer(), RATE_HZ, phase3)
        beat = typical_beat(shape, mean, float(np.ptp(fire)) * stop, RATE_HZ)
        shown.append((beat.qrs_ms, beat.jtpeak_ms))
    qrs, jtpeak = np.array(shown).T
    return stops, np.maximum.accumulate(qrs), jtpeak


@lru_cache(maxsize=8192)
def _knob(pose: int, scar: str, t_gain: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the knob x: its stops, and the Tpeak-Tend and J-Tpeak [ms] they give in this heart at the reference APD.

    Both depend on how the heart lies, so each pose is measured on its own noise-free beat; what is asked of a heart is
    then what it shows.
    """
    table, fire = heart_table()["repolarisation_knob"], activation.ventricular_map("normal")
    mean, rows, stops = table["reference_apd_ms"], ventricular_rows(pose, scar), np.array(table["x"])
    shown = []
    for x in stops:
        phase3 = _phase3_ms(x)
        shape = beat_shape(rows, fire, _dispersion(x, t_gain) * _longer(), RATE_HZ, phase3)
        beat = typical_beat(shape, mean, float(np.ptp(fire)), RATE_HZ)
        shown.append((beat.qt_ms - beat.qrs_ms - beat.jtpeak_ms, beat.jtpeak_ms))
    tpeak_tend, jtpeak = np.array(shown).T
    return stops, np.maximum.accumulate(tpeak_tend), jtpeak


def _phase3_ms(x: float) -> float:
    return heart_table()["action_potential"]["phase3_ms"] * (1 + x)


def _dispersion(x: float, t_gain: float) -> float:
    return (1 + heart_table()["repolarisation_knob"]["dispersion_per_x"] * x) * t_gain


def _repolarise(heart: Heart, change: Modulation) -> tuple[float, float, float]:
    """Mean APD [ms] at 60/min, phase-3 time scale [ms] and dispersion factor that show what is asked of the T wave.

    One knob x widens phase 3 (1 + x) and dispersion (1 + 0.3 x) together for Tpeak-Tend; what it and slow conduction do
    to J-Tpeak is taken back from the mean APD, which moves J-Tpeak one to one.
    """
    t_gain = round(heart.t_gain * change.t_amplitude, 1)
    stops, tpeak_tend, jtpeak = _knob(heart.pose, heart.scar, t_gain)
    x = float(np.interp(heart.tpeak_tend_ms + change.tpeak_tend_ms, tpeak_tend, stops))
    asked = heart.qtcf_ms - heart.qrs_ms - heart.tpeak_tend_ms + change.jtpeak_ms
    speeds, _, jtpeak_by_speed = _conduction_shown(heart.pose)
    later = float(np.diff(np.interp([1.0, slowness(heart, change)], speeds, jtpeak_by_speed))[0])
    shown = float(np.interp(x, stops, jtpeak)) + later
    return (
        heart_table()["repolarisation_knob"]["reference_apd_ms"] + asked - shown,
        _phase3_ms(x),
        _dispersion(x, t_gain),
    )


def _injured(territory: str) -> tuple[np.ndarray | float, np.ndarray | None]:
    """By how much injury shortens APDs ``(N,)`` [ms], and the factor on the plateau ``(N,)``."""
    if not territory:
        return 0.0, None
    table, inside = heart_table()["injury"], activation.region(territory)
    return np.where(inside, table["shorter_ms"], 0.0), np.where(inside, 1 - table["plateau_loss"], 1.0)


def mean_apds(heart: Heart, change: Modulation, train: Train, drift_ms: float) -> np.ndarray:
    """``(M,)`` mean action potential duration [ms] of each beat of a train; it follows the rate with memory."""
    law, mean = heart_table()["rate_law"], _repolarise(heart, change)[0]
    if not len(train.qrs_s):
        return np.empty(0)
    rr = np.diff(train.qrs_s, prepend=np.nan)
    typical = float(np.nanmedian(rr)) if len(rr) > 1 else 60 / max(heart.rate_bpm, law["slowest_bpm"])
    rr = np.where(np.isfinite(rr), rr, typical)
    memory = np.empty(len(rr))
    memory[0] = typical  # the strip is cut out of a longer one
    for i in range(1, len(rr)):
        memory[i] = memory[i - 1] + (rr[i] - memory[i - 1]) / law["memory_beats"]
    shortest = heart_table()["action_potential"]["shortest_ms"]
    return np.maximum((mean + drift_ms) * repolarisation.rate_factor(rr, memory), shortest)


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
    intervals, marks = dict.fromkeys(INTERVALS, float("nan")), {}
    if len(kept.qrs_s):
        marks = _marks(heart, change, kept, mean_ms[inside], rate_hz)
    if len(kept.qrs_s) > 1:
        rr = np.diff(kept.qrs_s)
        kind, fusion = usual_beat(kept)
        intervals |= {"hr_bpm": 60 / float(np.mean(rr)), "rr_ms": 1000 * float(np.mean(rr))}
        if kind != TORSADE:
            own = [k == kind and f == fusion for k, f in zip(kept.kind, kept.fusion_ms)]
            beat = _fiducials(heart, change, kind, float(np.median(mean_ms[inside][own])), fusion, rate_hz)
            pr = kept.pr_s[np.isfinite(kept.pr_s)]
            visible = _p_marks(heart, change, rate_hz)[0] if len(pr) else 0.0
            pr_ms = 1000 * float(np.median(pr)) + beat.onset_ms - visible if len(pr) else float("nan")
            intervals |= interval_values(beat, float(np.mean(rr)), pr_ms)
    serum = potassium if potassium is not None else (heart.patient.potassium or reference_electrolytes()["potassium"])
    return Truth(
        heart.rhythm, kept.qrs_s, kept.kind, kept.p_s, intervals,
        findings(heart, kept, intervals), hazards(heart, change, intervals, serum), marks,
    )  # fmt: skip


_MOVES_WITH_APD = (0, 0, 0, 1, 1)  # a longer action potential moves the T peak and end, one to one


def _marks(
    heart: Heart, change: Modulation, train: Train, mean_ms: np.ndarray, rate_hz: float
) -> dict[str, np.ndarray]:
    """Where each wave of each beat begins, peaks and ends [s], by the definitions of ``template``."""
    names = ("qrs_onset", "r_peak", "qrs_end", "t_peak", "t_end")
    rows = np.full((len(train.qrs_s), len(names)), np.nan)
    for kind, fusion in set(zip(train.kind, train.fusion_ms.tolist())):
        alike = np.array([k == kind and f == fusion for k, f in zip(train.kind, train.fusion_ms)])
        if kind == TORSADE:
            rows[alike, 0] = train.qrs_s[alike]
            continue
        middle = float(np.median(mean_ms[alike]))
        beat = _fiducials(heart, change, kind, middle, fusion, rate_hz)
        offsets = (0.0, beat.r_peak_ms, beat.qrs_ms, beat.qrs_ms + beat.jtpeak_ms, beat.qt_ms)
        at = beat.onset_ms + np.array(offsets) + np.outer(mean_ms[alike] - middle, _MOVES_WITH_APD)
        rows[alike] = train.qrs_s[alike, None] + at / 1000
    marks = dict(zip(names, rows.T))
    if len(train.p_s):
        visible = _p_marks(heart, change, rate_hz)
        marks |= {name: train.p_s + ms / 1000 for name, ms in zip(("p_onset", "p_peak", "p_end"), visible)}
    return marks


@lru_cache(maxsize=256)
def _p_marks(heart: Heart, change: Modulation, rate_hz: float) -> tuple[float, float, float]:
    """Onset, peak and end [ms] of this heart's P wave after its first cell fired."""
    width = float(np.ptp(activation.atrial_map())) / change.atrial_conduction
    return p_wave(atrial_shape(heart, change, rate_hz), heart_table()["atria"]["apd_ms"], width, rate_hz)


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


def typical_beat_of(
    heart: Heart,
    change: Modulation,
    kind: str,
    rr_s: float,
    drift_ms: float = 0.0,
    fusion_ms: float = 0.0,
    rate_hz: float = RATE_HZ,
) -> Fiducials:
    """Fiducials of the noise-free beat of that kind at a steady RR [s]."""
    mean = (_repolarise(heart, change)[0] + drift_ms) * float(repolarisation.rate_factor(*np.array([rr_s, rr_s])))
    return _fiducials(heart, change, kind, mean, fusion_ms, rate_hz)


def _fiducials(
    heart: Heart, change: Modulation, kind: str, mean_ms: float, fusion_ms: float, rate_hz: float
) -> Fiducials:
    """Fiducials of a beat whose action potentials last ``mean_ms`` on average.

    They are read off a beat with nearly that duration; over the rest the T wave moves one to one.
    """
    mean_ms = max(mean_ms, heart_table()["action_potential"]["shortest_ms"])
    near = round(mean_ms / _NEAR_MS) * _NEAR_MS
    beat = _fiducials_near(heart, change, kind, near, fusion_ms, rate_hz)
    later = mean_ms - near
    return replace(beat, jtpeak_ms=beat.jtpeak_ms + later, qt_ms=beat.qt_ms + later)


@lru_cache(maxsize=1024)
def _fiducials_near(
    heart: Heart, change: Modulation, kind: str, mean_ms: float, fusion_ms: float, rate_hz: float
) -> Fiducials:
    slow = slowness(heart, change)
    width = float(np.ptp(activation.ventricular_map(kind, round(fusion_ms / slow)))) * slow
    return typical_beat(ventricular_shape(heart, change, kind, fusion_ms, rate_hz), mean_ms, width, rate_hz)
