"""McSharry's dynamical model of the ECG: five Gaussian waves met while turning around a circle, once per beat.

    dtheta/dt = omega(t) = 2 pi / RR(t)
    dy/dt     = -omega sum_i alpha_i D_i exp(-D_i^2 / 2 b_i^2) - kappa (y - y0),    D_i = wrap(theta - theta_i)

after McSharry 2003 (IEEE TBME 50:289, doi:10.1109/TBME.2003.808805). Three remarks on the form:

* D_i is wrapped to (-pi, pi]; wrapped to [0, 2 pi) the R wave would be a trough with no upstroke.
* The forcing is written per radian (the factor omega), so that a wave is alpha_i b_i^2 mV high at every heart rate. The
  published form is per second; ``from_time_form`` translates its coefficients.
* With the minus sign, alpha > 0 is an upright wave: alpha_Q and alpha_S are negative, alpha_P, alpha_R, alpha_T
  usually positive.

The equation is linear in y, so it is solved exactly (``solve_exact``); ``solve_rk4`` is the proof that it is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter
from scipy.special import erf

from ecg_gym.physiology import parameters

WAVES = ("P", "Q", "R", "S", "T")
P, Q, R, S, T = range(5)
TANGENT_TAIL = 2.0  # a Gaussian's tangent at its inflection, one width from the centre, meets zero at two widths
_TURN = 2 * np.pi


def wrap(angle: np.ndarray) -> np.ndarray:
    """The same angles in (-pi, pi] [rad]."""
    return np.pi - np.mod(np.pi - angle, _TURN)


@dataclass(frozen=True)
class Waves:
    """Theta, the 15 parameters per patient, ``(B, 5)``; or ``(B, K, 5)`` where each of K beats has its own."""

    theta: np.ndarray  # [rad] where the wave peaks; R is near 0
    alpha: np.ndarray  # [mV/rad^2] strength; > 0 is upright
    b: np.ndarray  # [rad] width (standard deviation)

    def __post_init__(self) -> None:
        if not self.theta.shape == self.alpha.shape == self.b.shape or self.theta.shape[-1] != len(WAVES):
            raise ValueError(
                f"theta, alpha, b have shapes {self.theta.shape}, {self.alpha.shape}, {self.b.shape}; "
                "expected three times (B, 5) or (B, K, 5) in the order P, Q, R, S, T; stack one row per patient"
            )
        if not np.all(self.b > 0):
            raise ValueError(
                f"the smallest width b is {np.min(self.b)}; expected b > 0 rad; use alpha = 0 to drop a wave"
            )

    def __len__(self) -> int:
        return len(self.theta)

    @property
    def amplitude_mv(self) -> np.ndarray:
        """Height of each wave alone, alpha b^2, same shape [mV]."""
        return self.alpha * self.b**2

    def in_time(self, rr_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centre [s after R], width [s] and height [mV] of each wave, each ``(B, 5)``, at RR ``(B,)`` [s]."""
        seconds_per_radian = np.asarray(rr_s, dtype=float)[:, None] / _TURN
        return self.theta * seconds_per_radian, self.b * seconds_per_radian, self.amplitude_mv


def from_times(centre_s: np.ndarray, width_s: np.ndarray, amplitude_mv: np.ndarray, rr_s: np.ndarray) -> Waves:
    """Waves ``(..., 5)`` that peak ``centre_s`` after R, ``width_s`` wide, when a beat lasts ``rr_s (...)`` [s]."""
    radian_per_second = _TURN / np.asarray(rr_s, dtype=float)[..., None]
    b = width_s * radian_per_second
    return Waves(theta=centre_s * radian_per_second, alpha=amplitude_mv / b**2, b=b)


def from_time_form(theta: np.ndarray, a: np.ndarray, b: np.ndarray, rr_s: np.ndarray) -> Waves:
    """Waves ``(B, 5)`` out of published coefficients ``a`` [mV/(s rad)], whose waves are a b^2 RR / 2 pi high."""
    shape = (len(np.atleast_1d(rr_s)), len(WAVES))
    alpha = a * np.atleast_1d(rr_s)[:, None] / _TURN
    return Waves(*(np.broadcast_to(x, shape).copy() for x in (theta, alpha, b)))


def textbook(rr_s: np.ndarray, r_amplitude_mv: np.ndarray | None = None) -> Waves:
    """McSharry's own table ``(B, 5)`` at the times it has at 60 bpm, rescaled to the subject's R wave ``(B,)`` [mV]."""
    rr_s = np.atleast_1d(np.asarray(rr_s, dtype=float))
    reference = np.full(len(rr_s), parameters.value("textbook", "rr"))
    theta, a, b = (parameters.five("textbook", name) for name in ("theta", "a", "b"))
    table = from_time_form(theta, a, b, reference)
    centre, width, amplitude = table.in_time(reference)
    if r_amplitude_mv is not None:
        amplitude = amplitude * (np.atleast_1d(r_amplitude_mv)[:, None] / amplitude[:, [R]])
    return from_times(centre, width, amplitude, rr_s)


def at_each_beat(waves: Waves, rr_s: np.ndarray, beats_s: np.ndarray) -> Waves:
    """Waves ``(B, K, 5)`` that keep their milliseconds where beats ``beats_s (B, K)`` differ from ``rr_s (B,)`` [s].

    Angles alone would stretch PR, QRS and QT with every long beat; QT follows rate over minutes, not beat by beat.
    """
    centre, width, amplitude = (x[:, None, :] for x in waves.in_time(rr_s))
    return from_times(centre, width, amplitude, beats_s)


@dataclass(frozen=True)
class Phase:
    """Where on the circle each sample is."""

    theta: np.ndarray  # (B, N) [rad], not wrapped; 0 at the R peak that began the beat
    omega: np.ndarray  # (B, N) [rad/s]
    beat: np.ndarray  # (B, N) int: row of the RR series in force


def turn(beats_s: np.ndarray, theta_start: np.ndarray, samples: int, rate_hz: float) -> Phase:
    """The phase for an RR series ``beats_s (B, K)`` [s] from ``theta_start (B,) <= 0`` [rad] at the first sample.

    The first R peak falls where theta first reaches 0; beats before it last as long as the first of the series, beats
    after its end as long as the last.
    """
    beats_s = np.asarray(beats_s, dtype=float)
    if not np.all(beats_s > 0):
        raise ValueError(
            f"the shortest RR is {np.min(beats_s)} s; expected positive seconds; divide milliseconds by 1000"
        )
    time = np.arange(samples) / rate_hz
    first = -np.asarray(theta_start, dtype=float) / _TURN * beats_s[:, 0]
    r_peaks = first[:, None] + np.concatenate([np.zeros((len(beats_s), 1)), np.cumsum(beats_s, axis=1)], axis=1)
    starts = np.zeros((len(beats_s), samples + 1), dtype=int)
    column = np.clip(np.ceil(r_peaks * rate_hz), 0, samples).astype(int)
    np.add.at(starts, (np.arange(len(beats_s))[:, None], column), 1)
    since = np.clip(np.cumsum(starts[:, :samples], axis=1) - 1, 0, beats_s.shape[1])
    beat = np.minimum(since, beats_s.shape[1] - 1)
    omega = _TURN / np.take_along_axis(beats_s, beat, axis=1)
    return Phase((time - np.take_along_axis(r_peaks, since, axis=1)) * omega, omega, beat)


def gaussians(waves: Waves, phase: Phase) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the five waves [mV] and its slope in time, the forcing of the equation [mV/s], each ``(B, N)``."""
    total, slope = np.zeros_like(phase.theta), np.zeros_like(phase.theta)
    for distance, alpha, b in _each_wave(waves, phase):
        bell = alpha * np.exp(-0.5 * (distance / b) ** 2)
        total += b**2 * bell
        slope -= distance * bell
    return total, slope * phase.omega


def _each_wave(waves: Waves, phase: Phase) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Signed distance [rad] ``(B, N)``, alpha and b (broadcastable to it) of one wave after another."""
    for i in range(len(WAVES)):
        each = (x[..., i] for x in (waves.theta, waves.alpha, waves.b))
        theta, alpha, b = (x[:, None] if x.ndim == 1 else np.take_along_axis(x, phase.beat, axis=1) for x in each)
        yield wrap(phase.theta - theta), alpha, b


def _relaxed_areas(waves: Waves, phase: Phase, h: float, kappa: float) -> np.ndarray:
    """The integral of exp(-kappa (h - s)) G(s) over each sampling step of ``h`` seconds, ``(B, N - 1)`` [mV s].

    An exponential times a Gaussian is a Gaussian moved by kappa sigma^2, so the integral is a difference of two error
    functions. The width in seconds, sigma, is b / omega: the step divided by the widths it passes.
    """
    area = np.zeros(np.subtract(phase.theta.shape, (0, 1)))
    for distance, alpha, b in _each_wave(waves, phase):
        reach = np.broadcast_to(distance / b, phase.theta.shape)
        begin, end = reach[:, :-1], reach[:, 1:]
        end = np.where(end > begin, end, begin + (h * phase.omega / b)[:, :-1])  # wrapped in between, far from the wave
        sigma = h / (end - begin)
        bell = erf((end - kappa * sigma) * np.sqrt(0.5)) - erf((begin - kappa * sigma) * np.sqrt(0.5))
        height = np.broadcast_to(alpha * b**2, phase.theta.shape)[:, :-1]
        area += height * sigma * np.sqrt(np.pi / 2) * bell * np.exp(kappa * sigma * (kappa * sigma / 2 - begin))
    return np.exp(-kappa * h) * area


def mean_level_mv(waves: Waves) -> np.ndarray:
    """The mean of the Gaussian sum over a turn ``(B, 1)`` [mV]; relaxing towards it keeps the isoelectric line at 0."""
    return (waves.amplitude_mv * waves.b).sum(axis=-1, keepdims=True) / np.sqrt(_TURN)


def solve_exact(
    waves: Waves,
    beats_s: np.ndarray,  # (B, K) [s]
    *,
    samples: int,
    rate_hz: float,
    theta_start: np.ndarray,  # (B,) [rad]
    baseline_mv: np.ndarray | float = 0.0,  # y0, scalar or (B, 1) or (B, N)
    y_start: np.ndarray | None = None,  # (B,) [mV]; on the Gaussian sum if not given
    relaxation_per_s: float | None = None,  # kappa; McSharry's 1/s if not given
) -> np.ndarray:
    """The trajectory y ``(B, N)`` [mV] in closed form; ``baseline_mv`` is held over each sampling step.

    The forcing is the derivative of the Gaussian sum G, so with an integrating factor y = G - w, where
    dw/dt = kappa (G - y0 - w): a first-order low-pass, run as a recursive filter over the samples.
    """
    kappa = parameters.value("textbook", "relaxation") if relaxation_per_s is None else relaxation_per_s
    phase = turn(beats_s, theta_start, samples, rate_hz)
    total, _ = gaussians(waves, phase)
    keep = np.exp(-kappa / rate_hz)
    baseline = np.broadcast_to(baseline_mv, total.shape)[:, :-1]
    push = kappa * _relaxed_areas(waves, phase, 1 / rate_hz, kappa) - (1 - keep) * baseline
    w_start = np.zeros(len(total)) if y_start is None else total[:, 0] - y_start
    w, _ = lfilter([1.0], [1.0, -keep], push, axis=1, zi=keep * w_start[:, None])
    return total - np.concatenate([w_start[:, None], w], axis=1)


def unit_waves(
    centre_s: np.ndarray,  # (B, W) [s after R]
    width_s: np.ndarray,  # (B, W) [s]
    beats_s: np.ndarray,  # (B, K) [s]
    *,
    samples: int,
    rate_hz: float,
    first_s: np.ndarray | float = 0.0,  # scalar or (B,), when the first beat's R peaks
    relaxation_per_s: float | None = None,  # kappa; McSharry's 1/s if not given
) -> np.ndarray:
    """The trajectory ``(B, W, N)`` [mV] of each wave alone at a height of 1 mV, beats in milliseconds as they were.

    The equation is linear in the amplitudes: gains mix these into any number of leads. The same closed form as
    ``solve_exact`` of ``at_each_beat``, in seconds instead of radians: a wave's sigma is then its width in every beat.
    Each wave relaxes towards its own mean over the strip, and starts on its Gaussian.
    """
    kappa = parameters.value("textbook", "relaxation") if relaxation_per_s is None else relaxation_per_s
    start = -_TURN * np.broadcast_to(first_s, len(beats_s)) / np.asarray(beats_s)[:, 0]
    phase = turn(beats_s, start, samples, rate_hz)
    sigma = width_s[:, :, None]
    rr = (_TURN / phase.omega)[:, None]
    distance = (phase.theta / phase.omega)[:, None] - centre_s[:, :, None]
    distance -= rr * np.round(distance / rr)
    total = np.exp(-0.5 * (distance / sigma) ** 2)
    if kappa == 0:
        return total
    h = 1 / rate_hz
    reach = (distance / sigma - kappa * sigma) * np.sqrt(0.5)
    value = erf(reach)
    passed = value[..., 1:] - value[..., :-1]
    wrapped = distance[..., 1:] <= distance[..., :-1]  # far from the wave: it goes on along its own turn
    further = (reach[..., :-1] + h / sigma * np.sqrt(0.5))[wrapped]
    passed[wrapped] = erf(further) - value[..., :-1][wrapped]
    area = sigma * np.sqrt(np.pi / 2) * passed * np.exp(kappa * (kappa * sigma**2 / 2 - distance[..., :-1]))
    keep = np.exp(-kappa * h)
    baseline = sigma * phase.omega.mean(axis=1)[:, None, None] / np.sqrt(_TURN)
    total[..., 1:] -= lfilter([1.0], [1.0, -keep], kappa * keep * area - (1 - keep) * baseline, axis=-1)
    return total


def solve_rk4(
    waves: Waves,
    beats_s: np.ndarray,
    *,
    samples: int,
    rate_hz: float,
    theta_start: np.ndarray,
    baseline_mv: np.ndarray | float = 0.0,  # scalar or (B, 1): constant in time
    y_start: np.ndarray | None = None,
    relaxation_per_s: float | None = None,
    substeps: int = 4,
) -> np.ndarray:
    """The same trajectory ``(B, N)`` [mV] by classical Runge-Kutta: hundreds of times slower, a reference."""
    kappa = parameters.value("textbook", "relaxation") if relaxation_per_s is None else relaxation_per_s
    halves = 2 * substeps
    phase = turn(beats_s, theta_start, halves * (samples - 1) + 1, halves * rate_hz)
    total, forcing = gaussians(waves, phase)
    baseline = np.broadcast_to(baseline_mv, (len(total), 1))[:, 0]
    h = 1 / (rate_hz * substeps)
    y = total[:, 0] if y_start is None else np.asarray(y_start, dtype=float)
    trace = [y]
    for n in range(substeps * (samples - 1)):
        now, middle, then = forcing[:, 2 * n], forcing[:, 2 * n + 1], forcing[:, 2 * n + 2]
        k1 = now - kappa * (y - baseline)
        k2 = middle - kappa * (y + h / 2 * k1 - baseline)
        k3 = middle - kappa * (y + h / 2 * k2 - baseline)
        k4 = then - kappa * (y + h * k3 - baseline)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        if (n + 1) % substeps == 0:
            trace.append(y)
    return np.stack(trace, axis=1)


def qrs_limits_s(centre_s: np.ndarray, width_s: np.ndarray, amplitude_mv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Onset and end ``(B,)`` [s after R] of the QRS by the tangent: two widths out from its outermost waves."""
    least = parameters.value("abstain", "smallest_wave") * np.abs(amplitude_mv[:, [R]])
    there = np.abs(amplitude_mv[:, Q : S + 1]) >= least  # a Q or S too small to see does not lengthen the QRS
    onset = np.where(there, (centre_s - TANGENT_TAIL * width_s)[:, Q : S + 1], np.inf)
    end = np.where(there, (centre_s + TANGENT_TAIL * width_s)[:, Q : S + 1], -np.inf)
    return onset.min(axis=1), end.max(axis=1)


def intervals_ms(waves: Waves, rr_s: np.ndarray) -> dict[str, np.ndarray]:
    """PR, QRS, QT, J-Tpeak and Tpeak-Tend ``(B,)`` [ms] of the waves at RR ``(B,)`` [s], by the tangent."""
    centre, width, amplitude = waves.in_time(rr_s)
    qrs_onset, qrs_end = qrs_limits_s(centre, width, amplitude)
    p_onset = centre[:, P] - TANGENT_TAIL * width[:, P]
    t_end = centre[:, T] + TANGENT_TAIL * width[:, T]
    seconds = {
        "pr_ms": qrs_onset - p_onset,
        "qrs_ms": qrs_end - qrs_onset,
        "qt_ms": t_end - qrs_onset,
        "jtpeak_ms": centre[:, T] - qrs_end,
        "tpeak_tend_ms": t_end - centre[:, T],
    }
    return {name: 1e3 * value for name, value in seconds.items()}
