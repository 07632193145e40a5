"""Zero-phase filtering and band-limited resampling: one multiplication of the spectrum, so that no fiducial moves.

A strip is not periodic, so it is first continued at both ends by point reflection (``2 x[0] - x[k]``, about the mean of
the last 20 ms), which keeps level and slope continuous; the continuation is cut off again afterwards.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from scipy import fft

RATES_HZ = (20.0, 50_000.0)  # beyond these a rate is a slip: a strip of seconds would be nothing, or gigabytes
REFLECT_S = 1.25  # length of the continuation at either end [s]; two periods of the lowest band edge do not matter more


def resample(signal: np.ndarray, rate_hz: float, target_hz: float) -> np.ndarray:
    """The same strip on another grid: ``(..., T)`` at ``rate_hz`` -> ``(..., floor(T target/rate))`` at ``target_hz``.

    Band-limited (everything above either Nyquist frequency is gone, with a raised-cosine shoulder over the last tenth
    when the rate goes down), first samples coincide in time.
    """
    high = None if target_hz >= rate_hz else (0.45 * target_hz, 0.5 * target_hz)
    return spectral(signal, rate_hz, target_hz, high=high)


def remove_baseline(signal: np.ndarray, rate_hz: float, low: tuple[float, float] = (0.2, 0.6)) -> np.ndarray:
    """The strip without baseline wander [mV]: gain 0 below ``low[0]``, 1 above ``low[1]`` [Hz], raised cosine between.

    0.6 Hz is below the fundamental of a heart at 40/min, so ST segment and T end keep their place (AHA asks for a
    linear-phase low cut-off at or below 0.67 Hz; Kligfield 2007 doi:10.1161/CIRCULATIONAHA.106.180200).
    """
    return spectral(signal, rate_hz, rate_hz, low=low)


def bandpass(signal: np.ndarray, rate_hz: float, low: tuple[float, float], high: tuple[float, float]) -> np.ndarray:
    """The strip between two raised-cosine shoulders [Hz]: gain 0 up to low[0], 1 in low[1]..high[0], 0 from high[1]."""
    return spectral(signal, rate_hz, rate_hz, low=low, high=high)


def spectral(
    signal: np.ndarray,
    rate_hz: float,
    target_hz: float,
    low: tuple[float, float] | None = None,
    high: tuple[float, float] | None = None,
) -> np.ndarray:
    """Filter and resample in one pass: ``(..., T)`` -> ``(..., floor(T target/rate))``; the three above say how."""
    if not RATES_HZ[0] <= rate_hz <= RATES_HZ[1] or signal.shape[-1] < 2:
        raise ValueError(
            f"the strip has {signal.shape[-1]} samples at {rate_hz:g} Hz; expected at least 2 at {RATES_HZ[0]:g} to "
            f"{RATES_HZ[1]:g} Hz; check that rate_hz is in Hz"
        )
    extended, start = continued(signal, rate_hz, target_hz)
    n_in = extended.shape[-1]
    n_out = round(n_in * target_hz / rate_hz)
    spectrum = fft.rfft(extended, axis=-1)
    hz = np.arange(min(spectrum.shape[-1], n_out // 2 + 1)) * (rate_hz / n_in)
    gain = shoulder(hz, low) * (1 - shoulder(hz, high) if high else 1.0)
    spectrum = spectrum[..., : len(hz)] * gain.astype(extended.dtype)
    resampled = fft.irfft(spectrum, n=n_out, axis=-1) * (n_out / n_in)
    first = round(start * target_hz / rate_hz)
    length = int(signal.shape[-1] * target_hz / rate_hz + 1e-6)
    return resampled[..., first : first + length].astype(signal.dtype, copy=False)


def shoulder(hz: np.ndarray, edges: tuple[float, float] | None) -> np.ndarray:
    """Raised cosine from 0 at ``edges[0]`` to 1 at ``edges[1]``; all ones without edges."""
    if edges is None:
        return np.ones_like(hz)
    return 0.5 - 0.5 * np.cos(np.pi * np.clip((hz - edges[0]) / (edges[1] - edges[0]), 0, 1))


def continued(signal: np.ndarray, rate_hz: float, target_hz: float) -> tuple[np.ndarray, int]:
    """The strip continued by point reflection, and where it begins in there.

    Both the continuation in front and the whole length are multiples of the smallest step that the two grids share,
    so that the resampled grid is exact: 128 samples at 102.4 Hz are 625 at 500 Hz.
    """
    t = signal.shape[-1]
    step = Fraction(rate_hz / target_hz).limit_denominator(2000).numerator
    front = max(step, round(REFLECT_S * rate_hz / step) * step)
    total = -(-(t + 2 * front) // step) * step
    # an even multiple of a small step lets the FFT find small factors
    while step < 64 and fft.next_fast_len(total, real=True) != total:
        total += step
    back = total - t - front
    reach = t - 1
    # the level to reflect about is not left to a single sample: recorders like to end on a glitch (and a median
    # would not be linear: Einthoven must survive)
    edge = max(1, min(t, round(0.02 * rate_hz)))
    first, last = (end.mean(axis=-1, keepdims=True) for end in (signal[..., :edge], signal[..., -edge:]))
    before = 2 * first - signal[..., np.minimum(np.arange(front, 0, -1), reach)]
    after = 2 * last - signal[..., reach - np.minimum(np.arange(1, back + 1), reach)]
    return np.concatenate([before, signal, after], axis=-1), front
