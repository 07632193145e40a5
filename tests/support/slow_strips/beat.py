"""Action potentials as events: a beat is when each node fires and when it repolarises, seen through the electrodes.

    V_i(t) = h_i [up(t - T_i) - drop_i down(t - RT_i)] - h_i ramp (t - T_i)/m   for T_i < t < RT_i
    RT_i = T_i + m + d_i,   drop_i = 1 - ramp (m + d_i)/m

T_i is when node i fires, m the mean action potential duration of this beat (it follows the rate), d_i how much longer
node i lasts than the mean, h_i its plateau. The ECG is linear in V, so a beat of one kind needs only three curves,
made once: what the electrodes see of all T_i, and of all RT_i with weights h_i and h_i d_i. A strip shifts them to
where its beats are, with m beat by beat, and integrates; there is no time loop over nodes. T waves are not drawn; they
emerge, also after a bundle branch block or a PVC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.sparse import csc_matrix

from ecg_gym.virtual_patient.anatomy import heart_table

_FIRE_HZ, _LAST_HZ = 2000.0, 1000.0  # curves are kept at least this fine, and shifted to the nearest place
_BLOCK = 16  # lengths of curves are multiples of so many samples, so that few transforms are needed
_REACH = 7.0  # time constants after which a logistic step is over


@dataclass(frozen=True)
class Curve:
    """What a beat adds to the electrodes, sample by sample, for an event at any of ``fine`` places between samples."""

    steps: np.ndarray  # (fine, E, k) [mV] increments per sample
    first: int  # fine sample of the first column of phase 0, relative to the event

    def at(self, event: float) -> tuple[int, np.ndarray]:
        """First sample and the increments ``(E, k)`` per sample, for an event at sample ``event``."""
        fine = len(self.steps)
        begin = round(event * fine) + self.first
        sample = -(-begin // fine)  # the first sample at or behind the beginning
        return sample, self.steps[sample * fine - begin]


@dataclass(frozen=True)
class BeatShape:
    """One kind of beat of one heart, whenever it comes and however long its action potentials last."""

    fire: Curve  # what the electrodes see of the upstrokes
    plateau: Curve  # of the upstrokes' plateaus; the same curve unless tissue is injured
    last: Curve  # of the repolarisations, T_i + d_i, stacked: weights h and h d [ms]
    ramp: float  # share of the plateau that is lost before the final repolarisation


def upstrokes(
    rows: np.ndarray,
    activation_ms: np.ndarray,
    rate_hz: float,
    upstroke_ms: float | None = None,
    plateau: np.ndarray | None = None,
) -> tuple[Curve, Curve]:
    """The first two curves of a ``BeatShape``: fire and plateau. The arguments are those of ``beat_shape``."""
    upstroke = upstroke_ms or heart_table()["action_potential"]["upstroke_ms"]
    fine = ceil(_FIRE_HZ / rate_hz)
    if plateau is None:
        fire = _curve(rows, activation_ms, upstroke, rate_hz, fine)
        return fire, fire
    weights = rows * plateau  # injured cells fall to their lower plateau early
    early = heart_table()["injury"]["early_fall_ms"]
    both = np.concatenate([rows, weights - rows], axis=1), np.concatenate([activation_ms, activation_ms + early])
    return _curve(*both, upstroke, rate_hz, fine), _curve(weights, activation_ms, upstroke, rate_hz, fine)


def beat_shape(
    rows: np.ndarray,
    activation_ms: np.ndarray,
    longer_ms: np.ndarray,
    rate_hz: float,
    phase3_ms: float,
    upstroke_ms: float | None = None,
    plateau: np.ndarray | None = None,
    fired: tuple[Curve, Curve] | None = None,
) -> BeatShape:
    """The shape of a beat for strips of ``rate_hz``, seen through electrode ``rows (E, N)``.

    ``activation_ms (N,)`` are firing times, ``longer_ms (N,)`` how much longer than the mean each action potential
    lasts, ``phase3_ms`` the time constant of the final repolarisation (longer makes T wider), ``upstroke_ms`` that of
    the upstroke (default the ventricles'), ``plateau (N,)`` a factor below 1 where tissue is injured. ``fired`` are the
    ``upstrokes`` of the same arguments, if they are at hand.
    """
    fire, level = fired or upstrokes(rows, activation_ms, rate_hz, upstroke_ms, plateau)
    weights = rows if plateau is None else rows * plateau
    ends = np.concatenate([weights, weights * longer_ms])
    last = _curve(ends, activation_ms + longer_ms, phase3_ms, rate_hz, ceil(_LAST_HZ / rate_hz))
    return BeatShape(fire, level, last, heart_table()["action_potential"]["plateau_fall"])


def whole(shape: BeatShape, mean_ms: float, electrodes: int, rate_hz: float) -> Curve:
    """A beat whose action potentials always last ``mean_ms`` on average, as one curve: the P wave."""
    fine = len(shape.fire.steps)
    lead = -(-max(-shape.fire.first, -shape.plateau.first) // fine)
    after = ceil(mean_ms / 1000 * rate_hz) + shape.last.steps.shape[2] + shape.fire.steps.shape[2]
    strips = [
        electrode_strip([(shape, (lead - phase / fine) / rate_hz, mean_ms)], electrodes, rate_hz, lead + after)
        for phase in range(fine)
    ]
    return Curve(np.stack([np.diff(strip, axis=1, prepend=0.0) for strip in strips]).astype(np.float32), -lead * fine)


def electrode_strip(
    beats: Sequence[tuple[BeatShape, float, float]],
    electrodes: int,
    rate_hz: float,
    samples: int,
    others: Sequence[tuple[Curve, float]] = (),
) -> np.ndarray:
    """Electrode potentials ``(electrodes, samples)`` [mV] of ``beats``: (shape, onset [s], mean APD [ms]) each.

    ``others`` are (curve, onset [s]) of beats that are always the same. Potentials begin at zero with the strip; what a
    beat did before the first sample is left out.
    """
    jump, slope = np.zeros((2, electrodes, samples + 1), np.float32)
    for shape, onset_s, mean_ms in beats:
        at = onset_s * rate_hz
        per_sample = shape.ramp * 1000 / rate_hz / mean_ms
        start, fire = shape.fire.at(at)
        _add(jump, start, fire)
        if shape.plateau is shape.fire:
            _add(slope, start, fire, -per_sample)
        else:
            _add(slope, *shape.plateau.at(at), -per_sample)
        start, last = shape.last.at(at + mean_ms / 1000 * rate_hz)
        plain, longer = last[:electrodes], last[electrodes:]
        _add(jump, start, (shape.ramp / mean_ms) * longer - (1 - shape.ramp) * plain)
        _add(slope, start, plain, per_sample)
    for curve, onset_s in others:
        _add(jump, *curve.at(onset_s * rate_hz))
    jump[:, 1:] += np.cumsum(slope, axis=1)[:, :-1]
    return np.cumsum(jump, axis=1)[:, :samples]


def _add(total: np.ndarray, start: int, part: np.ndarray, factor: float = 1.0) -> None:
    """Add ``part (E, k)`` at column ``start``; what sticks out on the left is gathered in column 0."""
    if start >= total.shape[1]:
        return
    end = min(start + part.shape[1], total.shape[1])
    if end <= 0:
        total[:, 0] += factor * part.sum(axis=1)
        return
    if start < 0:
        total[:, 0] += factor * part[:, :-start].sum(axis=1)
        part, start = part[:, -start:], 0
    total[:, start:end] += factor * part[:, : end - start] if factor != 1.0 else part[:, : end - start]


def _curve(weights: np.ndarray, at_ms: np.ndarray, scale_ms: float, rate_hz: float, fine: int) -> Curve:
    """Sum over events of ``weights (E, N)`` times a logistic step of time constant ``scale_ms`` at ``at_ms (N,)``."""
    per_ms = fine * rate_hz / 1000
    at, scale = at_ms * per_ms, scale_ms * per_ms
    reach = int(np.ceil(_REACH * scale)) + 1
    first = int(np.floor(at.min())) - reach
    place = at - first
    low = place.astype(np.int64)
    part = place - low
    block = fine * _BLOCK
    n = -(-(int(low.max()) + 2 + reach) // block) * block
    events = csc_matrix(
        (np.stack([1 - part, part], 1).ravel(), np.stack([low, low + 1], 1).ravel(), 2 * np.arange(len(at) + 1)),
        shape=(n, len(at)),
    )
    density = np.ascontiguousarray((events @ weights.T).T, np.float32)  # (E, n)
    size = next_fast_len(n + 2 * reach, real=True)
    spread = irfft(rfft(density, size) * _step_spectrum(scale, reach, size), size)[:, reach : reach + n]
    value = np.cumsum(spread, axis=1).reshape(len(weights), n // fine, fine).transpose(2, 0, 1)
    steps = np.empty_like(value, order="C")
    steps[:, :, 0] = value[:, :, 0]
    np.subtract(value[:, :, 1:], value[:, :, :-1], out=steps[:, :, 1:])
    return Curve(steps, first)


@lru_cache(maxsize=256)
def _step_spectrum(scale: float, reach: int, size: int) -> np.ndarray:
    """Spectrum of the derivative of a logistic step of time constant ``scale`` [samples], ``reach`` to either side."""
    kernel = 1 / np.cosh(np.arange(-reach, reach + 1) / (2 * scale)) ** 2
    return rfft((kernel / kernel.sum()).astype(np.float32), size)
