"""What makes the beats of many hearts show the intervals asked of them: slowness, the knob x, and the mean duration.

A heart has a QRS, a QTcF and a Tpeak-Tend of its own, and a modulation moves them. Each pose is measured once on its
normally conducted noise-free beat, and the knobs are turned by that table; along other paths the same tissue then
shows other intervals (``beat_intervals.shown_intervals``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ecg_gym.compiled import compiled_exact
from ecg_gym.io import atomic_write
from ecg_gym.pharmacology.modulation import Modulation
from ecg_gym.virtual_patient.anatomy import heart_table
from ecg_gym.virtual_patient.beat_intervals import dispersion, made_by, measured_beats, phase3_ms
from ecg_gym.virtual_patient.beat_spectra import TERRITORIES, Shapes
from ecg_gym.virtual_patient.heart import Heart, poses, seats

_Store = tuple[np.ndarray, np.ndarray, np.ndarray]  # two kinds of figures, and which of them are known
_SPEEDS = 200  # steps of slowness per unit
GAINS_PER_UNIT, MOST_GAIN = 10, 4.0  # T gains are rounded, so that hearts share what was measured


@dataclass(frozen=True)
class BeatTargets:
    """Of B hearts under a modulation, ``(B,)`` each."""

    slowness: np.ndarray  # factor on conduction times, in steps of 1/200
    x: np.ndarray  # the knob that widens T: phase 3 by 1 + x, dispersion by 1 + 0.3 x
    t_gain: np.ndarray  # factor on dispersion, in steps of 0.1
    mean_ms: np.ndarray  # mean action potential duration at 60/min, before the minute's own variation

    @property
    def phase3_ms(self) -> np.ndarray:
        """``(B,)`` [ms] time constant of the final repolarisation."""
        return phase3_ms(self.x)

    @property
    def dispersion(self) -> np.ndarray:
        """``(B,)`` factor on the pattern of durations."""
        return dispersion(self.x, self.t_gain)


def beat_targets(
    pose: np.ndarray,
    scar: np.ndarray,
    qrs_ms: np.ndarray,
    qtcf_ms: np.ndarray,
    tpeak_tend_ms: np.ndarray,
    t_gain: np.ndarray,
    change: Modulation,
) -> BeatTargets:
    """The targets of B hearts, arguments ``(B,)`` as the fields of ``Heart`` (``scar`` a code of TERRITORIES).

    ``change`` is a modulation with numbers or arrays ``(B,)`` in its fields.
    """
    b = len(pose)
    gain = np.clip(np.round(t_gain * change.t_amplitude * GAINS_PER_UNIT), 1, MOST_GAIN * GAINS_PER_UNIT)
    knob = _knob(np.asarray(pose), np.asarray(scar), gain.astype(np.int64))
    out = np.empty((3, b))
    reference = float(heart_table()["repolarisation_knob"]["reference_apd_ms"])

    def full(value: np.ndarray | float) -> np.ndarray:
        return np.broadcast_to(np.asarray(value, float), (b,)).copy()

    numbers: tuple[np.ndarray | float, ...] = (
        qrs_ms, qtcf_ms, tpeak_tend_ms, change.conduction, change.jtpeak_ms, change.tpeak_tend_ms,
    )  # fmt: skip
    qrs, qtcf, tpeak_tend, conduction, later_jt, wider = (full(value) for value in numbers)
    _turn_knobs(
        np.ascontiguousarray(pose), np.ascontiguousarray(scar), gain.astype(np.int64), qrs, qtcf, tpeak_tend,
        conduction, later_jt, wider, _stops(), *_conduction(np.asarray(pose)), _x(), *knob, reference, out,
    )  # fmt: skip
    return BeatTargets(out[0], out[1], gain / GAINS_PER_UNIT, out[2])


def targets_of(hearts: Sequence[Heart], change: Modulation) -> BeatTargets:
    """``beat_targets`` of hearts as they stand at the door."""
    columns = ("qrs_ms", "qtcf_ms", "tpeak_tend_ms", "t_gain")
    pose = np.array([heart.seat for heart in hearts], np.int64)
    scar = np.array([TERRITORIES.index(heart.scar) for heart in hearts], np.int64)
    qrs, qtcf, tpeak_tend, t_gain = (np.array([getattr(h, name) for h in hearts], float) for name in columns)
    return beat_targets(pose, scar, qrs, qtcf, tpeak_tend, t_gain, change)


@compiled_exact
def _turn_knobs(
    pose: np.ndarray, scar: np.ndarray, gain: np.ndarray, qrs_ms: np.ndarray, qtcf_ms: np.ndarray,
    tpeak_tend_ms: np.ndarray, conduction: np.ndarray, later_jt: np.ndarray, wider: np.ndarray, stops: np.ndarray,
    qrs_shown: np.ndarray, jt_shown: np.ndarray, x_stops: np.ndarray, tpte_shown: np.ndarray, jt_by_x: np.ndarray,
    reference_ms: float, out: np.ndarray,
) -> None:  # fmt: skip
    for b in range(len(pose)):
        p, s, g = pose[b], scar[b], gain[b]
        out[0, b], out[1, b], out[2, b] = turned(
            qrs_ms[b], qtcf_ms[b], tpeak_tend_ms[b], conduction[b], later_jt[b], wider[b], stops, qrs_shown[p],
            jt_shown[p], x_stops, tpte_shown[p, s, g], jt_by_x[p, s, g], reference_ms,
        )  # fmt: skip


@compiled_exact
def turned(
    qrs_ms: float, qtcf_ms: float, tpeak_tend_ms: float, conduction: float, later_jt: float, wider: float,
    stops: np.ndarray, widths: np.ndarray, jts: np.ndarray, x_stops: np.ndarray, tpte_shown: np.ndarray,
    jt_by_x: np.ndarray, reference_ms: float,
) -> tuple[float, float, float]:  # fmt: skip
    """Slowness, x and mean duration [ms] of one heart; the arrays belong to its pose, scar and T gain."""
    beyond = max(1.0, qrs_ms / widths[-1])
    slow = _between(qrs_ms, widths, stops) * beyond / conduction
    slow = max(1.0, np.rint(slow * _SPEEDS)) / _SPEEDS
    x = _between(tpeak_tend_ms + wider, tpte_shown, x_stops)
    target = qtcf_ms - qrs_ms - tpeak_tend_ms + later_jt
    usual_ms = _between(x, x_stops, jt_by_x)
    usual_ms += _between(slow, stops, jts) - _between(1.0, stops, jts)
    return slow, x, reference_ms + target - usual_ms


@compiled_exact
def _between(x: float, xs: np.ndarray, ys: np.ndarray) -> float:
    """``numpy.interp`` of one number."""
    if x <= xs[0]:
        return ys[0]
    last = len(xs) - 1
    if x >= xs[last]:
        return ys[last]
    i = 0
    while xs[i + 1] <= x:
        i += 1
    return ys[i] + (ys[i + 1] - ys[i]) / (xs[i + 1] - xs[i]) * (x - xs[i])


class Knobs(NamedTuple):
    """What ``turned`` reads, for all hearts."""

    stops: np.ndarray
    widths: np.ndarray  # (seats, stops) QRS that each slowness shows
    jts: np.ndarray  # (seats, stops) J-Tpeak
    poses: np.ndarray  # (seats,) bool: of which those are known
    x_stops: np.ndarray
    tpte: np.ndarray  # (seats, scars, gains, x) Tpeak-Tend
    jt_by_x: np.ndarray  # (seats, scars, gains, x) J-Tpeak
    is_filled: np.ndarray  # (seats, scars, gains) bool
    reference_ms: float


@cache
def knobs() -> Knobs:
    """The tables behind ``beat_targets``; they fill as it is asked."""
    return Knobs(_stops(), *_conduction_store(), _x(), *_knob_store(), _reference(1)[0])


@cache
def _stops() -> np.ndarray:
    return np.array(heart_table()["slowness_stops"])


@cache
def _x() -> np.ndarray:
    return np.array(heart_table()["repolarisation_knob"]["x"], float)


@cache
def _conduction_store() -> _Store:
    shape = (seats(), len(_stops()))
    store = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(seats(), bool)
    return _with_shipped(store, "conduction")


def _conduction(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(poses, stops)``: QRS and J-Tpeak [ms] that each slowness shows in each pose, without a scar."""
    qrs, jtpeak, is_filled = _conduction_store()
    for new in np.unique(pose[~is_filled[pose]]):
        slow = _stops()
        beats = measured_beats(_normal_beats(int(new), 0, slow, np.zeros(len(slow)), 1.0), _reference(len(slow)))
        qrs[new], jtpeak[new], is_filled[new] = np.maximum.accumulate(beats.qrs_ms), beats.jtpeak_ms, True
    return qrs, jtpeak


@cache
def _knob_store() -> _Store:
    shape = (seats(), len(TERRITORIES), int(MOST_GAIN * GAINS_PER_UNIT) + 1)
    full = (*shape, len(_x()))
    return _with_shipped((np.full(full, np.nan), np.full(full, np.nan), np.zeros(shape, bool)), "knob")


KNOBS = Path(__file__).with_name("beat_targets.npz")  # of every pose and scar, measured beforehand
_USUAL_GAINS = range(4, 26)  # tenths


def save_knobs(path: Path = KNOBS) -> None:
    """Measure and write the knobs of every pose, scar and usual T gain."""
    grid = np.meshgrid(np.arange(len(poses())), np.arange(len(TERRITORIES)), np.array(_USUAL_GAINS), indexing="ij")
    _knob(*(axis.ravel() for axis in grid))
    _conduction(np.arange(len(poses())))
    arrays = {f"knob_{i}": part for i, part in enumerate(_eikonal(_knob_store()))}
    arrays |= {f"conduction_{i}": part for i, part in enumerate(_eikonal(_conduction_store()))}
    with atomic_write(path) as aside:
        np.savez_compressed(aside, made_by=np.array(made_by()), **arrays)  # type: ignore[arg-type]


def _eikonal(store: _Store) -> _Store:
    """The seats of the eikonal's tissue, the only one that every process has in the same slot."""
    first, second, is_filled = (part[: len(poses())] for part in store)
    return first, second, is_filled


def _with_shipped(store: _Store, name: str) -> _Store:
    """The store, filled with what was measured beforehand if it was made by the heart as it is."""
    if KNOBS.is_file():
        with np.load(KNOBS, allow_pickle=False) as file:
            if str(file["made_by"]) == made_by():
                for i, part in enumerate(store):
                    part[: len(poses())] = file[f"{name}_{i}"]
    return store


def _knob(pose: np.ndarray, scar: np.ndarray, gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By pose, scar and T gain: Tpeak-Tend and J-Tpeak [ms] at each stop of x, at the reference duration."""
    tpeak_tend, jtpeak, is_filled = _knob_store()
    lacking = ~is_filled[pose, scar, gain]
    if lacking.any():
        for new in np.unique(np.stack([pose, scar, gain], axis=1)[lacking], axis=0):
            p, s, g = map(int, new)
            slow, x = np.ones(len(_x())), _x()
            beats = measured_beats(_normal_beats(p, s, slow, x, g / GAINS_PER_UNIT), _reference(len(x)))
            tpeak_tend[p, s, g] = np.maximum.accumulate(beats.tpeak_tend_ms)
            jtpeak[p, s, g], is_filled[p, s, g] = beats.jtpeak_ms, True
    return tpeak_tend, jtpeak


def _reference(n: int) -> np.ndarray:
    return np.full(n, float(heart_table()["repolarisation_knob"]["reference_apd_ms"]))


def _normal_beats(pose: int, scar: int, slowness: np.ndarray, x: np.ndarray, t_gain: float) -> Shapes:
    n = len(slowness)
    none = np.zeros(n, np.int64)
    return Shapes(
        none + pose, none + scar, none, none, np.zeros(n), slowness, phase3_ms(x), dispersion(x, np.full(n, t_gain))
    )  # fmt: skip
