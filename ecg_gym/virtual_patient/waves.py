"""Electrical activity without beats: fibrillating or fluttering atria, ventricular fibrillation, torsade de pointes."""

from __future__ import annotations

import numpy as np

from ecg_gym.virtual_patient.anatomy import heart_table
from ecg_gym.virtual_patient.lead_field import leads_from_electrodes

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
    if len(cycles_s):
        phase = np.tile(2 * np.pi * np.interp(time, cycles_s, np.arange(len(cycles_s))), (3, 1))
        fade = np.clip((time - cycles_s[0]) / _FADE_S, 0, 1) * np.clip((cycles_s[-1] - time) / _FADE_S, 0, 1)
    else:
        wander = np.cumsum(rng.standard_normal((3, samples)), axis=1) * (row["wander"] / np.sqrt(rate_hz))
        phase = 2 * np.pi * (rng.uniform(*row["hz"]) * time + np.cumsum(wander, axis=1) / rate_hz)
        phase += rng.uniform(0, 2 * np.pi, (3, 1))
        fade = np.ones(samples)
    if row["coherent"]:
        phase = phase[:1] + np.array(row["lag_rad"])[:, None]
    wave = np.zeros((3, samples))
    for k, height in enumerate(row["harmonics"], 1):
        wave += height * np.sin(k * phase + row["skew_rad"] * k)
    slowest, fastest = row["swell_hz"]
    slow = 2 * np.pi * rng.uniform(slowest, fastest, (3, 1)) * time + rng.uniform(0, 2 * np.pi, (3, 1))
    if row.get("twist"):  # the axis turns, so that the points twist about the baseline in every lead
        turn = slow[0]
        wave *= np.stack([np.cos(turn), np.sin(turn), np.cos(turn + row["twist"])])
    else:
        wave *= 1 + row["swell"] * np.sin(slow)
    return seen @ (wave * fade)
