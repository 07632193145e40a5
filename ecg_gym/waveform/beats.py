"""Beats: where the R peaks are, and what the typical beat of a strip looks like.

Both use the 8 independent leads together, so that a low-voltage lead, a ventricular extrasystole of another polarity or
a tall T wave in one lead does not decide. Beats are found on the spatial QRS envelope (``r_peaks``); the median beat is
taken over the largest family of beats that look alike (``families``). One spectrum of a strip gives both the leads that
are measured and the band that beats are found in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft

from ecg_gym.core import ECG, independent_from_leads
from ecg_gym.waveform.families import (
    AFTER_S,
    BEFORE,
    BEFORE_S,
    LEAST_AFTER_S,
    LEAST_BEFORE_S,
    WIDTH,
    family_beats,
    middle_beat,
)
from ecg_gym.waveform.filters import continued, shoulder, spectral
from ecg_gym.waveform.intervals import median
from ecg_gym.waveform.r_peaks import RATE_HZ, hann, r_peaks
from ecg_gym.waveform.spikes import without_spikes

__all__ = [
    "AFTER_S", "BEFORE_S", "CHUNK", "LEAST_AFTER_S", "LEAST_BEFORE_S", "MOST_BEATS", "RATE_HZ", "Beat", "conditioned",
    "conditioned_beats", "find_r_peaks", "leads_and_band", "median_beat", "r_peaks_of", "typical_beat",
]  # fmt: skip

WANDER_HZ = (0.2, 0.6)  # baseline wander is taken out below these edges
NOISE_HZ = (25.0, 60.0)  # and mains, muscle and more above these; a gentle slope, or the QRS would ring
LOWEST_HZ = 50.0  # rates at which beats are looked for at all
QRS_HZ = ((5.0, 9.0), (25.0, 35.0))  # the band in which QRS complexes stand out from P and T
CHUNK = 64  # strips filtered at once: beyond this the intermediate arrays fall out of cache
MOST_BEATS = 64  # of one strip that are compared: a long strip does not need every beat


@dataclass(frozen=True)
class Beat:
    """The typical beat of one strip, and the beats it was made of."""

    signal: np.ndarray  # (8, W) [mV] interquartile mean over beats, independent leads, RATE_HZ; R at `r`
    singles: np.ndarray  # (n, 8, W) [mV] the aligned beats it was made of
    r: int  # column of the R peak
    peaks: np.ndarray  # (N,) [samples at RATE_HZ] every R peak of the strip, whatever its kind
    members: np.ndarray  # (N,) bool: which of them went into it

    @property
    def next_rr_ms(self) -> float:
        """Median RR [ms] behind the kept beats: in bigeminy much shorter than the one before them."""
        rr = np.diff(self.peaks)[self.members[:-1]]
        return median(rr if len(rr) else np.diff(self.peaks)) * 1000 / RATE_HZ

    @property
    def previous_rr_ms(self) -> float:
        """Median RR [ms] before the kept beats."""
        rr = np.diff(self.peaks)[self.members[1:]]
        return median(rr if len(rr) else np.diff(self.peaks)) * 1000 / RATE_HZ


def conditioned(ecg: ECG) -> np.ndarray:
    """The 8 independent leads at 500 Hz, 0.4 to 42 Hz (half gain), zero phase, without spikes: ``(B, 8, T)`` [mV]."""
    return leads_and_band(ecg)[0]


def conditioned_beats(ecg: ECG) -> tuple[np.ndarray, list[np.ndarray]]:
    """Conditioned leads ``(B, 8, T)`` [mV] and the R peaks ``(N,)`` [samples at RATE_HZ] of each row."""
    leads, band = leads_and_band(ecg)
    return leads, _peaks_of(leads, band)


def leads_and_band(ecg: ECG) -> tuple[np.ndarray, np.ndarray]:
    """Conditioned leads ``(B, 8, T)`` at 500 Hz and their QRS band ``(B, 8, T/2)`` at 250 Hz, float32 [mV].

    Both out of one spectrum of the strip, continued at its ends as ``filters`` does.
    Raises ValueError below ``LOWEST_HZ``.
    """
    if ecg.rate_hz < LOWEST_HZ:
        raise ValueError(
            f"rate_hz is {ecg.rate_hz:g}; expected at least {LOWEST_HZ:g} Hz, or no QRS is seen; "
            "pass the rate that the strip was sampled at"
        )
    signal = ecg.signal if ecg.signal.ndim == 3 else ecg.signal[None]
    leads = without_spikes(independent_from_leads(signal), ecg.rate_hz)
    extended, start = continued(leads, ecg.rate_hz, RATE_HZ)
    n = extended.shape[-1]
    n_out = round(n * RATE_HZ / ecg.rate_hz)
    first, length = round(start * RATE_HZ / ecg.rate_hz), int(signal.shape[-1] * RATE_HZ / ecg.rate_hz + 1e-6)
    own, qrs = _gains(n, ecg.rate_hz, n_out)
    spectrum = fft.rfft(extended, axis=-1)[..., : len(own)] * own
    whole = fft.irfft(spectrum, n=n_out, axis=-1) * np.float32(n_out / n)
    every = 2 - n_out % 2  # an odd length has no half: then the band is thinned behind the transform
    narrow = fft.irfft(spectrum[..., : len(qrs)] * qrs, n=n_out // every, axis=-1) * np.float32(n_out / every / n)
    begin, by = (first // 2, 1) if every == 2 else (first, 2)  # half a sample matters not: R is looked for around it
    return (
        np.ascontiguousarray(whole[..., first : first + length], np.float32),
        np.ascontiguousarray(narrow[..., begin::by][..., : length // 2], np.float32),
    )


@lru_cache(maxsize=8)
def _gains(n: int, rate_hz: float, n_out: int) -> tuple[np.ndarray, np.ndarray]:
    """Gains of the lines of a spectrum of ``n`` samples: of the leads, and on top of that of the QRS band."""
    lines = min(n // 2, n_out // 2) + 1
    hz = np.arange(lines) * (rate_hz / n)
    own = shoulder(hz, WANDER_HZ) * (1 - shoulder(hz, NOISE_HZ))
    qrs = shoulder(hz, QRS_HZ[0]) * (1 - shoulder(hz, QRS_HZ[1]))
    return own.astype(np.float32), qrs[: n_out // 4 + 1].astype(np.float32)


def find_r_peaks(ecg: ECG) -> list[np.ndarray]:
    """Sample numbers of the R peaks on the strip's own grid, one int array per row (empty where no beat was found)."""
    return [np.round(peaks * (ecg.rate_hz / RATE_HZ)).astype(int) for peaks in conditioned_beats(ecg)[1]]


def median_beat(ecg: ECG) -> list[Beat | None]:
    """The typical beat of each row, or ``None`` where no two beats look alike."""
    return [typical_beat(row, peaks) for row, peaks in zip(*conditioned_beats(ecg))]


def r_peaks_of(leads: np.ndarray) -> list[np.ndarray]:
    """R peaks ``(N,)`` [samples] of conditioned leads ``(B, 8, T)``: the largest vector magnitude within each QRS."""
    band = spectral(leads, RATE_HZ, RATE_HZ / 2, low=QRS_HZ[0], high=QRS_HZ[1])
    return _peaks_of(np.ascontiguousarray(leads, np.float32), np.ascontiguousarray(band, np.float32))


def _peaks_of(leads: np.ndarray, band: np.ndarray) -> list[np.ndarray]:
    room, window = np.empty(band.shape[-1] // 2 + 1, np.int64), hann()
    return [room[: r_peaks(row, narrow, window, room)].copy() for row, narrow in zip(leads, band)]


def typical_beat(leads: np.ndarray, peaks: np.ndarray, most: int = MOST_BEATS) -> Beat | None:
    """The median over the largest family of look-alike beats in ``(8, T)`` [mV], or ``None`` if there is no family."""
    leads, peaks = np.ascontiguousarray(leads, np.float32), np.ascontiguousarray(peaks, np.int64)
    members = np.zeros(len(peaks), bool)
    singles = np.empty((min(len(peaks), most), len(leads), WIDTH), np.float32)
    n = family_beats(leads, peaks, len(peaks), most, members, singles)
    if n == 0:
        return None
    signal = np.empty((len(leads), WIDTH), np.float32)
    middle_beat(singles, n, signal)
    return Beat(signal, singles[:n], BEFORE, peaks, members)
