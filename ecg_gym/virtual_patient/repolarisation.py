"""Action potentials as events: when each node repolarises, and electrode potentials from histograms of events.

V_i(t) = 100 mV [up(t - T_i) - (1 - p) down(t - RT_i)] - p 100 mV ramp(T_i..RT_i), RT_i = T_i + APD_i. The ECG is linear
in V, so a strip needs only *when* each electrode's share fires: three histograms and two short convolutions, no time
loop over nodes. T waves are not drawn; they emerge, also after a bundle branch block or a PVC.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve

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
    share = np.tile(rows, len(beats))
    depolarise = _histogram(fire, share, samples)
    fall = _histogram(fire + last, share * height, samples)
    notch = _histogram(fire + 8.0 / step_ms, share * (1 - height), samples)  # injured cells drop to their plateau early
    slope = share * (ramp * height / last)
    plateau = np.cumsum(_histogram(fire, slope, samples) - _histogram(fire + last, slope, samples), axis=1)
    velocity = (
        _smear(depolarise - notch, (upstroke_ms or table["upstroke_ms"]) / step_ms)
        - (1 - ramp) * _smear(fall, phase3_ms / step_ms)
        - _smear(plateau, phase3_ms / step_ms)
    )
    return np.cumsum(velocity, axis=1)


def _histogram(at: np.ndarray, weights: np.ndarray, samples: int) -> np.ndarray:
    """``(E, samples)``: weights ``(E, M)`` put at the fractional samples ``at (M,)``, shared between neighbours.

    What happens before the first sample counts as having happened at it, so that potentials start where they should.
    """
    at = np.clip(at, 0, None)
    low = np.floor(at).astype(int)
    inside = low < samples - 1
    low, part, weights = low[inside], (at - np.floor(at))[inside], weights[:, inside]
    both, shares = np.r_[low, low + 1], (1 - part, part)
    return np.stack(
        [np.bincount(both, np.r_[w * shares[0], w * shares[1]], minlength=samples)[:samples] for w in weights]
    )


def _smear(events: np.ndarray, scale: float) -> np.ndarray:
    """Events convolved with the derivative of a logistic step of time constant ``scale`` [samples]; area is kept."""
    reach = int(np.ceil(9 * scale)) + 1
    x = np.arange(-reach, reach + 1) / scale
    kernel = 1 / np.cosh(x / 2) ** 2
    return fftconvolve(events, (kernel / kernel.sum())[None], mode="same", axes=1)
