"""Electrical activity without beats: fibrillating or fluttering atria, ventricular fibrillation, torsade de pointes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ecg_gym.virtual_patient.anatomy import heart_table
from ecg_gym.virtual_patient.lead_field import leads_from_electrodes

_STRIDE = 128  # samples
_FADE_S = 0.15  # waves that begin or end within a strip do so within this time


def continuous_waves(
    kind: str,
    rows: np.ndarray,
    position_mm: np.ndarray,
    rng: np.random.Generator,
    rate_hz: float,
    samples: int,
    cycles_s: np.ndarray,
) -> np.ndarray:
    """Electrode potentials ``(9, samples)`` [mV] of three orthogonal dipoles in the chamber's middle.

    ``rows (9, N)`` is what the electrodes see of the chamber's nodes at ``position_mm (N, 3)``. ``kind`` is a row of
    ``waves`` in ``default_heart.json``. Where ``cycles_s`` is given, a cycle begins at each of them and there are no
    waves before the first and behind the last; otherwise the frequency is the row's and wanders.
    """
    row = heart_table()["waves"][kind]
    seen = rows @ (position_mm - position_mm.mean(axis=0))  # (9, 3)
    seen *= row["amplitude_mv"] / np.linalg.norm(leads_from_electrodes(seen), axis=1).max()
    time = np.arange(samples) / rate_hz
    fade = None
    if len(cycles_s):
        phase = np.tile(2 * np.pi * np.interp(time, cycles_s, np.arange(len(cycles_s))), (3, 1))
        fade = np.clip((time - cycles_s[0]) / _FADE_S, 0, 1) * np.clip((cycles_s[-1] - time) / _FADE_S, 0, 1)
    else:
        wander = np.cumsum(rng.standard_normal((3, samples)), axis=1) * (row["wander"] / np.sqrt(rate_hz))
        phase = 2 * np.pi * (rng.uniform(*row["hz"]) * time + np.cumsum(wander, axis=1) / rate_hz)
        phase += rng.uniform(0, 2 * np.pi, (3, 1))
    if row["coherent"]:
        phase = phase[:1] + np.array(row["lag_rad"])[:, None]
    wave = _harmonics(phase + row["skew_rad"], row["harmonics"])
    slowest, fastest = row["swell_hz"]
    hz, start = rng.uniform(slowest, fastest, (3, 1))[:, 0], rng.uniform(0, 2 * np.pi, (3, 1))[:, 0]
    step = 2 * np.pi * hz / rate_hz
    if row.get("twist"):  # the axis turns, so that the points twist about the baseline in every lead
        turn = np.pi / 2
        shift = np.array([turn, 0.0, turn + row["twist"]])  # cosine, sine, and a later cosine of one turning angle
        wave *= _sines(np.full(3, step[0]), start[0] + shift, samples)
    else:
        wave *= 1 + row["swell"] * _sines(step, start, samples)
    return seen @ (wave if fade is None else wave * fade)


def _harmonics(phase: np.ndarray, heights: Sequence[float]) -> np.ndarray:
    """Sum over k from 1 on of ``heights[k - 1] sin(k phase)``, shaped as ``phase``: a sine, a cosine, then powers."""
    turn = np.empty(phase.shape, complex)
    turn.real, turn.imag = np.cos(phase), np.sin(phase)
    wave, power = heights[0] * turn.imag, turn
    for height in heights[1:]:
        power = power * turn
        wave += height * power.imag
    return wave


def _sines(step: np.ndarray, start: np.ndarray, samples: int) -> np.ndarray:
    """``sin(start + step n)`` for n = 0 .. samples - 1, ``(3, samples)``: long strides, and short steps from each."""
    coarse = start[:, None] + step[:, None] * np.arange(0, samples, _STRIDE)
    fine = step[:, None] * np.arange(_STRIDE)
    sines = np.sin(coarse)[:, :, None] * np.cos(fine)[:, None] + np.cos(coarse)[:, :, None] * np.sin(fine)[:, None]
    return sines.reshape(len(step), -1)[:, :samples]
