"""Action potentials as events: when each node repolarises, and electrode potentials from histograms of events.

V_i(t) = 100 mV [up(t - T_i) - (1 - p) down(t - RT_i)] - p 100 mV ramp(T_i..RT_i), RT_i = T_i + APD_i. The ECG is linear
in V, so a strip needs only *when* each electrode's share fires: three histograms and two short convolutions, no time
loop over nodes. T waves are not drawn; they emerge, also after a bundle branch block or a PVC.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import convolve1d
from scipy.signal import fftconvolve
from scipy.sparse import csr_matrix

from ecg_gym.virtual_patient.anatomy import heart_table, ventricles


@dataclass(frozen=True)
class Beat:
    """One ventricular beat as events."""

    start_s: float  # earliest activation [s]
    activation_ms: np.ndarray  # (N,) after the start
    duration_ms: np.ndarray  # (N,) action potential durations
    plateau: np.ndarray | None = None  # (N,) factor on the plateau, below 1 where tissue is injured


def apd_pattern(activation_ms: np.ndarray) -> np.ndarray:
    """``(N,)`` [ms], zero mean: where action potentials are longer or shorter than on average.

    A linear field of place and of activation time: what fires first stays up longest, which makes T upright.
    """
    tissue, table = ventricles(), heart_table()["apd_field_ms"]
    late = (activation_ms - activation_ms.mean()) / 20.0
    side = np.where(tissue.right, -1.0, 1.0)
    sine, cosine = np.sin(tissue.phi), np.cos(tissue.phi)
    basis = np.stack([tissue.z - 0.5, 0.5 - tissue.layer, side, sine, cosine, -late, tissue.z**2])
    pattern = np.asarray(table["coef"]) @ basis
    return pattern - pattern.mean()


def rate_factor(rr_s: np.ndarray, memory_s: np.ndarray) -> np.ndarray:
    """Factor on the mean APD: (0.35 RR_previous + 0.65 RR_remembered)^0.45 [s]; 1 at 60/min.

    With the exponent 0.45 QT follows RR^0.33 (Fridericia) and J-Tpeak RR^0.57, as in the ECGRDVQ table (RR^0.58).
    """
    law = heart_table()["rate_law"]
    return (law["previous"] * rr_s + (1 - law["previous"]) * memory_s) ** law["exponent"]


def electrode_strip(
    rows: np.ndarray,
    beats: list[Beat],
    rate_hz: float,
    samples: int,
    start_s: float,
    phase3_ms: float,
    upstroke_ms: float | None = None,
) -> np.ndarray:
    """Electrode potentials ``(E, samples)`` [mV] from ``start_s`` on, given electrode ``rows (E, N)``.

    ``phase3_ms`` is the time scale of the final repolarisation: longer makes T wider. ``upstroke_ms`` that of the
    upstroke; the default is that of the ventricles.
    """
    table = heart_table()["action_potential"]
    ramp = table["plateau_fall"]
    step_ms = 1000.0 / rate_hz
    fire = np.concatenate([b.activation_ms + 1000 * (b.start_s - start_s) for b in beats]) / step_ms
    last = np.concatenate([b.duration_ms for b in beats]) / step_ms
    height = np.concatenate([np.ones(rows.shape[1]) if b.plateau is None else b.plateau for b in beats])
    injured = any(b.plateau is not None for b in beats)
    share = np.tile(rows, len(beats)).T  # (M, E)
    at_fire, at_last = _shared_between_samples(fire, samples), _shared_between_samples(fire + last, samples)
    depolarise = at_fire @ share
    if injured:  # injured cells drop to their lower plateau early
        depolarise -= _shared_between_samples(fire + 8.0 / step_ms, samples) @ (share * (1 - height)[:, None])
    slope = share * (ramp * height / last)[:, None]
    fall = (1 - ramp) * (at_last @ (share * height[:, None]))
    fall += np.cumsum(at_fire @ slope - at_last @ slope, axis=0)
    velocity = _smear(depolarise, (upstroke_ms or table["upstroke_ms"]) / step_ms) - _smear(fall, phase3_ms / step_ms)
    return np.cumsum(velocity, axis=0).T


def _shared_between_samples(at: np.ndarray, samples: int) -> csr_matrix:
    """``(samples, M)``: column m puts the event at fractional sample ``at[m]`` on the two samples around it.

    What happens before the first sample counts as having happened at it; what happens behind the last is left out.
    """
    at = np.clip(at, 0, None)
    low = np.floor(at).astype(np.int64)
    part = at - low
    column = np.arange(len(at))
    inside = low < samples - 1
    row = np.concatenate([low[inside], low[inside] + 1])
    value = np.concatenate([1 - part[inside], part[inside]])
    return csr_matrix((value, (row, np.tile(column[inside], 2))), shape=(samples, len(at)))


def _smear(events: np.ndarray, scale: float) -> np.ndarray:
    """Events ``(T, E)`` convolved with the derivative of a logistic step of time constant ``scale`` [samples]."""
    reach = int(np.ceil(9 * scale)) + 1
    kernel = 1 / np.cosh(np.arange(-reach, reach + 1) / (2 * scale)) ** 2
    kernel /= kernel.sum()
    if reach < 16:
        return convolve1d(events, kernel, axis=0, mode="constant")
    return fftconvolve(events, kernel[:, None], mode="same", axes=0)
