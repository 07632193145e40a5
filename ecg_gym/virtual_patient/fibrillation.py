"""Electrical activity without beats: fibrillating or fluttering atria, ventricular fibrillation, torsade de pointes.

Three orthogonal dipoles in the middle of the chamber, each with a phase of its own and a few harmonics. Where cycles
are given, one begins at each of them and there are no waves before the first and behind the last; otherwise the
frequency is the row's and wanders.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ecg_gym.compiled import compiled
from ecg_gym.core import independent_from_leads
from ecg_gym.virtual_patient.anatomy import atria, heart_table, ventricles
from ecg_gym.virtual_patient.beat_spectra import TERRITORIES, atrial_rows, ventricular_rows
from ecg_gym.virtual_patient.draws import between, normal, stream
from ecg_gym.virtual_patient.heart import poses
from ecg_gym.virtual_patient.lead_field import leads_from_electrodes
from ecg_gym.virtual_patient.rhythm_arrays import WAVES

if TYPE_CHECKING:
    from ecg_gym.virtual_patient.strip_plan import StripPlan

_PURPOSE = 6  # of a row's streams of random numbers
_STEP_S = 0.08  # a wandering frequency is drawn this often
_FADE_S = 0.15  # waves that begin or end within a strip do so within this time
_COLUMNS = ("hz_low", "hz_high", "wander", "coherent", "skew_rad", "swell", "swell_low", "swell_high", "twist")


def add_waves(plan: StripPlan, rate_hz: float, strip: np.ndarray) -> None:
    """Adds the waves of the rows that have some to ``strip (B, T, 8)`` [mV]."""
    rows = np.flatnonzero(plan.trains.waves)
    if not len(rows):
        return
    trains, hearts = plan.trains, plan.hearts
    gains = np.stack([
        _waves(WAVES[trains.waves[i]], int(hearts.pose[i]) % len(poses()), TERRITORIES[hearts.scar[i]]) for i in rows
    ])  # fmt: skip
    figures, lags, harmonics = _figures()
    _add(rows, plan.keys, trains.waves, gains, figures, lags, harmonics, trains.cycles_s, trains.cycles, plan.start_s,
         rate_hz, strip)  # fmt: skip


@cache
def _figures() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By the code of WAVES: numbers in the order of _COLUMNS, lags of the dipoles ``(3,)`` and harmonics ``(3,)``."""
    figures, lags = np.zeros((len(WAVES), len(_COLUMNS))), np.zeros((len(WAVES), 3))
    harmonics = np.zeros((len(WAVES), 3))
    for code, name in enumerate(WAVES):
        if name:
            row = heart_table()["waves"][name]
            figures[code] = [
                *row.get("hz", (0.0, 0.0)), row["wander"], row["coherent"], row["skew_rad"], row["swell"],
                *row["swell_hz"], row.get("twist", 0.0),
            ]  # fmt: skip
            lags[code] = row["lag_rad"]
            harmonics[code, : len(row["harmonics"])] = row["harmonics"]
    return figures, lags, harmonics


@lru_cache(maxsize=512)
def _waves(kind: str, pose: int, scar: str) -> np.ndarray:
    """``(8, 3)`` float32 [mV]: what the independent leads see of the three dipoles at their full size."""
    row = heart_table()["waves"][kind]
    if row["chamber"] == "ventricles":
        rows, position = ventricular_rows(pose, scar), ventricles().position
    else:
        rows, position = atrial_rows(pose), atria().position
    leads = leads_from_electrodes(rows @ (position - position.mean(axis=0)))
    scale = row["amplitude_mv"] / np.linalg.norm(leads, axis=1).max()
    return (independent_from_leads(leads) * scale).astype(np.float32)


@compiled
def _add(
    rows: np.ndarray, keys: np.ndarray, waves: np.ndarray, gains: np.ndarray, figures: np.ndarray, lags: np.ndarray,
    harmonics: np.ndarray, cycles_s: np.ndarray, cycles: np.ndarray, start_s: np.ndarray, rate: float,
    strip: np.ndarray,
) -> None:  # fmt: skip
    samples = strip.shape[1]
    phase, wave = np.empty((3, samples)), np.empty((3, samples), np.float32)
    for i in range(len(rows)):
        b, row = rows[i], figures[waves[rows[i]]]
        s = stream(keys[b], _PURPOSE)
        for c in range(3):
            if cycles[b] > 0:
                _step_phase(cycles_s[b, : cycles[b]], start_s[b], rate, phase[c])
            else:
                _wander(s, row[0], row[1], row[2], start_s[b], rate, phase[c])
        hz, turned = between(s, row[0], row[1]), 0.0
        for c in range(3):
            source = 0 if row[3] else c
            late = lags[waves[b], c] if row[3] else 0.0
            added = 0.0 if cycles[b] > 0 else 2 * math.pi * hz / rate
            _harmonics(phase[source], late + row[4], added, harmonics[waves[b]], wave[c])
        swell_hz, swell_at = np.empty(3), np.empty(3)
        for c in range(3):
            swell_hz[c], swell_at[c] = between(s, row[6], row[7]), between(s, 0, 2 * math.pi)
        for c in range(3):
            if row[8] > 0:  # the axis turns, so that the points twist about the baseline in every lead
                turned = 0.0 if c == 1 else math.pi / 2 if c == 0 else math.pi / 2 + row[8]
                _swell(wave[c], 0.0, 1.0, 2 * math.pi * swell_hz[0] / rate, swell_at[0] + turned)
            else:
                _swell(wave[c], 1.0, row[5], 2 * math.pi * swell_hz[c] / rate, swell_at[c])
        if cycles[b] > 0:
            _fade(wave, cycles_s[b, 0] - start_s[b], cycles_s[b, cycles[b] - 1] - start_s[b], rate)
        target = strip[b]
        for j in range(samples):
            for lead in range(target.shape[1]):
                target[j, lead] += (
                    gains[i, lead, 0] * wave[0, j] + gains[i, lead, 1] * wave[1, j] + gains[i, lead, 2] * wave[2, j]
                )


@compiled
def _wander(
    s: np.ndarray, low: float, high: float, wander: float, start_s: float, rate: float, phase: np.ndarray
) -> None:
    """A phase [rad] whose frequency walks at random about none; the walk began with the train."""
    at, hz = between(s, 0, 2 * math.pi), wander * math.sqrt(start_s) * normal(s)
    step = max(1, int(np.rint(_STEP_S * rate)))
    for j in range(len(phase)):
        if j % step == 0:
            hz += wander * math.sqrt(step / rate) * normal(s)
        phase[j] = at
        at += 2 * math.pi * hz / rate


@compiled
def _step_phase(cycles_s: np.ndarray, start_s: float, rate: float, phase: np.ndarray) -> None:
    """A phase [rad] that passes whole turns when cycles begin."""
    n, i = len(cycles_s), 0
    for j in range(len(phase)):
        at = start_s + j / rate
        while i < n - 2 and at >= cycles_s[i + 1]:
            i += 1
        if n < 2:
            phase[j] = 0.0
        else:
            part = (at - cycles_s[i]) / (cycles_s[i + 1] - cycles_s[i])
            phase[j] = 2 * math.pi * (i + min(max(part, 0.0), 1.0))


@compiled
def _harmonics(phase: np.ndarray, late: float, per_sample: float, heights: np.ndarray, out: np.ndarray) -> None:
    """Sum over k of ``heights[k - 1] sin(k (phase + late + n per_sample))``: a sine and a cosine, then by angles."""
    for j in range(len(phase)):
        angle = phase[j] + late + per_sample * j
        s, c = math.sin(angle), math.cos(angle)
        out[j] = heights[0] * s + heights[1] * 2 * s * c + heights[2] * s * (3 - 4 * s * s)


@compiled
def _swell(wave: np.ndarray, plain: float, size: float, step: float, start: float) -> None:
    """Times ``plain + size sin(start + n step)``."""
    turn, here = complex(math.cos(step), math.sin(step)), complex(math.cos(start), math.sin(start))
    for j in range(len(wave)):
        wave[j] *= np.float32(plain + size * here.imag)
        here *= turn


@compiled
def _fade(wave: np.ndarray, first_s: float, last_s: float, rate: float) -> None:
    for j in range(wave.shape[1]):
        at = j / rate
        gain = min(max((at - first_s) / _FADE_S, 0.0), 1.0) * min(max((last_s - at) / _FADE_S, 0.0), 1.0)
        for c in range(wave.shape[0]):
            wave[c, j] *= np.float32(gain)
