"""What a beat shows: fiducials of noise-free beats, measured one by one, or read from a table of measured beats.

Of a heart one asks a QRS, a QTcF and a Tpeak-Tend; what its beat shows also depends on its pose, its path of
activation, scar and injury. ``measured_beats`` synthesises each beat and delineates it (0.1 to 0.2 ms of CPU time).
``shown_intervals`` interpolates between such beats at the knots of a grid over slowness, shape of repolarisation and
action potential duration, per pose, scar, injury and path; knots are measured when they are first needed (about a
microsecond a row once they are there).

Fiducials are the delineator's on a noise-free beat: QRS begins where the spatial velocity of the 8 independent leads
first exceeds 3 % of its peak and ends where it last does; the T peak is the largest top of the vector magnitude behind
it; the T end is where the steepest tangent of the magnitude behind the peak meets the level behind the T wave.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg_gym.compiled import compiled, compiled_exact
from ecg_gym.io import atomic_write
from ecg_gym.virtual_patient.anatomy import heart_table
from ecg_gym.virtual_patient.beat_spectra import (
    BEFORE_S,
    KINDS,
    PERIOD_S,
    PREEXCITED,
    TERRITORIES,
    Shapes,
    beats,
    spectra,
)
from ecg_gym.virtual_patient.heart import poses, seats

RATE_HZ = 512.0  # of the noise-free beats that are delineated
VELOCITY_FRACTION = 0.03  # of the peak spatial velocity, as in waveform.delineation
QUANTITIES = ("onset_ms", "qrs_ms", "r_peak_ms", "jtpeak_ms", "qt_ms", "t_amplitude_mv")
_LINES = 256  # of a spectrum with PERIOD_S: up to 205 Hz
_VELOCITY_SMOOTH_S, _MAGNITUDE_SMOOTH_S = 0.002, 0.005  # Gaussian
_CHUNK = 64  # beats in memory at once


@dataclass(frozen=True)
class ShownIntervals:
    """Lengths of B beats ``(B,)`` from the QRS onset; NaN where there is no T wave to speak of."""

    onset_ms: np.ndarray  # of the QRS, after the first cell fired
    qrs_ms: np.ndarray
    r_peak_ms: np.ndarray
    jtpeak_ms: np.ndarray  # from the end of the QRS to the T peak
    qt_ms: np.ndarray
    t_amplitude_mv: np.ndarray

    @property
    def tpeak_tend_ms(self) -> np.ndarray:
        """``(B,)`` [ms] from the T peak to the T end."""
        return self.qt_ms - self.qrs_ms - self.jtpeak_ms


def measured_beats(shapes: Shapes, mean_ms: np.ndarray, shape: np.ndarray | None = None) -> ShownIntervals:
    """Fiducials of B noise-free beats ``(B,)``, each synthesised and delineated.

    ``mean_ms (B,)`` are mean action potential durations; ``shape (B,)`` says which of ``shapes`` each beat is of
    (by default one beat of each).
    """
    which = np.arange(len(shapes)) if shape is None else shape
    out = np.full((len(which), len(QUANTITIES)), np.nan)
    period = shapes.period_s(np.zeros(len(shapes)))[which]  # of the shape alone first, then with its duration
    period = np.maximum(period, shapes[which].period_s(mean_ms)) if len(which) else period
    for length in np.unique(period):
        rows = np.flatnonzero(period == length)
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            kinds, local = np.unique(which[part], return_inverse=True)
            out[part] = _delineate(shapes[kinds], local, mean_ms[part], float(length))
    return ShownIntervals(*out.T)


def _delineate(shapes: Shapes, shape: np.ndarray, mean_ms: np.ndarray, period_s: float) -> np.ndarray:
    """``(B, 6)`` in the order of ``QUANTITIES``."""
    lines, samples = round(_LINES * period_s / PERIOD_S), round(period_s * RATE_HZ)
    of = spectra(shapes, period_s, lines)
    none, mean_s = np.zeros(len(shape)), mean_ms / 1000
    plain = beats(of, shape, none, mean_s, np.ones(lines), samples)
    moving = beats(of, shape, none, mean_s, _smoothing(lines, period_s), samples)
    out = np.full((len(shape), len(QUANTITIES)), np.nan)
    _read(plain, moving, shapes.activation_ms()[shape] / 1000, RATE_HZ, _kernel(), out)
    return out


def _smoothing(lines: int, period_s: float) -> np.ndarray:
    """``(lines,)``: the Gaussian that the QRS is smoothed by before its velocity is taken."""
    omega = 2 * np.pi * np.arange(lines) / period_s
    return np.exp(-0.5 * (omega * _VELOCITY_SMOOTH_S) ** 2)


@cache
def _kernel() -> np.ndarray:
    sigma = _MAGNITUDE_SMOOTH_S * RATE_HZ
    x = np.arange(-int(4 * sigma + 0.5), int(4 * sigma + 0.5) + 1)
    weights = np.exp(-0.5 * (x / sigma) ** 2)
    return weights / weights.sum()


@compiled
def _read(
    plain: np.ndarray, moving: np.ndarray, activation_s: np.ndarray, rate: float, kernel: np.ndarray, out: np.ndarray
) -> None:
    """Delineates ``plain (B, T, 8)``, of which ``moving`` is the version smoothed for its velocity."""
    n = plain.shape[1]
    size, velocity, smooth = np.empty(n), np.empty(n), np.empty(n)
    for b in range(len(plain)):
        for i in range(n):
            total, speed = 0.0, 0.0
            for lead in range(plain.shape[2]):
                total += plain[b, i, lead] ** 2
                step = moving[b, min(i + 1, n - 1), lead] - moving[b, max(i - 1, 0), lead]
                speed += step * step
            size[i], velocity[i] = math.sqrt(total), 0.5 * math.sqrt(speed)
        onset, end = _qrs(velocity, (BEFORE_S + activation_s[b]) * rate, 0.02 * rate)
        last = int(np.rint(end)) + 1
        r = _vertex(size, int(np.argmax(size[:last])))
        reach = len(kernel) // 2
        for i in range(n):
            total = 0.0
            for k in range(len(kernel)):
                total += kernel[k] * size[min(max(i + k - reach, 0), n - 1)]
            smooth[i] = total
        to_ms = 1000 / rate
        out[b, 0], out[b, 1] = (onset - BEFORE_S * rate) * to_ms, (end - onset) * to_ms
        out[b, 2] = (r - onset) * to_ms
        first = int(np.rint(end + 0.03 * rate))
        peak, height = -1, -1.0
        for i in range(first + 1, n - 1):  # an ST segment that falls from the J point has no top there
            if smooth[i - 1] < smooth[i] >= smooth[i + 1] and smooth[i] > height:
                peak, height = i, smooth[i]
        if peak < 0:
            peak = first + int(np.argmax(smooth[first:]))
        steepest, slope = peak, 0.0
        for i in range(peak, n - 1):
            here = (smooth[i + 1] - smooth[i - 1]) / 2
            if here < slope:
                steepest, slope = i, here
        if slope >= 0:
            continue
        t_end = steepest + (smooth[steepest:].min() - smooth[steepest]) / slope
        out[b, 3], out[b, 4] = (_vertex(smooth, peak) - end) * to_ms, (t_end - onset) * to_ms
        out[b, 5] = smooth[peak]


@compiled
def _qrs(velocity: np.ndarray, fired: float, around: float) -> tuple[float, float]:
    """QRS onset and end [samples] of beats whose last cell fires at ``fired``.

    Where the T wave begins before the velocity is quiet, the QRS ends at the turn between them: the slowest moment
    within 20 ms of the last cell's firing.
    """
    last = int(np.rint(fired + around))  # the T wave may be fast too: look no further
    highest = velocity[:last].max()
    level = VELOCITY_FRACTION * highest
    first_loud, last_loud = -1, -1
    for i in range(last):
        if velocity[i] > level:
            first_loud = i if first_loud < 0 else first_loud
            last_loud = i
    onset, end = float(first_loud), float(last_loud)
    if first_loud > 0:
        onset -= (velocity[first_loud] - level) / (velocity[first_loud] - velocity[first_loud - 1])
    if last_loud + 1 < last:
        end += (velocity[last_loud] - level) / (velocity[last_loud] - velocity[last_loud + 1])
    else:
        turn = max(0, int(np.rint(fired - around)))
        end = float(turn + np.argmin(velocity[turn:last]))
    return onset, end


@compiled
def _vertex(y: np.ndarray, top: int) -> float:
    """The top of the parabola through a sample and its neighbours."""
    if top <= 0 or top >= len(y) - 1:
        return float(top)
    bend = y[top - 1] - 2 * y[top] + y[top + 1]
    return top + 0.5 * (y[top - 1] - y[top + 1]) / bend if bend < 0 else float(top)


# The grid of the table. Slowness and x end where hearts do (beyond, the last knot holds); the durations go down to
# what a fast rhythm leaves. T peaks move nearly one to one with the duration, which is taken out before interpolation.
_SLOWNESS = np.array([0.7, 0.85, 1.0, 1.15, 1.35, 1.7, 2.4, 3.4])
_X = np.array([-0.7, -0.4, -0.15, 0.1, 0.4, 0.8, 1.4, 2.5])
_T_GAIN = np.array([0.4, 0.7, 0.9, 1.1, 1.4, 2.0])
_MEAN_MS = np.array([60.0, 110.0, 150.0, 190.0, 235.0, 290.0, 370.0, 500.0])
_AXES = (_SLOWNESS, _X, _T_GAIN, _MEAN_MS)
_KNOTS = tuple(len(axis) for axis in _AXES)
CORNERS = 1 << len(_AXES)  # knots around a beat
_FUSION_STEP_MS, _FUSIONS = 5.0, 25  # as in rhythms.yaml: 0 .. 120 ms
_FOLLOWS = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 0.0])  # of QUANTITIES: ms per ms of mean duration
_RESOLUTION = np.array([2.0**-6] * 5 + [2.0**-13])  # of QUANTITIES: finer is the batch that a knot was measured in
_FIRST_SIZE, _MOST_KNOTS = 1 << 15, 1 << 19  # places of the table at first; knots beyond which it starts anew


@dataclass
class _Table:
    """Knots by their key in an open-addressed table; most knots are never needed."""

    keys: np.ndarray = field(default_factory=lambda: np.full(_FIRST_SIZE, -1, np.int64))
    values: np.ndarray = field(default_factory=lambda: np.empty((_FIRST_SIZE, len(QUANTITIES)), np.float32))
    count: int = 0

    def put(self, keys: np.ndarray, values: np.ndarray) -> None:
        """Add knots that are not there yet: ``keys (n,)``, ``values (n, 6)``."""
        if self.count + len(keys) > _MOST_KNOTS:
            self.keys[:], self.count = -1, 0
        size = len(self.keys)
        while 2 * (self.count + len(keys)) > size:
            size *= 2
        if size > len(self.keys):
            there = np.flatnonzero(self.keys >= 0)
            old_keys, old_values = self.keys[there], self.values[there]
            self.keys = np.full(size, -1, np.int64)
            self.values = np.empty((size, len(QUANTITIES)), np.float32)
            _put(self.keys, self.values, old_keys, old_values)
        _put(self.keys, self.values, keys, np.ascontiguousarray(values, np.float32))
        self.count += len(keys)


@compiled
def _place(keys: np.ndarray, key: int) -> int:
    """Where a key stands, or would stand: neighbours along the last axis stand side by side."""
    mask = len(keys) - 1
    at = (((key >> 3) * 0x9E3779B1 >> 7 << 3) + (key & 7)) & mask
    while keys[at] != key and keys[at] >= 0:
        at = (at + 1) & mask
    return at


@compiled
def _put(keys: np.ndarray, values: np.ndarray, new: np.ndarray, of: np.ndarray) -> None:
    for i in range(len(new)):
        at = _place(keys, new[i])
        keys[at] = new[i]
        values[at] = of[i]


_REFERENCE = (0.1, 0.9, 290.0)  # x, T gain and duration [ms] of a usual T wave; knots of the axes
_GROUPS = (seats(), len(TERRITORIES), len(TERRITORIES), len(KINDS) + _FUSIONS)


class Axes(NamedTuple):
    """The grid of the table, for compiled functions."""

    slowness: np.ndarray
    x: np.ndarray
    t_gain: np.ndarray
    mean_ms: np.ndarray
    follows: np.ndarray
    usual: np.ndarray  # (3,) x, T gain and duration of a usual T wave
    alike: int  # combinations of a pose


FUSION_STEP_MS, PATHS, LAST_FUSION = _FUSION_STEP_MS, len(KINDS) + _FUSIONS, _FUSIONS - 1
AXES = Axes(*_AXES, _FOLLOWS, np.array(_REFERENCE), math.prod(_GROUPS[1:]))


def _combinations() -> int:
    return math.prod(_GROUPS)


KNOTS = Path(__file__).with_name("beat_intervals.npz")  # knots that people need, measured beforehand
_VERSION = b"1"  # of the code that measures knots: raise it with every change of what beats show


@cache
def _table() -> _Table:
    table = _Table()
    if KNOTS.is_file():
        with np.load(KNOTS, allow_pickle=False) as file:
            if str(file["made_by"]) == made_by():
                table.put(np.cumsum(file["keys"]), file["values"].T)
    return table


def made_by() -> str:
    """A digest of the heart and the version that the knots depend on; knots made by others are not read."""
    return hashlib.sha256(Path(__file__).with_name("default_heart.json").read_bytes() + _VERSION).hexdigest()


def save_knots(path: Path = KNOTS) -> int:
    """Measure and write the knots that ``coarse`` reads of hearts of the eikonal's tissue; returns how many."""
    table, keys = _table(), _coarse_keys()
    learn(keys[table.keys[_places(table.keys, keys)] < 0])
    values = table.values[_places(table.keys, keys)]
    with atomic_write(path) as aside:
        np.savez_compressed(aside, keys=np.diff(keys, prepend=0), values=np.ascontiguousarray(values.T),
                            made_by=np.array(made_by()))  # fmt: skip
    return len(keys)


def _coarse_keys() -> np.ndarray:
    """Rising keys: the whole grid of the normal beat of each pose, and along slowness each path, scar or injury."""
    usual = [np.arange(len(_SLOWNESS))] + [np.flatnonzero(axis == at) for axis, at in zip(_AXES[1:], _REFERENCE)]
    some = len(TERRITORIES)  # 0 is none; nobody has both a scar and an injury
    grid = np.meshgrid(np.arange(len(poses())), np.arange(some), np.arange(some), np.arange(PATHS), indexing="ij")
    groups = np.stack([part.ravel() for part in grid])
    groups = groups[:, (groups[1] == 0) | (groups[2] == 0)]
    keys = []
    for plain, axes in ((True, [np.arange(n) for n in _KNOTS]), (False, usual)):
        columns = groups[:, (groups[1:] == 0).all(axis=0) == plain]
        at = np.stack([part.ravel() for part in np.meshgrid(*axes, indexing="ij")])
        places = (*(part[:, None] for part in columns), *(part[None] for part in at))
        keys.append(np.ravel_multi_index(np.broadcast_arrays(*places), (*_GROUPS, *_KNOTS)).ravel())
    return np.sort(np.concatenate(keys))


@compiled
def _places(keys: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Where each of ``some`` keys stands in the table, or would stand."""
    out = np.empty(len(some), np.int64)
    for i in range(len(some)):
        out[i] = _place(keys, some[i])
    return out


def shown_intervals(
    pose: np.ndarray,
    scar: np.ndarray,
    injury: np.ndarray,
    kind: np.ndarray,
    fusion_ms: np.ndarray,
    slowness: np.ndarray,
    x: np.ndarray,
    t_gain: np.ndarray,
    mean_ms: np.ndarray,
    coarse: bool = False,
) -> ShownIntervals:
    """What the noise-free beats of B hearts show, each argument ``(B,)``, from the table.

    ``pose`` is a ``Heart.seat`` (the index of a pose where the tissue is the eikonal's), ``scar`` and ``injury`` are
    codes of ``TERRITORIES``, ``kind`` of ``KINDS``; ``fusion_ms`` matters to "preexcited" beats only. ``slowness``,
    ``x`` and ``t_gain`` are what ``beat_targets`` works out for a heart under a modulation, ``mean_ms`` the mean action
    potential duration of the beat. A row does not depend on the rows beside it. ``coarse`` needs far fewer knots: what
    a path, a scar or an injury changes is read at one usual T wave, at the slowness of the heart.
    """
    steps = np.clip(np.round(fusion_ms / _FUSION_STEP_MS), 0, _FUSIONS - 1).astype(np.int64)
    path = np.where(kind == PREEXCITED, len(KINDS) + steps, kind)
    combination = (np.asarray(pose) * len(TERRITORIES) + scar) * len(TERRITORIES) + injury
    combination = combination * (len(KINDS) + _FUSIONS) + path
    at = np.stack([slowness, x, t_gain, mean_ms], axis=1).astype(float)
    if coarse:
        return ShownIntervals(*_coarsely(combination, at).T)
    return ShownIntervals(*_interpolated(combination, at).T)


def _coarsely(combination: np.ndarray, at: np.ndarray) -> np.ndarray:
    """``(B, 6)``: the normal beat of the pose, and what path, scar and injury change in a usual T wave."""
    return _until_known(_look_up_coarsely, combination, at, 3 * CORNERS)


def _interpolated(combination: np.ndarray, at: np.ndarray) -> np.ndarray:
    """``(B, 6)``; knots that are not there yet are measured first."""
    return _until_known(_look_up, combination, at, CORNERS)


def _until_known(look_up: Callable[..., int], combination: np.ndarray, at: np.ndarray, most: int) -> np.ndarray:
    """``(B, 6)`` by a compiled function that notes the keys it lacks, up to ``most`` a row; they are measured."""
    out, missing = np.empty((len(at), len(QUANTITIES))), np.empty(len(at) * most, np.int64)
    while lacking := look_up(combination, at.copy(), AXES, *knots(), out, missing):
        learn(missing[:lacking])
    return out


def learn(keys: np.ndarray) -> None:
    """Measure knots by their keys, and put them into the table."""
    new = np.unique(keys)
    for start in range(0, len(new), _MOST_KNOTS // 4):
        _measure_knots(_table(), new[start : start + _MOST_KNOTS // 4])


def knots() -> tuple[np.ndarray, np.ndarray]:
    """The table's keys ``(N,)`` and values ``(N, 6)`` as they are now, for ``coarsely``."""
    table = _table()
    return table.keys, table.values


def _measure_knots(table: _Table, keys: np.ndarray) -> None:
    """Fills in knots by their keys: combination, and places on the four axes."""
    combination, *place = np.unravel_index(keys, (_combinations(), *_KNOTS))
    rest, path = np.divmod(combination, len(KINDS) + _FUSIONS)
    rest, injury = np.divmod(rest, len(TERRITORIES))
    pose, scar = np.divmod(rest, len(TERRITORIES))
    fusion_ms = np.maximum(path - len(KINDS), 0) * _FUSION_STEP_MS
    slowness, x, t_gain, mean_ms = (axis[at] for axis, at in zip(_AXES, place))
    kind = np.where(path >= len(KINDS), PREEXCITED, path)
    of = (pose, scar, injury, kind, fusion_ms, slowness, phase3_ms(x), dispersion(x, t_gain))
    _alike, first, shape = np.unique(np.stack(of, axis=1), axis=0, return_index=True, return_inverse=True)
    beats = measured_beats(Shapes(*(part[first] for part in of)), mean_ms, shape)
    values = np.stack([getattr(beats, name) for name in QUANTITIES], axis=1) - mean_ms[:, None] * _FOLLOWS
    table.put(keys, np.round(values / _RESOLUTION) * _RESOLUTION)


def phase3_ms(x: np.ndarray) -> np.ndarray:
    """Time constant [ms] of the final repolarisation at places of the knob that widens T."""
    return heart_table()["action_potential"]["phase3_ms"] * (1 + np.asarray(x))


def dispersion(x: np.ndarray, t_gain: np.ndarray) -> np.ndarray:
    """Factor on the pattern of action potential durations at places of the knob that widens T."""
    return (1 + heart_table()["repolarisation_knob"]["dispersion_per_x"] * np.asarray(x)) * t_gain


@compiled_exact
def _look_up(
    combination: np.ndarray, at: np.ndarray, axes: Axes, keys: np.ndarray, values: np.ndarray, out: np.ndarray,
    missing: np.ndarray,
) -> int:  # fmt: skip
    """Interpolates ``out (B, 6)`` linearly along the four axes; notes keys that are not there, and how many."""
    n, there = 0, np.empty(out.shape[1])
    for b in range(len(at)):
        n = between_knots(combination[b], at[b], axes, keys, values, out[b], there, missing, n)
    return n


@compiled_exact
def _look_up_coarsely(
    combination: np.ndarray, at: np.ndarray, axes: Axes, keys: np.ndarray, values: np.ndarray, out: np.ndarray,
    missing: np.ndarray,
) -> int:  # fmt: skip
    """As ``_look_up``, row by row as ``coarsely``."""
    n, room = 0, np.empty((3, out.shape[1]))
    for b in range(len(at)):
        n = coarsely(combination[b], at[b], axes, keys, values, out[b], room, missing, n)
    return n


@compiled_exact
def coarsely(
    combination: int, at: np.ndarray, axes: Axes, keys: np.ndarray, values: np.ndarray, out: np.ndarray,
    room: np.ndarray, missing: np.ndarray, n: int,
) -> int:  # fmt: skip
    """One beat ``out (6,)``: the normal one of the pose, and what path, scar and injury change in a usual T wave.

    ``at (4,)`` is overwritten; ``room (3, 6)`` is to work in. Returns ``n`` plus what was added to ``missing``.
    """
    there, other, usual = room[0], room[1], room[2]
    normal = combination - combination % axes.alike
    n = between_knots(normal, at, axes, keys, values, out, there, missing, n)
    if combination == normal:
        return n
    at[1], at[2], at[3] = axes.usual[0], axes.usual[1], axes.usual[2]
    n = between_knots(combination, at, axes, keys, values, other, there, missing, n)
    n = between_knots(normal, at, axes, keys, values, usual, there, missing, n)
    for q in range(len(out)):
        change = out[q] + other[q] - usual[q]
        out[q] = other[q] if np.isnan(out[q] + usual[q]) else change
    return n


@compiled_exact
def between_knots(
    combination: int, at: np.ndarray, axes: Axes, keys: np.ndarray, values: np.ndarray, out: np.ndarray,
    there: np.ndarray, missing: np.ndarray, n: int,
) -> int:  # fmt: skip
    """One beat ``out (6,)``, linear along the four axes; ``there (6,)`` is to work in. Returns as ``coarsely``."""
    out[:], there[:] = 0.0, 0.0
    i0, p0 = _cell(axes.slowness, at[0])
    i1, p1 = _cell(axes.x, at[1])
    i2, p2 = _cell(axes.t_gain, at[2])
    i3, p3 = _cell(axes.mean_ms, at[3])
    for corner in range(16):
        c0, c1, c2, c3 = corner & 1, corner >> 1 & 1, corner >> 2 & 1, corner >> 3 & 1
        weight = (p0 if c0 else 1 - p0) * (p1 if c1 else 1 - p1) * (p2 if c2 else 1 - p2) * (p3 if c3 else 1 - p3)
        if weight == 0:
            continue
        key = combination * len(axes.slowness) + i0 + c0
        key = key * len(axes.x) + i1 + c1
        key = key * len(axes.t_gain) + i2 + c2
        key = key * len(axes.mean_ms) + i3 + c3
        place = _place(keys, key)
        if keys[place] < 0:
            missing[n] = key
            n += 1
            continue
        for q in range(len(out)):
            if not np.isnan(values[place, q]):
                out[q] += weight * values[place, q]
                there[q] += weight
    for q in range(len(out)):  # a T wave is there where it is at most of the knots, by their weight
        out[q] = out[q] / there[q] + axes.follows[q] * at[3] if there[q] > 0.5 else np.nan
    return n


@compiled_exact
def _cell(axis: np.ndarray, value: float) -> tuple[int, float]:
    """The interval of an axis that a value lies in, held at the ends, and how far along it."""
    value = min(max(value, axis[0]), axis[-1])
    i = 0
    while i < len(axis) - 2 and axis[i + 1] < value:
        i += 1
    return i, (value - axis[i]) / (axis[i + 1] - axis[i])
