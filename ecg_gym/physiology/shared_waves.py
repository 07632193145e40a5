"""Waves that all leads share: centres and widths common to the 8 independent leads, heights of each lead's own.

Heights are linear, so they are solved for wherever the waves stand, and only centres and widths descend: variable
projection (Golub & Pereyra 1973, doi:10.1137/0710036) with Kaufman's Jacobian (1975, doi:10.1007/BF01932995), batched
Levenberg-Marquardt within the limits of ``theta.yaml``. What one lead calls Q another calls R; the lead's gain has the
sign.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ecg_gym.physiology import parameters

_LEAST_GAIN = 1e-9  # of the cost: a step that lowers it by less is not taken, or rounding would decide


@dataclass(frozen=True)
class SharedFit:
    """W waves of B beats in L leads."""

    centre_s: np.ndarray  # (B, W) [s after R]
    width_s: np.ndarray  # (B, W) [s]
    gain_mv: np.ndarray  # (B, L, W) [mV]
    offset_mv: np.ndarray  # (B, L) [mV]
    r2: np.ndarray  # (B,) part of the variance explained, over all leads; NaN where the beat is not finite


def roles(name: str = "nine") -> tuple[str, ...]:
    """Which part of the beat each wave of a set belongs to: P, Q, R, S or T."""
    return tuple(parameters.row("leads", name)["role"])


def fit_shared(
    beats_mv: np.ndarray,
    time_s: np.ndarray,
    share: np.ndarray,
    name: str = "nine",
    steps: int = 40,
    start: SharedFit | None = None,
) -> SharedFit:
    """The waves nearest to beats ``(B, L, n)`` [mV] at ``time_s (n,)`` [s after R].

    ``share (B, n)`` in [0, 1] is how much of each sample is this beat's own: the waves have to be that part of it, and
    nothing where its neighbours are. Rows with samples that are not finite get the expected waves at no
    height and an R^2 of NaN. The descent begins at the expected places or where ``start`` has its waves; with no
    ``steps`` only heights are solved for. There are as many descents of ``steps`` as ``leads.noise`` has values: the
    first trusts the expectation enough to have one minimum, and each later one begins where the one before ended, so
    that a beat that differs by a microvolt gets waves that differ by microvolts.
    """
    own = np.asarray(share, dtype=float)[:, None]
    sound = np.isfinite(np.where(own > 0, beats_mv, 0)).all(axis=(1, 2)) & (own.sum(axis=(1, 2)) > 0)
    beat = own * np.where(sound[:, None, None] & (own > 0), beats_mv, 0.0)
    x = None if start is None else np.concatenate([start.centre_s, start.width_s], axis=1)
    for noise in parameters.row("leads", "noise")["value"]:
        look = _descend(_Problem(beat, own, time_s, name, noise), steps, x)
        x = look.x
    w = len(roles(name))
    mean = beat.sum(axis=-1, keepdims=True) / np.maximum(own.sum(axis=-1, keepdims=True), 1)
    power = ((beat - mean * own) ** 2).sum(axis=(1, 2))
    r2 = np.where(sound & (power > 0), 1 - (look.rest**2).sum(axis=(1, 2)) / np.where(power > 0, power, 1), np.nan)
    gain = look.gain.transpose(0, 2, 1)
    return SharedFit(look.x[:, :w], look.x[:, w:], gain[:, :, :w], gain[:, :, w], r2)


class _Problem:
    """Beats, limits and expectation."""

    def __init__(self, beat: np.ndarray, own: np.ndarray, time: np.ndarray, name: str, noise: float) -> None:
        self.beat, self.own, self.time = beat, own, time
        table = parameters.row("leads", name)

        def column(key: str) -> np.ndarray:
            return 1e-3 * np.concatenate([table["centre"][key], table["width"][key]])

        self.expected, self.lower, self.upper = column("value"), column("lower"), column("upper")
        self.belief = (noise / column("sd")) ** 2
        self.ridge = (noise / parameters.value("leads", "gain_sd")) ** 2


@dataclass(frozen=True)
class _Look:
    """The problem at one ``x (B, 2W)``: heights solved for."""

    x: np.ndarray
    distance: np.ndarray  # (B, W, n) in widths
    basis: np.ndarray  # (B, W + 1, n) bells, and the beat's share of a constant
    gram: np.ndarray  # (B, W + 1, W + 1) with the ridge
    gain: np.ndarray  # (B, W + 1, L)
    rest: np.ndarray  # (B, L, n) beat minus model
    cost: np.ndarray  # (B,)

    def where(self, mask: np.ndarray, other: _Look) -> _Look:
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return _Look(*(np.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs))


def _look(problem: _Problem, x: np.ndarray) -> _Look:
    w = x.shape[1] // 2
    distance = (problem.time - x[:, :w, None]) / x[:, w:, None]
    basis = np.concatenate([np.exp(-0.5 * distance**2), problem.own], axis=1)
    gram = basis @ basis.transpose(0, 2, 1) + problem.ridge * np.eye(w + 1)
    gain = np.linalg.solve(gram, basis @ problem.beat.transpose(0, 2, 1))
    rest = problem.beat - gain.transpose(0, 2, 1) @ basis
    cost = _power(rest) + problem.ridge * _power(gain)
    cost += (problem.belief * (x - problem.expected) ** 2).sum(axis=1)
    return _Look(x, distance, basis, gram, gain, rest, cost)


def _power(x: np.ndarray) -> np.ndarray:
    """Sum of squares of each row ``(B,)``, to the last bit whatever the other rows."""
    return (x.reshape(len(x), -1) ** 2).sum(axis=1)


def _descend(problem: _Problem, steps: int, start: np.ndarray | None) -> _Look:
    """Levenberg-Marquardt, one damping per row, steps projected onto the limits; cost never rises."""
    expected = np.tile(problem.expected, (len(problem.beat), 1))
    look = _look(problem, expected if start is None else start)
    damping = np.full(len(look.x), 1e-2)
    for _ in range(steps):
        normal, gradient = _normal_equations(problem, look)
        stuck = (look.x <= problem.lower) & (gradient > 0) | (look.x >= problem.upper) & (gradient < 0)
        free = ~stuck
        normal *= free[:, :, None] & free[:, None, :]
        scale = np.einsum("bii->bi", normal) * damping[:, None] + np.where(free, 1e-12, 1.0)
        normal += scale[:, :, None] * np.eye(look.x.shape[1])
        step = np.linalg.solve(normal, (gradient * free)[:, :, None])[..., 0]
        trial = _look(problem, np.clip(look.x - step, problem.lower, problem.upper))
        better = trial.cost < look.cost * (1 - _LEAST_GAIN)
        look = trial.where(better, look)
        damping = np.clip(np.where(better, damping / 4, damping * 5), 1e-7, 1e6)
    return look


def _normal_equations(problem: _Problem, look: _Look) -> tuple[np.ndarray, np.ndarray]:
    """J^T J ``(B, 2W, 2W)`` and J^T (model - beat) ``(B, 2W)`` of centres and widths, summed over the leads.

    J of one lead is its gains times what the slopes of the bells have outside the span of the bells.
    """
    w = look.x.shape[1] // 2
    by_centre = look.basis[:, :w] * look.distance / look.x[:, w:, None]
    slope = np.concatenate([by_centre, by_centre * look.distance], axis=1)
    gain = np.concatenate([look.gain[:, :w], look.gain[:, :w]], axis=1)
    within = look.basis @ slope.transpose(0, 2, 1)
    outside = slope @ slope.transpose(0, 2, 1) - within.transpose(0, 2, 1) @ np.linalg.solve(look.gram, within)
    normal = outside * (gain @ gain.transpose(0, 2, 1)) + np.diag(problem.belief)
    gradient = -((slope @ look.rest.transpose(0, 2, 1)) * gain).sum(axis=2)
    return normal, gradient + problem.belief * (look.x - problem.expected)
