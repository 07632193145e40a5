"""P waves: their spectra, and where they begin, peak and end; one shape per pose and velocity of conduction."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.fft import rfft

from ecg_gym.compiled import compiled_exact
from ecg_gym.core import independent_from_leads
from ecg_gym.virtual_patient import activation
from ecg_gym.virtual_patient.anatomy import atria, heart_table
from ecg_gym.virtual_patient.beat_spectra import (
    BEFORE_S,
    BIN_HZ,
    LEADS,
    PERIOD_S,
    Spectra,
    _sharpened,
    _sort_into_bins,
    atrial_rows,
    beats,
)
from ecg_gym.virtual_patient.heart import poses
from ecg_gym.virtual_patient.lead_field import leads_from_electrodes

P_FRACTION = 0.045  # of the P wave's height, as in waveform.delineation
_STOPS = np.array([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5])  # of the velocity of conduction
_RATE_HZ = 512.0


def apd_s() -> float:
    """How long atrial action potentials last [s]."""
    return float(heart_table()["atria"]["apd_ms"]) / 1000


@cache
def _weights() -> tuple[np.ndarray, np.ndarray]:
    """``(poses, N, 8)`` float32 [mV], filled as needed, and which are filled."""
    return np.zeros((len(poses()), len(atria()), LEADS), np.float32), np.zeros(len(poses()), bool)


def atrial_spectra(
    pose: np.ndarray, conduction: np.ndarray, period_s: float, lines: int, bin_hz: float = BIN_HZ
) -> Spectra:
    """The spectra of P waves of unit gain, for hearts in ``pose (B,)`` with ``conduction (B,)`` of normal velocity."""
    weights, is_filled = _weights()
    pose = pose % len(poses())  # the atria are the same whatever the ventricles' tissue
    for new in np.unique(pose[~is_filled[pose]]):
        weights[new] = independent_from_leads(leads_from_electrodes(atrial_rows(int(new)))).T
        is_filled[new] = True
    table, b, n = heart_table()["atria"], len(pose), len(atria())
    times, none = activation.atrial_map().astype(np.float32)[None], np.zeros(b, np.int64)
    flat, whole = np.zeros(n, np.float32), np.ones((1, n), np.float32)
    density = np.empty((b, round(period_s * bin_hz), 3 * LEADS), np.float32)
    moments = np.empty((b, 3, LEADS))
    _sort_into_bins(
        weights, pose, times, none, 1 / conduction, np.zeros(b), flat, flat[None], whole, none,
        density.shape[1] / period_s / 1000, density, moments,
    )  # fmt: skip
    parts = rfft(density, axis=1)[:, :lines] * _sharpened(lines, density.shape[1])
    upstroke, phase3 = (np.full(b, table[name] / 1000) for name in ("upstroke_ms", "phase3_ms"))
    return Spectra(period_s, upstroke, phase3, parts, moments, np.empty((0, lines, LEADS), np.complex64))


def p_wave_marks(pose: np.ndarray, conduction: np.ndarray) -> np.ndarray:
    """``(B, 3)`` [ms]: onset, peak and end of each P wave after the first atrial cell fires; from a table."""
    marks, is_filled = _store()
    pose = pose % len(poses())
    for new in np.unique(pose[~is_filled[pose]]):
        marks[new], is_filled[new] = _measure(int(new)), True
    out = np.empty((len(pose), 3))
    _read_marks(marks, pose, np.asarray(conduction, float), 1 / _STOPS, out)
    return out


@cache
def _store() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((len(poses()), len(_STOPS), 3)), np.zeros(len(poses()), bool)


def p_wave_tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What ``p_wave_onset`` reads: marks of each pose, of which poses they are known, and the stops of slowness."""
    return (*_store(), 1 / _STOPS)


@compiled_exact
def _mark(marks: np.ndarray, stops: np.ndarray, conduction: float, k: int) -> float:
    """Mark ``k`` of a P wave, linear in slowness, whose ``stops`` fall."""
    slow, i = 1 / min(max(conduction, 1 / stops[0]), 1 / stops[-1]), 0
    while i < len(stops) - 2 and slow < stops[i + 1]:
        i += 1
    part = (slow - stops[i]) / (stops[i + 1] - stops[i])
    return marks[i, k] * (1 - part) + marks[i + 1, k] * part


@compiled_exact
def p_wave_onset(marks: np.ndarray, stops: np.ndarray, conduction: float) -> float:
    """Where the P wave of one heart begins [ms]; ``marks (stops, 3)`` are those of its pose."""
    return _mark(marks, stops, conduction, 0)


@compiled_exact
def _read_marks(
    marks: np.ndarray, pose: np.ndarray, conduction: np.ndarray, stops: np.ndarray, out: np.ndarray
) -> None:
    for b in range(len(pose)):
        for k in range(3):
            out[b, k] = _mark(marks[pose[b]], stops, conduction[b], k)


def _measure(pose: int) -> np.ndarray:
    """``(stops, 3)`` [ms], read off noise-free P waves: where the vector magnitude exceeds a share of its peak."""
    lines, samples, period_s = 256, round(2 * PERIOD_S * _RATE_HZ), 2 * PERIOD_S
    of = atrial_spectra(np.full(len(_STOPS), pose), _STOPS, period_s, lines)
    none = np.zeros(len(_STOPS))
    waves = beats(of, np.arange(len(_STOPS)), none, none + apd_s(), np.ones(lines), samples)
    size, rows = np.linalg.norm(waves.astype(float), axis=2), []
    for y, conduction in zip(size, _STOPS):
        last = round((BEFORE_S + float(activation.atrial_map().max()) / 1000 / conduction + 0.05) * _RATE_HZ)
        y = y[:last]
        loud = np.flatnonzero(y > P_FRACTION * y.max())
        level, first, end = P_FRACTION * y.max(), int(loud[0]), int(loud[-1])
        onset = first - (y[first] - level) / (y[first] - y[first - 1])
        over = end + (y[end] - level) / (y[end] - y[end + 1]) if end + 1 < len(y) else float(end)
        rows.append([onset, float(np.argmax(y)), over])
    return (np.array(rows) / _RATE_HZ - BEFORE_S) * 1000
