"""The beats of one heart: their shapes, how long they last, and their fiducials, under one modulation.

What is asked of a heart (its QRS, QTcF and Tpeak-Tend, and how a modulation moves them) is what its noise-free beat
shows: each pose is measured once, and the knobs are turned by that table.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.virtual_patient import activation, repolarisation
from ecg_gym.virtual_patient.anatomy import atria, heart_table, ventricles
from ecg_gym.virtual_patient.beat import BeatShape, Curve, beat_shape, upstrokes, whole
from ecg_gym.virtual_patient.excitation import Excitation
from ecg_gym.virtual_patient.heart import Heart, poses
from ecg_gym.virtual_patient.lead_field import ELECTRODES, electrode_matrix
from ecg_gym.virtual_patient.rhythm import Train
from ecg_gym.virtual_patient.true_fiducials import Fiducials, p_wave, typical_beat

_MAP_HZ = 512.0  # rate of the noise-free beats that poses are measured on
_SPEEDS = 200  # steps of slowness per unit
_NEAR_MS = 20.0  # mean action potential durations at which fiducials are read off a beat


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


@lru_cache(maxsize=256)
def ventricular_shape(heart: Heart, change: Modulation, kind: str, fusion_ms: float, rate_hz: float) -> BeatShape:
    """The shape of one kind of ventricular beat of this heart; ``fusion_ms`` only matters to pre-excited ones."""
    slow = slowness(heart, change)
    _, phase3, dispersion = _repolarise(heart, change)
    shorter, plateau = _injured(heart.injury)
    fire = heart.tissue.activation_ms(kind, slow, round(fusion_ms / slow))
    rows = ventricular_rows(heart.pose, heart.scar)
    fired = _fired(heart.tissue, heart.pose, heart.scar, heart.injury, kind, round(fusion_ms / slow), slow, rate_hz)
    return beat_shape(
        rows, fire, dispersion * heart.tissue.longer_ms() - shorter, rate_hz, phase3, plateau=plateau, fired=fired
    )


@lru_cache(maxsize=2048)
def _fired(
    tissue: Excitation, pose: int, scar: str, injury: str, kind: str, fusion_ms: float, slow: float, rate_hz: float
) -> tuple[Curve, Curve]:
    """The upstrokes of one kind of beat, which many people share."""
    _, plateau = _injured(injury)
    fire = tissue.activation_ms(kind, slow, fusion_ms)
    return upstrokes(ventricular_rows(pose, scar), fire, rate_hz, plateau=plateau)


def p_curve(heart: Heart, change: Modulation, rate_hz: float) -> Curve:
    """A P wave of this heart."""
    curve = _p_curve(heart.pose, change.atrial_conduction, rate_hz)
    return replace(curve, steps=curve.steps * np.float32(heart.p_gain * change.atrial_conduction))


@lru_cache(maxsize=1024)
def _p_curve(pose: int, conduction: float, rate_hz: float) -> Curve:
    """A P wave of unit gain at that velocity of conduction."""
    return whole(_atrial_shape(pose, conduction, rate_hz), heart_table()["atria"]["apd_ms"], len(ELECTRODES), rate_hz)


@lru_cache(maxsize=64)
def _atrial_shape(pose: int, conduction: float, rate_hz: float) -> BeatShape:
    table, fire = heart_table()["atria"], activation.atrial_map() / conduction
    return beat_shape(
        atrial_rows(pose), fire, np.zeros(len(fire)), rate_hz, table["phase3_ms"], table["upstroke_ms"]
    )  # fmt: skip


def slowness(heart: Heart, change: Modulation) -> float:
    """Factor on ventricular conduction times (above 1 is slower) that shows the QRS this heart has in sinus rhythm.

    In steps of half a percent, a quarter of a millisecond of QRS either way, so that hearts share their upstrokes.
    """
    stops, qrs, _ = _conduction_shown(heart.tissue, heart.pose)
    beyond = max(1.0, heart.qrs_ms / float(qrs[-1]))
    slow = float(np.interp(heart.qrs_ms, qrs, stops)) * beyond / change.conduction
    return max(1, round(slow * _SPEEDS)) / _SPEEDS


@lru_cache(maxsize=128)
def _conduction_shown(tissue: Excitation, pose: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the slowness of conduction: its stops, and QRS and J-Tpeak [ms] they show in this pose, without a scar."""
    table = heart_table()
    stops = np.array(table["slowness_stops"])
    mean, phase3, rows = (
        table["repolarisation_knob"]["reference_apd_ms"],
        _phase3_ms(0.0),
        ventricular_rows(pose, ""),
    )
    visible = []
    for stop in stops:
        fire = tissue.activation_ms("normal", float(stop))
        shape = beat_shape(rows, fire, tissue.longer_ms(), _MAP_HZ, phase3)
        beat = typical_beat(shape, mean, float(np.ptp(fire)), _MAP_HZ)
        visible.append((beat.qrs_ms, beat.jtpeak_ms))
    qrs, jtpeak = np.array(visible).T
    return stops, np.maximum.accumulate(qrs), jtpeak


@lru_cache(maxsize=8192)
def _knob(tissue: Excitation, pose: int, scar: str, t_gain: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the knob x: its stops, and the Tpeak-Tend and J-Tpeak [ms] they give in this heart at the reference APD.

    Both depend on how the heart lies, so each pose is measured on its own noise-free beat; what is asked of a heart is
    then what it shows.
    """
    table, fire = heart_table()["repolarisation_knob"], tissue.activation_ms("normal", 1.0)
    mean, rows, stops = table["reference_apd_ms"], ventricular_rows(pose, scar), np.array(table["x"])
    fired = _fired(tissue, pose, scar, "", "normal", 0.0, 1.0, _MAP_HZ)
    visible = []
    for x in stops:
        phase3 = _phase3_ms(x)
        shape = beat_shape(rows, fire, _dispersion(x, t_gain) * tissue.longer_ms(), _MAP_HZ, phase3, fired=fired)
        beat = typical_beat(shape, mean, float(np.ptp(fire)), _MAP_HZ)
        visible.append((beat.qt_ms - beat.qrs_ms - beat.jtpeak_ms, beat.jtpeak_ms))
    tpeak_tend, jtpeak = np.array(visible).T
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
    stops, tpeak_tend, jtpeak = _knob(heart.tissue, heart.pose, heart.scar, t_gain)
    x = float(np.interp(heart.tpeak_tend_ms + change.tpeak_tend_ms, tpeak_tend, stops))
    target_intervals = heart.qtcf_ms - heart.qrs_ms - heart.tpeak_tend_ms + change.jtpeak_ms
    speeds, _, jtpeak_by_speed = _conduction_shown(heart.tissue, heart.pose)
    later = float(np.diff(np.interp([1.0, slowness(heart, change)], speeds, jtpeak_by_speed))[0])
    rows = float(np.interp(x, stops, jtpeak)) + later
    return (
        heart_table()["repolarisation_knob"]["reference_apd_ms"] + target_intervals - rows,
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


def typical_beat_of(heart: Heart, change: Modulation, kind: str, rr_s: float) -> Fiducials:
    """Fiducials of the noise-free beat of that kind at a steady RR [s]."""
    mean = _repolarise(heart, change)[0] * float(repolarisation.rate_factor(*np.array([rr_s, rr_s])))
    return fiducials_of(heart, change, kind, mean, 0.0, _MAP_HZ)


def fiducials_of(
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
    width = float(np.ptp(heart.tissue.activation_ms(kind, slow, round(fusion_ms / slow))))
    return typical_beat(ventricular_shape(heart, change, kind, fusion_ms, rate_hz), mean_ms, width, rate_hz)


def p_marks(heart: Heart, change: Modulation, rate_hz: float) -> tuple[float, float, float]:
    """Onset, peak and end [ms] of this heart's P wave after its first cell fired."""
    return _p_marks(heart.pose, change.atrial_conduction, rate_hz)


@lru_cache(maxsize=1024)
def _p_marks(pose: int, conduction: float, rate_hz: float) -> tuple[float, float, float]:
    width = float(np.ptp(activation.atrial_map())) / conduction
    return p_wave(_atrial_shape(pose, conduction, rate_hz), heart_table()["atria"]["apd_ms"], width, rate_hz)
