"""``draw_strips``: the samples of planned strips, all rows at once, band-limited to half of the sampling rate.

Every beat is the inverse transform of a short period of its own, shifted between samples by a phase and added to the
strip. P waves and pacing spikes are beats that are always the same. Waves without beats and noise are added behind.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache

import numpy as np
from scipy.fft import irfft, next_fast_len

from ecg_gym.compiled import compiled
from ecg_gym.core import independent_from_leads
from ecg_gym.virtual_patient.anatomy import heart_table
from ecg_gym.virtual_patient.atrial_beats import apd_s, atrial_spectra
from ecg_gym.virtual_patient.beat_spectra import (
    BEFORE_S,
    BIN_HZ,
    LEADS,
    PERIOD_S,
    Shapes,
    bins_kept,
    fill_beats,
    spectra,
)
from ecg_gym.virtual_patient.beat_trains import spike_before_s
from ecg_gym.virtual_patient.fibrillation import add_waves
from ecg_gym.virtual_patient.lead_field import leads_from_electrodes
from ecg_gym.virtual_patient.noise import add_noise
from ecg_gym.virtual_patient.strip_plan import StripPlan, row_of

_CHUNK = 16  # rows at once: their beats stay in the cache
_SPIKE_S = 2 / 512  # width of a pacing spike
_FINE_FROM_HZ = 205.0  # sampling rates from which firing times are sorted more finely


def draw_strips(plan: StripPlan, rate_hz: float) -> np.ndarray:
    """The strips ``(B, 12, T)`` float32 [mV] at ``rate_hz``; a row does not depend on the rows beside it."""
    samples = round(plan.seconds * rate_hz)
    out = np.zeros((len(plan), 12, samples), np.float32)
    for start in range(0, len(plan), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(plan)))
        part = row_of(plan, rows)
        out[rows] = _draw(part, rate_hz, samples)
    return out


def _draw(plan: StripPlan, rate_hz: float, samples: int) -> np.ndarray:
    strip = np.zeros((len(plan), samples, LEADS), np.float32)
    doubled = _needs_long_period(plan)
    for twice in (False, True):
        rows = np.flatnonzero(doubled == twice)
        if len(rows):
            _add_beats(plan, rows, rate_hz, 2 if twice else 1, strip)
    add_waves(plan, rate_hz, strip)
    strip *= plan.hearts.r_gain.astype(np.float32)[:, None, None]
    out = np.empty((len(plan), 12, samples), np.float32)
    add_noise(plan.keys, plan.hearts.noise, rate_hz, strip, out)
    return out


def _needs_long_period(plan: StripPlan) -> np.ndarray:
    """``(B,)`` bool: some beat would not be over within ``PERIOD_S``."""
    b, trains = len(plan), plan.trains
    out, longest = np.zeros(b, bool), np.zeros(b)
    _longest(trains.mean_ms, trains.beats, longest)
    for kind in np.unique(trains.kind[trains.kind >= 0]):
        there = (trains.kind == kind).any(axis=1)
        shapes = _shapes(plan, np.arange(b), np.full(b, kind), np.full(b, 0.0))
        out |= there & (shapes.period_s(longest) > PERIOD_S)
    return out


@compiled
def _longest(mean: np.ndarray, beats: np.ndarray, out: np.ndarray) -> None:
    for b in range(len(beats)):
        for i in range(beats[b]):
            out[b] = max(out[b], mean[b, i])


def _shapes(plan: StripPlan, rows: np.ndarray, kind: np.ndarray, fusion_ms: np.ndarray) -> Shapes:
    hearts, targets = plan.hearts, plan.targets
    return Shapes(
        hearts.pose[rows], hearts.scar[rows], hearts.injury[rows], kind, fusion_ms, targets.slowness[rows],
        targets.phase3_ms[rows], targets.dispersion[rows],
    )  # fmt: skip


def _add_beats(plan: StripPlan, rows: np.ndarray, rate_hz: float, periods: int, strip: np.ndarray) -> None:
    """Ventricular beats, P waves and spikes of some rows, added to ``strip (B, T, 8)``."""
    length = 2 * next_fast_len(math.ceil(PERIOD_S * rate_hz / 2 - 1e-9), real=True) * periods
    period_s = length / rate_hz
    lines, gain = bins_kept(rate_hz, period_s), _low_pass(rate_hz, length)
    bins = round(period_s * BIN_HZ * (2 if rate_hz > _FINE_FROM_HZ else 1))
    bin_hz = next_fast_len(bins, real=True) / period_s
    ramp = float(heart_table()["action_potential"]["plateau_fall"])
    events = _events(plan, rows, rate_hz)
    row, kind, fusion, at_s, mean_s = events
    if len(row):
        unlike = np.stack([row, kind, np.round(fusion).astype(np.int64)], axis=1)
        alike, shape = _grouped(unlike)
        of = spectra(_shapes(plan, alike[:, 0], alike[:, 1], alike[:, 2].astype(float)), period_s, lines, bin_hz)
        first, shift = _placed(at_s - plan.start_s[row], rate_hz)
        spectrum = np.empty((len(row), length // 2 + 1, LEADS), np.complex64)
        spectrum[:, lines:] = 0
        fill_beats(
            of.parts, of.moments, of.losses, of.upstroke_s, of.phase3_s, of.early_s, ramp, period_s, gain * rate_hz,
            shape, shift, mean_s, spectrum,
        )  # fmt: skip
        _overlap(irfft(spectrum, length, axis=1), row, first, np.ones(len(row), np.float32), strip)
    _add_p_waves(plan, rows, rate_hz, period_s, length, lines, gain, bin_hz, strip)
    _add_spikes(plan, rows, rate_hz, period_s, length, lines, gain, strip)


def _events(plan: StripPlan, rows: np.ndarray, rate_hz: float) -> tuple[np.ndarray, ...]:
    """Row, kind, fusion [ms], firing time [s] and mean duration [s] of every beat that the strips could hold."""
    trains = plan.trains
    there = (np.arange(trains.qrs_s.shape[1]) < trains.beats[rows, None]) & (trains.kind[rows] >= 0)
    at = trains.qrs_s[rows]
    with np.errstate(invalid="ignore"):
        there &= at < plan.start_s[rows, None] + plan.seconds + BEFORE_S
    local, beat = np.nonzero(there)
    row = rows[local]
    return row, trains.kind[row, beat], trains.fusion_ms[row, beat], at[local, beat], trains.mean_ms[row, beat] / 1000


def _grouped(unlike: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows of ``(Q, 3)`` in their order, and which of them each is."""
    code = (unlike[:, 0] * 64 + unlike[:, 1]) * 1024 + unlike[:, 2]
    _, first, which = np.unique(code, return_index=True, return_inverse=True)
    return unlike[first], which


def _placed(at_s: np.ndarray, rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """The sample at which each beat's period begins, and how much later than that it should [s]."""
    position = (at_s - BEFORE_S) * rate_hz
    first = np.floor(position)
    return first.astype(np.int64), (position - first) / rate_hz


@lru_cache(maxsize=32)
def _low_pass(rate_hz: float, length: int) -> np.ndarray:
    """Gain of each line: 1 up to 0.42 of the rate, 0 from 0.5 on."""
    hz = np.arange(bins_kept(rate_hz, length / rate_hz)) * rate_hz / length
    return 0.5 * (1 + np.cos(np.pi * np.clip((hz / rate_hz - 0.42) / 0.08, 0, 1)))


def _add_p_waves(
    plan: StripPlan, rows: np.ndarray, rate_hz: float, period_s: float, length: int, lines: int, gain: np.ndarray,
    bin_hz: float, strip: np.ndarray,
) -> None:  # fmt: skip
    trains = plan.trains
    rows = rows[trains.p_waves[rows] > 0]
    if not len(rows):
        return
    conduction = plan.atrial_conduction[rows]
    of = atrial_spectra(plan.hearts.pose[rows], conduction, period_s, lines, bin_hz)
    base = np.empty((len(rows), length // 2 + 1, LEADS), np.complex64)
    base[:, lines:] = 0
    none = np.zeros(len(rows))
    ramp = float(heart_table()["action_potential"]["plateau_fall"])
    fill_beats(
        of.parts, of.moments, of.losses, of.upstroke_s, of.phase3_s, 0.0, ramp, period_s, gain * rate_hz,
        np.arange(len(rows)), none, none + apd_s(), base,
    )  # fmt: skip
    height = (plan.hearts.p_gain[rows] * conduction).astype(np.float32)
    there = np.arange(trains.p_s.shape[1]) < trains.p_waves[rows, None]
    local, wave = np.nonzero(there)
    first, shift = _placed(trains.p_s[rows[local], wave] - plan.start_s[rows[local]], rate_hz)
    _add_repeated(base, local, rows[local], first, shift, height[local], period_s, length, strip)


def _add_spikes(
    plan: StripPlan, rows: np.ndarray, rate_hz: float, period_s: float, length: int, lines: int, gain: np.ndarray,
    strip: np.ndarray,
) -> None:  # fmt: skip
    trains = plan.trains
    rows = rows[trains.paced[rows]]
    if not len(rows):
        return
    omega = 2 * np.pi * np.arange(lines) / period_s
    line = gain * rate_hz * _SPIKE_S * np.sinc(omega * _SPIKE_S / (2 * np.pi))
    line = line * np.exp(-1j * omega * (BEFORE_S + _SPIKE_S / 2))
    base = np.zeros((1, length // 2 + 1, LEADS), np.complex64)
    base[0, :lines] = line[:, None] * _spike_leads()
    there = np.arange(trains.qrs_s.shape[1]) < trains.beats[rows, None]
    local, beat = np.nonzero(there)
    row = rows[local]
    first, shift = _placed(trains.qrs_s[row, beat] - spike_before_s() - plan.start_s[row], rate_hz)
    one = np.ones(len(row), np.float32)
    _add_repeated(base, np.zeros(len(row), np.int64), row, first, shift, one, period_s, length, strip)


@cache
def _spike_leads() -> np.ndarray:
    """``(8,)`` [mV] height of a pacing spike."""
    return independent_from_leads(leads_from_electrodes(np.array(heart_table()["spike_mv"])[:, None]))[:, 0]


def _add_repeated(
    base: np.ndarray, which: np.ndarray, row: np.ndarray, first: np.ndarray, shift: np.ndarray, height: np.ndarray,
    period_s: float, length: int, strip: np.ndarray,
) -> None:  # fmt: skip
    """Adds beats that are always the same, ``base`` in frequency, wherever they reach into the strips."""
    inside = (first > -length) & (first < strip.shape[1])
    which, row, first, shift, height = (part[inside] for part in (which, row, first, shift, height))
    if not len(row):
        return
    spectrum = np.empty((len(row), base.shape[1], LEADS), np.complex64)
    _shifted(base, which, shift, period_s, spectrum)
    _overlap(irfft(spectrum, length, axis=1), row, first, height, strip)


@compiled
def _shifted(base: np.ndarray, which: np.ndarray, shift_s: np.ndarray, period_s: float, out: np.ndarray) -> None:
    for q in range(len(which)):
        angle = 2 * math.pi / period_s * shift_s[q]
        turn, here = complex(math.cos(angle), -math.sin(angle)), complex(1, 0)
        for k in range(base.shape[1]):
            factor = np.complex64(here)
            for lead in range(LEADS):
                out[q, k, lead] = base[which[q], k, lead] * factor
            here *= turn


@compiled
def _overlap(beats: np.ndarray, row: np.ndarray, first: np.ndarray, height: np.ndarray, strip: np.ndarray) -> None:
    samples = strip.shape[1]
    for q in range(len(row)):
        target, gain = strip[row[q]], height[q]
        for j in range(max(0, -first[q]), min(beats.shape[1], samples - first[q])):
            for lead in range(LEADS):
                target[first[q] + j, lead] += gain * beats[q, j, lead]
