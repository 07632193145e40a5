"""The form that rivals draw in: the typical beat of a strip and its RR intervals, as most of their sources do.

In our codec's latents, which are nearly white, none of five rivals drew a beat after ten CPU minutes: ten seconds whose
beats stand somewhere else every time are too much for networks of their size. Here R is always in the same place. A
strip is laid out of equal beats; what differs from beat to beat (ectopy, fibrillation waves, noise, wander) is lost.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.signal import resample
from torch import Tensor

from ecg_gym.core import (
    ECG,
    INDEPENDENT_LEADS,
    MODEL_RATE_HZ,
    MODEL_SAMPLES,
    R_PEAK_OFFSET_S,
    independent_from_leads,
    limb_from_independent,
)
from ecg_gym.waveform.beats import RATE_HZ, Beat, median_beat

LEADS = len(INDEPENDENT_LEADS)
COLUMNS = 128
GRID_HZ = 128.0  # of a beat: 1 s
BEFORE_S = 0.36  # of it before R
CHANNELS = LEADS + 2  # the leads, the mean RR and its SD
UNIT_MV = 0.25  # of the leads
RR_S, RR_SPREAD = 0.8, 0.35  # a mean RR of 0.8 s is 0, one half as long or twice as long about 2
SD_S, SD_SPREAD = 0.02, 1.5  # an SD of 20 ms is 0
FASTEST_S, SLOWEST_S = 0.2, 3.0  # [s] of RR
FADE_S = 0.03  # from one beat to the next
FINE = 8  # samples of a beat are made so many times finer before they are placed
AHEAD = 0.4  # of an RR, at most, belongs to the beat that follows


def encode(strips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Beats ``(B, CHANNELS, 128)`` float32 of strips ``(B, 12, 1024)`` [mV], 0 where there is none, and which have one
    ``(B,)`` bool.
    """
    out = np.zeros((len(strips), CHANNELS, COLUMNS), np.float32)
    has_beat = np.zeros(len(strips), bool)
    for i, beat in enumerate(median_beat(ECG(np.asarray(strips, np.float32), MODEL_RATE_HZ))):
        if beat is not None and len(beat.peaks) > 2:
            out[i], has_beat[i] = _row(beat), True
    return out, has_beat


def _row(beat: Beat) -> np.ndarray:
    rr = np.clip(np.diff(beat.peaks) / RATE_HZ, FASTEST_S, SLOWEST_S)
    at = np.arange(COLUMNS) / GRID_HZ - BEFORE_S
    place = beat.r / RATE_HZ + at
    times = np.arange(beat.signal.shape[1]) / RATE_HZ
    row = np.empty((CHANNELS, COLUMNS), np.float32)
    for lead in range(LEADS):  # leads hold nothing above 60 Hz
        row[lead] = np.interp(place, times, beat.signal[lead], 0.0, 0.0) / UNIT_MV
    row[LEADS] = np.log(rr.mean() / RR_S) / RR_SPREAD
    row[LEADS + 1] = np.log(max(float(rr.std()), 1e-3) / SD_S) / SD_SPREAD
    return row


def decode(beats: np.ndarray) -> np.ndarray:
    """Strips ``(B, 12, 1024)`` float32 [mV] laid out of beats ``(B, CHANNELS, 128)``; their RR vary by one pattern."""
    beats = np.asarray(beats, np.float64)
    mean = RR_S * np.exp(np.clip(RR_SPREAD * beats[:, LEADS].mean(axis=1), -1.5, 1.5))
    spread = SD_S * np.exp(np.clip(SD_SPREAD * beats[:, LEADS + 1].mean(axis=1), -4, 3))
    fine = resample(beats[:, :LEADS] * UNIT_MV, FINE * COLUMNS, axis=2)
    jitter = np.random.default_rng(0).standard_normal(64)
    strips = np.stack([_laid(row, m, s, jitter) for row, m, s in zip(fine, mean, spread)])
    return limb_from_independent(strips).astype(np.float32)


def _laid(fine: np.ndarray, mean_s: float, spread_s: float, jitter: np.ndarray) -> np.ndarray:
    """One strip ``(8, 1024)`` [mV]."""
    rr = np.clip(mean_s + min(spread_s, 0.4 * mean_s) * jitter, FASTEST_S, SLOWEST_S)
    peaks = R_PEAK_OFFSET_S + np.concatenate([[-rr[0]], [0.0], np.cumsum(rr[1:])])
    time = np.arange(MODEL_SAMPLES) / MODEL_RATE_HZ
    strip = np.zeros((LEADS, MODEL_SAMPLES))
    grid = np.arange(fine.shape[1]) / (GRID_HZ * FINE) - BEFORE_S
    for k in range(len(peaks) - 1):
        ahead, behind = (min(BEFORE_S, AHEAD * (peaks[i + 1] - peaks[i]) if i >= 0 else BEFORE_S) for i in (k - 1, k))
        since = time - peaks[k]
        end = min(1 - BEFORE_S, peaks[k + 1] - peaks[k] - behind)
        rows = np.flatnonzero((since > -ahead - FADE_S) & (since < end + FADE_S))
        if not len(rows):
            continue
        into = np.clip((since[rows] + ahead + FADE_S / 2) / FADE_S, 0, 1)
        out = np.clip((end + FADE_S / 2 - since[rows]) / FADE_S, 0, 1)
        for lead in range(LEADS):
            strip[lead, rows] += into * out * np.interp(since[rows], grid, fine[lead])
    return strip


class Beats:
    """``encode`` and ``decode`` in the form of a codec."""

    latent_shape = (CHANNELS, COLUMNS)

    def encode(self, signal: Tensor, mask: Tensor | None = None, rng: torch.Generator | None = None) -> Tensor:
        """``(B, CHANNELS, 128)`` of strips ``(B, 12 or 8, 1024)`` [mV]; leads outside of ``mask (B, 8)`` count as 0."""
        strips = signal.numpy()
        leads = independent_from_leads(strips) if strips.shape[1] == 12 else strips
        if mask is not None:
            leads = leads * mask.numpy()[:, :, None]
        return torch.from_numpy(encode(limb_from_independent(leads))[0])

    def decode(self, latent: Tensor) -> Tensor:
        """Strips ``(B, 12, 1024)`` [mV]; Einthoven's law holds."""
        return torch.from_numpy(decode(latent.numpy()))
