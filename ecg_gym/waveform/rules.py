"""``Rules``: the numbers the fiducials hang on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ecg_gym.waveform.r_peaks import RATE_HZ

MS = RATE_HZ / 1000  # samples per millisecond


@dataclass(frozen=True)
class Rules:
    """The numbers the fiducials hang on; chosen on the 141 unpaced records of LUDB and virtual strips of all rhythms.

    All of LUDB was looked at while choosing: its figures are in-sample
    (training.evaluation.virtual_patient.delineation).
    """

    qrs_smooth_ms: float = 2.5  # Gaussian smoothing before the spatial velocity of the QRS
    velocity_fraction: float = 0.025  # of the peak spatial velocity, above its floor: below it the QRS is over
    quiet_ms: float = 8.0  # and it stays below for this long
    largest_floor: float = 0.05  # of the peak spatial velocity: a higher floor is a wave, not noise
    longest_half_qrs_ms: float = 160.0  # from its steepest point to either end
    wide_ms: float = 115.0  # a QRS from this width on
    widest_share: float = 0.32  # must leave the rest of the cycle free: fast wide rhythms have no ST segment to end it
    p_smooth_ms: float = 10.0  # Gaussian smoothing before the P wave is read
    p_half_ms: float = 36.0  # a P wave is bent against the line between points this far to either side
    p_slope: float = 0.36  # of its steepest slope: before it is reached the P wave has not begun
    usual_p_peak_ms: float = 150.0  # before the QRS onset; only to choose between candidates
    p_peak_spread_ms: float = 65.0  # and this far around it a candidate counts as much as one 1.6 times as high
    p_away: float = 0.5  # of a candidate's bend it must stand away from the level before the QRS
    foot_within_ms: float = 120.0  # of a taller wave: a bump that turns against it is only its foot
    flutter_apart_ms: tuple[float, float] = (120.0, 320.0)  # a wave like the P wave this long before it is flutter
    flutter_cosine: float = 0.8  # if it points the same way
    flutter_size: float = 0.6  # and is at least this share of its size
    wave_smooth_ms: float = 8.0  # Gaussian smoothing before the velocity of the atria is read
    restless: float = 0.21  # 10th over 90th percentile of that velocity: from here on the atria never rest
    restless_if_again: float = 0.15  # the same where waves come again within `again_ms`
    again_ms: tuple[float, float] = (160.0, 330.0)  # cycle of flutter
    again: float = 0.5  # correlation of what lies outside the QRS with itself, so much later
    again_hides_t: float = 0.6  # from which on the end of T cannot be told from a wave of the atria
    always_below_ms: float = 480.0  # RR at which one of two flutter waves is hidden, and restlessness alone must do
    least_narrower: float = 0.6  # of its width a QRS keeps when such waves are taken off its ends; else it was wide
    wave_before_ms: float = 90.0  # the last of these waves before the QRS is no part of the T wave
    conducted_sharpness: float = 40.0  # [1/s] largest velocity over size, of a QRS that the conduction system fires
    fastest_flutter_ms: float = 400.0  # shorter and irregular cycles are no flutter
    regular: float = 0.12  # SD of RR over its mean
    p_likeness: float = 0.45  # mean correlation of the single P waves with the others
    least_p_mv: float = 0.015  # vector magnitude of the smallest P wave that is believed
    t_smooth_ms: float = 7.0  # Gaussian smoothing of the vector magnitude of the T wave
    usual_t_peak_s: float = 0.28  # times sqrt(RR/s) after R; only to choose between candidates
    t_peak_spread_s: float = 0.15  # and this far around it a candidate counts as much as one 1.6 times as high
    t_tail: float = 1.0  # 1 is the tangent; a reader's "return to the baseline" lies further along it, see MANUAL
    least_t_mv: float = 0.05  # vector magnitude of the smallest T wave that is believed


RULES = Rules()
MANUAL = replace(RULES, t_tail=1.75)  # where the cardiologists of LUDB put the T end, on average (in-sample)


class Numbers(NamedTuple):
    """Rules as compiled code reads them: lengths in samples, kernels of unit area."""

    qrs_kernel: np.ndarray  # float32
    p_kernel: np.ndarray
    t_kernel: np.ndarray
    bump_kernel: np.ndarray
    velocity_fraction: float
    largest_floor: float
    quiet: int
    longest_half_qrs: int
    p_half: int
    p_slope: float
    usual_p_peak_ms: float
    p_peak_spread_ms: float
    p_away: float
    foot_within: float
    flutter_first: int
    flutter_last: int
    flutter_cosine: float
    flutter_size: float
    p_likeness: float
    least_p_mv: float
    usual_t_peak_s: float
    t_peak_spread_s: float
    t_tail: float
    least_t_mv: float
    wide: float
    widest_share: float
    wave_kernel: np.ndarray
    restless: float
    restless_if_again: float
    again_first: int
    again_last: int
    again: float
    again_hides_t: float
    always_below_ms: float
    wave_before: int
    conducted_sharpness: float
    fastest_flutter_ms: float
    regular: float
    least_narrower: float


@lru_cache(maxsize=16)
def numbers(rules: Rules) -> Numbers:
    """The rules for compiled code."""
    half = round(rules.p_half_ms * MS)
    near, far = rules.flutter_apart_ms
    flat = half // 2 | 1
    return Numbers(
        gaussian(rules.qrs_smooth_ms * MS), gaussian(rules.p_smooth_ms * MS), gaussian(rules.t_smooth_ms * MS),
        np.full(flat, 1 / flat, np.float32), rules.velocity_fraction, rules.largest_floor, round(rules.quiet_ms * MS),
        round(rules.longest_half_qrs_ms * MS), half, rules.p_slope, rules.usual_p_peak_ms, rules.p_peak_spread_ms,
        rules.p_away, rules.foot_within_ms * MS, round(far * MS), round(near * MS), rules.flutter_cosine,
        rules.flutter_size, rules.p_likeness, rules.least_p_mv, rules.usual_t_peak_s, rules.t_peak_spread_s,
        rules.t_tail, rules.least_t_mv, rules.wide_ms * MS, rules.widest_share, gaussian(rules.wave_smooth_ms * MS),
        rules.restless, rules.restless_if_again, round(rules.again_ms[0] * MS), round(rules.again_ms[1] * MS),
        rules.again, rules.again_hides_t, rules.always_below_ms, round(rules.wave_before_ms * MS),
        rules.conducted_sharpness, rules.fastest_flutter_ms, rules.regular,
        rules.least_narrower,
    )  # fmt: skip


def gaussian(sigma: float) -> np.ndarray:
    """A Gaussian of that SD [samples], cut off at four of them, of unit area, float32."""
    reach = int(4 * sigma + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return (kernel / kernel.sum()).astype(np.float32)
