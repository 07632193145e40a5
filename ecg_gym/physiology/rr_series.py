"""RR series: when the hearts of a strip beat, drawn for an imagined strip or read off a recorded one.

Every series begins with the interval behind the R peak at ``R_PEAK_OFFSET_S``: the R peaks lie at ``R_PEAK_OFFSET_S +
[0, cumsum(beats)]``, and the last interval reaches beyond the end of the strip.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import lfilter

from ecg_gym.core import ECG, MODEL_RATE_HZ, MODEL_SAMPLES, R_PEAK_OFFSET_S, Randomness, row_generators
from ecg_gym.physiology import parameters

STRIP_S = MODEL_SAMPLES / MODEL_RATE_HZ
SPAN_S = STRIP_S - R_PEAK_OFFSET_S  # what is left of the strip behind its first R peak


def draw_beats(
    rng: Randomness,
    hr_bpm: np.ndarray,  # (B,) [1/min] mean rate over the strip
    rr_sd_ms: np.ndarray | float | None = None,  # (B,) [ms] SD over the strip; what is usual at this rate if not given
    regular: np.ndarray | None = None,  # (B,) bool; False is as irregular as fibrillating atria make it
) -> np.ndarray:
    """RR series ``(B, K)`` [s]: breathing and a remainder with a little memory, or gamma-distributed and without any.

    The intervals that end within the strip have exactly the mean ``60 / hr_bpm`` and the standard deviation
    ``rr_sd_ms`` (``usual_sd_ms`` where it is NaN); a single interval has the mean only. Rows draw from their own
    generator, equally often whatever is asked. Raises ValueError for a rate that is not a positive number.
    """
    hr = np.atleast_1d(np.asarray(hr_bpm, dtype=float))
    if not (np.isfinite(hr).all() and (hr > 0).all()):
        raise ValueError(f"hr_bpm is {hr}; expected positive rates in beats per minute; draw rows with beats only")
    mean = 60 / hr
    steady = np.ones(len(hr), dtype=bool) if regular is None else np.asarray(regular, dtype=bool)
    sd = np.full(len(hr), np.nan) if rr_sd_ms is None else np.broadcast_to(np.asarray(rr_sd_ms, float), hr.shape)
    fibrillating = 1e3 * mean / np.sqrt(parameters.value("beats", "gamma_shape"))
    sd = 1e-3 * np.where(np.isfinite(sd), sd, np.where(steady, usual_sd_ms(hr), fibrillating))
    largest = [parameters.value("beats", name) for name in ("largest_irregular_sd", "largest_sd")]
    sd = np.clip(sd, 0, np.where(steady, largest[1], largest[0]) * mean)
    shape = _shapes(row_generators(rng, len(hr)), mean, steady)
    within = np.maximum((SPAN_S / mean).astype(int), 1)  # so many intervals of this mean end within the strip
    inside = np.arange(shape.shape[1]) < within[:, None]
    shape = shape - _mean(shape, inside)[:, None]
    spread = np.sqrt(_mean(shape**2, inside))
    shape *= np.where(within > 1, 1 / np.where(spread > 0, spread, 1), 0)[:, None]
    beats = mean[:, None] + sd[:, None] * shape
    beats = np.maximum(beats, parameters.value("beats", "shortest_rr"))
    # the next one must not end within the strip, or it would count
    rest = SPAN_S - (beats * inside).sum(axis=1)
    rows = np.arange(len(hr))
    beats[rows, within] = np.maximum(beats[rows, within], rest + 1 / MODEL_RATE_HZ)
    return beats


def usual_sd_ms(
    hr_bpm: np.ndarray, reference_sd_ms: np.ndarray | float = np.nan, reference_hr_bpm: float = 60.0
) -> np.ndarray:
    """SD of RR ``(B,)`` [ms] to expect at a rate: the one seen at ``reference_hr_bpm``, smaller in faster hearts."""
    sd_ms = np.asarray(reference_sd_ms, dtype=float)
    unseen = ~np.isfinite(sd_ms)
    sd_ms = np.where(unseen, parameters.value("beats", "sd"), sd_ms)
    at = np.where(unseen, 60.0, reference_hr_bpm)
    return sd_ms * (at / np.asarray(hr_bpm, dtype=float)) ** parameters.value("beats", "sd_rr_exponent")


def beats_of(peaks: Sequence[np.ndarray], rate_hz: float = MODEL_RATE_HZ) -> np.ndarray:
    """RR series ``(B, K)`` [s] of recorded strips from their R peaks [samples, fractions allowed].

    Peaks before the one at ``R_PEAK_OFFSET_S`` are left out; the series is continued with its last interval to the end
    of the strip and beyond. A row with fewer than two peaks from there on is all NaN.
    """
    series = [_series(np.sort(np.asarray(row, dtype=float)) / rate_hz) for row in peaks]
    longest = max((len(row) for row in series), default=1)
    return np.stack([np.concatenate([row, np.full(longest - len(row), row[-1])]) for row in series])


def recorded_beats(ecg: np.ndarray) -> np.ndarray:
    """RR series ``(B, K)`` [s] of strips ``(B, 12 or 8, 1024)`` [mV] on the model grid, R peaks to parts of 2 ms."""
    return beats_of(_peaks_of(ecg), 1.0)


def recorded_rhythm(ecg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RR series ``(B, K)`` [s] from the very first R peak of each strip on, and when that comes, ``(B,)`` [s].

    In fast rhythms a beat comes before the one at R_PEAK_OFFSET_S, and a grid puts that one there only to half a sample
    of the record it was cut from, 5 ms at 100 Hz. For ``anchor_traces(..., beats_s, first_s=...)``.
    """
    peaks_s = _peaks_of(ecg)
    first_s = [row[0] if len(row) else R_PEAK_OFFSET_S for row in peaks_s]
    return beats_of([row + R_PEAK_OFFSET_S - first for row, first in zip(peaks_s, first_s)], 1.0), np.array(first_s)


def _peaks_of(ecg: np.ndarray) -> list[np.ndarray]:
    """R peaks of each strip ``(B, 12 or 8, 1024)`` [s]."""
    from ecg_gym.core import as_twelve_leads
    from ecg_gym.waveform.beats import RATE_HZ, conditioned_beats

    leads, peaks = conditioned_beats(ECG(as_twelve_leads(ecg), MODEL_RATE_HZ))
    return [refined(row, own) / RATE_HZ for row, own in zip(leads, peaks)]


def first_of(peaks_s: Sequence[np.ndarray]) -> np.ndarray:
    """When the R peak comes ``(B,)`` [s] at which each series begins, out of each row's peaks [s]."""
    own = [_from_the_first(np.asarray(row, dtype=float)) for row in peaks_s]
    return np.array([row[0] if len(row) else R_PEAK_OFFSET_S for row in own])


def _from_the_first(peaks_s: np.ndarray) -> np.ndarray:
    """The peaks from the one near R_PEAK_OFFSET_S on; one that was missed there is put in."""
    within = parameters.value("beats", "first_within")
    own = peaks_s[peaks_s > R_PEAK_OFFSET_S - within]
    missed = len(own) > 0 and own[0] > R_PEAK_OFFSET_S + within
    return np.concatenate([[R_PEAK_OFFSET_S], own]) if missed else own


def refined(leads: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """Peaks ``(N,)`` of the vector magnitude of ``leads (8, T)``, to fractions of a sample by a parabola."""
    inner = np.clip(peaks, 1, leads.shape[-1] - 2)
    before, at, after = (np.linalg.norm(leads[:, inner + k], axis=0) for k in (-1, 0, 1))
    bend = before - 2 * at + after
    shift = np.where(bend < 0, 0.5 * (before - after) / np.where(bend < 0, bend, 1), 0)
    return peaks + np.clip(shift, -0.5, 0.5)


def _series(peaks_s: np.ndarray) -> np.ndarray:
    """Intervals ``(K,)`` [s] from the R peak at R_PEAK_OFFSET_S on, to beyond the end of the strip."""
    own = _from_the_first(peaks_s)
    if len(own) < 2:
        return np.array([np.nan])
    beats = np.diff(own)
    left = STRIP_S + beats[-1] - own[-1]
    return np.concatenate([beats, np.full(max(1, int(np.ceil(left / beats[-1]))), beats[-1])])


def _shapes(generators: Sequence[np.random.Generator], mean_s: np.ndarray, steady: np.ndarray) -> np.ndarray:
    """Series ``(B, K)`` of variance one: a sinusoid of breathing and a first-order autoregression, or gamma noise."""
    gamma = parameters.value("beats", "gamma_shape")
    share, memory = parameters.value("beats", "respiratory_share"), parameters.value("beats", "memory")
    band = parameters.row("beats", "breathing")
    count = int(np.ceil(STRIP_S / min(mean_s.min(), 1.0))) + 3
    steps = np.arange(count)
    out = np.empty((len(mean_s), count))
    for row, (rng, rr) in enumerate(zip(generators, mean_s)):
        hz, phase = rng.uniform(band["lower"], band["upper"]), rng.uniform(0, 2 * np.pi)
        own = np.random.default_rng(rng.integers(2**63))  # as many draws as there are beats, whatever others ask
        if not steady[row]:
            out[row] = (own.gamma(gamma, size=count) - gamma) / np.sqrt(gamma)
            continue
        noise = own.standard_normal(count)
        noise[1:] *= np.sqrt(1 - memory**2)
        rest = lfilter([1.0], [1.0, -memory], noise)
        breathing = np.sqrt(2) * np.sin(2 * np.pi * hz * rr * steps + phase)
        out[row] = np.sqrt(share) * breathing + np.sqrt(1 - share) * rest
    return out


def _mean(x: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The mean ``(B,)`` over the marked columns."""
    return (x * inside).sum(axis=1) / inside.sum(axis=1)
