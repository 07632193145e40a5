"""This patient's five waves: McSharry's 15 parameters fitted to the median beat of one lead by least squares.

Without the slow relaxation the trajectory is a sum of five Gaussians, so the fit needs no integration: a batched
Levenberg-Marquardt with an analytic Jacobian, all beats at once, every parameter within the limits of ``theta.yaml``.
A weak expectation of where waves lie keeps a Q or P that can hardly be seen from wandering into a sloping baseline; P
is upright, as sinus rhythm makes it in lead II.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecg_gym.physiology import mcsharry, parameters
from ecg_gym.physiology.mcsharry import WAVES, P, Q, R, S, T, Waves

N = len(WAVES)
# where a first guess is looked for, wider than any normal interval [s after R]
SEARCH_S = {P: (-0.28, -0.09), Q: (-0.06, -0.012), S: (0.012, 0.07), T: (0.16, 0.50)}
HALF_HEIGHT = 2 * np.sqrt(2 * np.log(2))  # full width of a Gaussian at half its height, in standard deviations


@dataclass(frozen=True)
class Fit:
    """The waves of B beats in time, and how much of each beat they explain."""

    centre_s: np.ndarray  # (B, 5) [s after R]
    width_s: np.ndarray  # (B, 5) [s]
    amplitude_mv: np.ndarray  # (B, 5) [mV]
    offset_mv: np.ndarray  # (B,) [mV] level of the isoelectric line, a sixth and constant wave
    r2: np.ndarray  # (B,) part of the variance explained; NaN where the beat is not finite

    def __len__(self) -> int:
        return len(self.r2)

    def waves(self, rr_s: np.ndarray) -> Waves:
        """Theta ``(B, 5)`` on the circle of a beat that lasts ``rr_s (B,)`` [s]."""
        return mcsharry.from_times(self.centre_s, self.width_s, self.amplitude_mv, rr_s)


def fit(beat_mv: np.ndarray, rate_hz: float, r_index: int, valid: np.ndarray | None = None, steps: int = 25) -> Fit:
    """The five Gaussians nearest to beats ``(B, n)`` [mV] whose R peak is at sample ``r_index``.

    ``valid (B, n)`` marks the samples that belong to the beat, for windows longer than RR. Beats that are not finite
    get the textbook's waves and an R^2 of NaN.
    """
    beat_mv = np.asarray(beat_mv, dtype=float)
    b, n = beat_mv.shape
    time = (np.arange(n) - r_index) / rate_hz
    weight = np.ones((b, n)) if valid is None else np.asarray(valid, dtype=float)
    sound = np.isfinite(np.where(weight > 0, beat_mv, 0)).all(axis=1) & (weight.sum(axis=1) > 3 * N)
    beat_mv = np.where(sound[:, None] & (weight > 0), beat_mv, 0.0)

    x = _descend(_first_guess(beat_mv, weight, time), beat_mv, weight, time, steps)
    error = ((_model(x, time) - beat_mv) ** 2 * weight).sum(axis=1)
    mean = (beat_mv * weight).sum(axis=1, keepdims=True) / np.maximum(weight.sum(axis=1, keepdims=True), 1)
    power = ((beat_mv - mean) ** 2 * weight).sum(axis=1)
    r2 = np.where(sound & (power > 0), 1 - error / np.where(power > 0, power, 1), np.nan)
    x = np.where(np.isfinite(r2)[:, None], x, _textbook_parameters())
    return Fit(x[:, :N], x[:, N : 2 * N], x[:, 2 * N : 3 * N], x[:, 3 * N], r2)


def _textbook_parameters() -> np.ndarray:
    centre, width, amplitude = mcsharry.textbook(np.ones(1), np.ones(1)).in_time(np.ones(1))
    return np.concatenate([centre, width, amplitude, [[0.0]]], axis=1)


def _limits() -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper limits ``(16,)`` [s, s, mV] of centres, widths, amplitudes and offset."""
    ends = []
    for end, offset in (("lower", -np.inf), ("upper", np.inf)):
        centre, width, amplitude = (parameters.five("bounds", name, end) for name in ("centre", "width", "amplitude"))
        ends.append(np.concatenate([1e-3 * centre, 1e-3 * width, amplitude, [offset]]))
    return ends[0], ends[1]


def _first_guess(beat: np.ndarray, weight: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Parameters ``(B, 16)`` read off the beat: R by its half height, Q and S the lowest points beside it without
    it, P and T the largest swings, offset the median."""
    offset = np.nanmedian(np.where(weight > 0, beat, np.nan), axis=1) if weight.any() else np.zeros(len(beat))
    offset = np.nan_to_num(offset)
    centre = np.tile(1e-3 * parameters.five("start", "centre"), (len(beat), 1))
    width = np.tile(1e-3 * parameters.five("start", "width"), (len(beat), 1))
    amplitude = np.zeros_like(centre)
    rows = np.arange(len(beat))
    level = (beat - offset[:, None]) * (weight > 0)
    amplitude[:, R] = level[:, np.argmin(np.abs(time))]
    high = (level > amplitude[:, [R]] / 2) & (np.abs(time) < SEARCH_S[S][1])
    width[:, R] = np.clip(high.sum(axis=1) * np.median(np.diff(time)) / HALF_HEIGHT, *(end[N + R] for end in _limits()))
    level = level - amplitude[:, [R]] * np.exp(-0.5 * (time / width[:, [R]]) ** 2)
    for wave, (start, stop) in SEARCH_S.items():
        inside = np.flatnonzero((time >= start) & (time <= stop))
        shape = level[:, inside]
        swing = {P: shape, Q: -shape, S: -shape, T: np.abs(shape)}[wave]
        peak = inside[np.argmax(swing, axis=1)]
        centre[:, wave], amplitude[:, wave] = time[peak], level[rows, peak]
    x = np.concatenate([centre, width, amplitude, offset[:, None]], axis=1)
    return np.clip(x, *_limits())


def _bells(x: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance in widths and exp(-distance^2 / 2), each ``(B, 5, n)``."""
    distance = (time - x[:, :N, None]) / x[:, N : 2 * N, None]
    return distance, np.exp(-0.5 * distance**2)


def _model(x: np.ndarray, time: np.ndarray) -> np.ndarray:
    """The sum of Gaussians ``(B, n)`` [mV]."""
    _, bell = _bells(x, time)
    return np.einsum("bwn,bw->bn", bell, x[:, 2 * N : 3 * N]) + x[:, 3 * N, None]


def _expectation() -> tuple[np.ndarray, np.ndarray]:
    """Expected parameters ``(16,)`` [s, s, mV] and the weight of their squared deviation; 0 for heights and offset."""
    noise = parameters.value("start", "noise")
    expected, weight = np.zeros(3 * N + 1), np.zeros(3 * N + 1)
    for part, name in ((slice(0, N), "centre"), (slice(N, 2 * N), "width")):
        expected[part] = 1e-3 * parameters.five("start", name)
        weight[part] = (noise / (1e-3 * parameters.five("start", name, "sd"))) ** 2
    return expected, weight


def _descend(x: np.ndarray, beat: np.ndarray, weight: np.ndarray, time: np.ndarray, steps: int) -> np.ndarray:
    """Levenberg-Marquardt, one damping per row, steps projected onto the limits; cost never rises."""
    lower, upper = _limits()
    expected, belief = _expectation()

    def cost_of(x: np.ndarray) -> np.ndarray:
        return ((_model(x, time) - beat) ** 2 * weight).sum(axis=1) + ((x - expected) ** 2 * belief).sum(axis=1)

    damping = np.full(len(x), 1e-2)
    cost = cost_of(x)
    for _ in range(steps):
        normal, gradient = _normal_equations(x, beat, weight, time)
        normal = normal + np.diag(belief)
        gradient = gradient + belief * (x - expected)
        stuck = ((x <= lower) & (gradient > 0)) | ((x >= upper) & (gradient < 0))
        free = ~stuck
        normal = normal * (free[:, :, None] & free[:, None, :])
        scale = np.einsum("bii->bi", normal) * damping[:, None] + np.where(free, 1e-12, 1.0)
        step = np.linalg.solve(normal + scale[:, :, None] * np.eye(x.shape[1]), (gradient * free)[:, :, None])[..., 0]
        trial = np.clip(x - step, lower, upper)
        trial_cost = cost_of(trial)
        better = trial_cost < cost
        x = np.where(better[:, None], trial, x)
        cost = np.where(better, trial_cost, cost)
        damping = np.clip(np.where(better, damping / 4, damping * 5), 1e-7, 1e6)
    return x


def _normal_equations(
    x: np.ndarray, beat: np.ndarray, weight: np.ndarray, time: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """J^T W J ``(B, 16, 16)`` and J^T W (model - beat) ``(B, 16)``."""
    distance, bell = _bells(x, time)
    amplitude, width = x[:, 2 * N : 3 * N, None], x[:, N : 2 * N, None]
    by_centre = amplitude / width * bell * distance
    jacobian = np.concatenate([by_centre, by_centre * distance, bell, np.ones((len(x), 1, len(time)))], axis=1)
    residual = np.einsum("bwn,bwi->bn", bell, amplitude) + x[:, 3 * N, None] - beat
    weighted = jacobian * weight[:, None, :]
    return weighted @ jacobian.transpose(0, 2, 1), (weighted @ residual[..., None])[..., 0]
