"""Beats in the frequency domain: what the eight independent leads see of whole batches of beats.

    V_i(t) = w_i [up(t - T_i) - drop_i down(t - RT_i)] - w_i ramp (t - T_i)/m   for T_i < t < RT_i
    RT_i = T_i + m + d_i,   drop_i = 1 - ramp (m + d_i)/m

T_i is when node i fires, m the mean action potential duration of the beat, d_i how much longer node i lasts, w_i its
lead weight times its plateau. Both steps are logistic. The spectrum of a beat is therefore a sum of three spectra that
depend on the heart only (F of the firing times, L and D of the repolarisations with weights w and w d [s]), with
factors that depend on the beat:

    V(om) = [1/(i om) - r/(i om)^2] F + e^(-i om m) {[r/(i om)^2 - (1 - ramp)/(i om)] L + r/(i om) D},   r = ramp/m

Injured tissue falls from its full plateau to its lower one within ``early_fall_ms``; a fourth spectrum E holds what it
loses. Nodes are sorted into bins of a fine grid, so that one transform per heart and channel replaces the sum over
them. Arrays keep the channel last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from scipy.fft import irfft, rfft

from ecg_gym.compiled import compiled
from ecg_gym.core import independent_from_leads
from ecg_gym.virtual_patient import activation
from ecg_gym.virtual_patient.anatomy import atria, heart_table, ventricles
from ecg_gym.virtual_patient.excitation import MOST_TISSUES, tissue_in
from ecg_gym.virtual_patient.heart import poses
from ecg_gym.virtual_patient.lead_field import electrode_matrix, leads_from_electrodes

KINDS = ("normal", "lbbb", "rbbb", "bifascicular", "preexcited", "paced", "escape", "ectopic_rvot", "ectopic_lv")
TERRITORIES = ("", "anterior", "inferior", "lateral")  # of scars and of injuries, by their code
PREEXCITED = KINDS.index("preexcited")
BEFORE_S = 0.15  # a beat's period begins this long before its first cell fires
PERIOD_S = 1.25  # of a beat; 128 samples of the model grid
TAIL = 6.0  # time constants after which a logistic step counts as over
BIN_HZ = 1024.0  # rate of the bins that firing times are sorted into
LEADS = 8
_LATEST_FUSION_MS = 400  # beyond, the normal path never arrives
_PATHS = len(KINDS) + _LATEST_FUSION_MS + 1  # maps of one tissue


@dataclass(frozen=True)
class Shapes:
    """S kinds of beats of some hearts, as arrays ``(S,)``."""

    pose: np.ndarray  # Heart.seat: index into heart.poses(), plus their number for every tissue before
    scar: np.ndarray  # code of TERRITORIES
    injury: np.ndarray  # code of TERRITORIES
    kind: np.ndarray  # code of KINDS
    fusion_ms: np.ndarray  # how long after the accessory pathway the normal path arrives; only for "preexcited"
    slowness: np.ndarray  # factor on conduction times
    phase3_ms: np.ndarray  # time constant of the final repolarisation
    dispersion: np.ndarray  # factor on the pattern of action potential durations

    def __len__(self) -> int:
        return len(self.pose)

    def __getitem__(self, rows: Any) -> Shapes:
        return Shapes(*(np.atleast_1d(value[rows]) for value in vars(self).values()))

    def activation_ms(self) -> np.ndarray:
        """``(S,)`` [ms] from the first cell's firing to the last one's."""
        index = map_index(self.pose, self.kind, self.fusion_ms, self.slowness)
        return _maps().last_ms[index] * self.slowness

    def period_s(self, mean_ms: np.ndarray) -> np.ndarray:
        """``(S,)`` [s]: ``PERIOD_S``, or twice that for beats that would not be over by then."""
        longest = self.dispersion * _longest_ms(self.pose) + TAIL * self.phase3_ms + self.activation_ms()
        return np.where(BEFORE_S + (mean_ms + longest) / 1000 > PERIOD_S, 2 * PERIOD_S, PERIOD_S)


@dataclass
class _Maps:
    """Activation maps by index, filled as they are needed."""

    times_ms: np.ndarray  # (n, N) float32
    last_ms: np.ndarray  # (n,)
    is_filled: np.ndarray  # (n,) bool


@cache
def _maps() -> _Maps:
    n = MOST_TISSUES * _PATHS
    return _Maps(np.zeros((n, len(ventricles())), np.float32), np.zeros(n), np.zeros(n, bool))


def _fill_map(maps: _Maps, index: int, times_ms: np.ndarray) -> None:
    maps.times_ms[index], maps.last_ms[index], maps.is_filled[index] = times_ms, float(times_ms.max()), True


def map_index(pose: np.ndarray, kind: np.ndarray, fusion_ms: np.ndarray, slowness: np.ndarray) -> np.ndarray:
    """Index ``(S,)`` of the activation map of each kind of beat, which is filled in if it was not there.

    Maps are those of slowness 1; conduction that is slower everywhere scales them.
    """
    maps = _maps()
    late = np.clip(np.round(fusion_ms / slowness), 0, _LATEST_FUSION_MS).astype(np.int64)
    index = pose // len(poses()) * _PATHS + np.where(kind == PREEXCITED, len(KINDS) + late, kind)
    for new in {int(i) for i in index[~maps.is_filled[index]]}:
        slot, path = divmod(new, _PATHS)
        way = ("preexcited", 1.0, float(path - len(KINDS))) if path >= len(KINDS) else (KINDS[path], 1.0, 0.0)
        _fill_map(maps, new, tissue_in(slot).activation_ms(*way))
    return index


def _longest_ms(pose: np.ndarray) -> np.ndarray:
    """``(S,)`` [ms] by how much the longest action potential outlasts the mean, by the tissue of each seat."""
    slots = pose // len(poses())
    longest = np.zeros(int(slots.max(initial=0)) + 1)
    for slot in np.unique(slots):
        longest[slot] = _longer32(int(slot)).max()
    return longest[slots]


@lru_cache(maxsize=512)
def ventricular_rows(pose: int, scar: str) -> np.ndarray:
    """``(9, N)``: what the electrodes see of each ventricular node of a heart in that pose, with that scar."""
    if scar:
        return activation.inert(activation.region(scar), ventricular_rows(pose, ""))
    return electrode_matrix(ventricles(), poses()[pose])


@lru_cache(maxsize=128)
def atrial_rows(pose: int) -> np.ndarray:
    """``(9, N)`` for the atria."""
    return electrode_matrix(atria(), poses()[pose])


@cache
def _lead_weights() -> tuple[np.ndarray, np.ndarray]:
    """``(poses x scars, N, 8)`` float32 [mV], filled as needed, and which are filled."""
    n = len(poses()) * len(TERRITORIES)
    return np.zeros((n, len(ventricles()), LEADS), np.float32), np.zeros(n, bool)


def lead_weight_index(pose: np.ndarray, scar: np.ndarray) -> np.ndarray:
    """Index ``(S,)`` into the lead weights, filled in where they were not there."""
    weights, is_filled = _lead_weights()
    index = pose % len(poses()) * len(TERRITORIES) + scar
    for new in {int(i) for i in index[~is_filled[index]]}:
        rows = ventricular_rows(new // len(TERRITORIES), TERRITORIES[new % len(TERRITORIES)])
        weights[new], is_filled[new] = independent_from_leads(leads_from_electrodes(rows)).T, True
    return index


@cache
def _injuries() -> tuple[np.ndarray, np.ndarray]:
    """By the code of the injured territory ``(4, N)``: how much shorter action potentials are [ms], and the plateau."""
    table, n = heart_table()["injury"], len(ventricles())
    inside = np.stack([activation.region(name) if name else np.zeros(n, bool) for name in TERRITORIES])
    shorter, plateau = inside * table["shorter_ms"], np.where(inside, 1 - table["plateau_loss"], 1.0)
    return shorter.astype(np.float32), plateau.astype(np.float32)


@compiled
def _sort_into_bins(
    weights: np.ndarray, tissue: np.ndarray, times: np.ndarray, path: np.ndarray, slow: np.ndarray, spread: np.ndarray,
    longer: np.ndarray, shorter: np.ndarray, plateau: np.ndarray, injury: np.ndarray, per_ms: float, out: np.ndarray,
    moments: np.ndarray,
) -> None:  # fmt: skip
    """Densities of events ``out (S, bins, 24)``: F, L and D; of repolarisations at T + d, bins are taken in a circle.

    ``moments (S, 3, 8)`` are the sums of w, w d and w d^2 [s] over the nodes.
    """
    n, bins = weights.shape[1], out.shape[1]
    before = np.float32(BEFORE_S * 1000)
    for s in range(len(slow)):
        density = out[s]
        density[:] = 0
        w, t, level, less = weights[tissue[s]], times[path[s]], plateau[injury[s]], shorter[injury[s]]
        zero, one, two = np.zeros(LEADS), np.zeros(LEADS), np.zeros(LEADS)
        for i in range(n):
            d = np.float32(spread[s]) * longer[i] - less[i]
            fired = (t[i] * np.float32(slow[s]) + before) * np.float32(per_ms)
            ended = fired + (d + before) * np.float32(per_ms)
            a, b = math.floor(fired), math.floor(ended)
            fa, fb = fired - np.float32(a), ended - np.float32(b)
            a0, b0 = a % bins, b % bins
            a1, b1 = (a + 1) % bins, (b + 1) % bins
            seconds = d * np.float32(1e-3)
            for lead in range(LEADS):
                value = w[i, lead] * level[i]
                late = value * fb
                early = value - late
                density[a0, lead] += value * (np.float32(1) - fa)
                density[a1, lead] += value * fa
                density[b0, LEADS + lead] += early
                density[b1, LEADS + lead] += late
                density[b0, 2 * LEADS + lead] += early * seconds
                density[b1, 2 * LEADS + lead] += late * seconds
                zero[lead] += value
                one[lead] += value * seconds
                two[lead] += value * seconds * seconds
        moments[s, 0], moments[s, 1], moments[s, 2] = zero, one, two


@compiled
def _sort_losses(
    weights: np.ndarray, tissue: np.ndarray, times: np.ndarray, path: np.ndarray, slow: np.ndarray,
    plateau: np.ndarray, injury: np.ndarray, per_ms: float, out: np.ndarray,
) -> None:  # fmt: skip
    """Densities ``out (S, bins, 8)`` of what injured nodes lose of their plateau, at their firing times."""
    n, bins = weights.shape[1], out.shape[1]
    for s in range(len(slow)):
        out[s] = 0
        w, t, level = weights[tissue[s]], times[path[s]], plateau[injury[s]]
        for i in range(n):
            if level[i] == 1:
                continue
            fired = (t[i] * slow[s] + BEFORE_S * 1000) * per_ms
            a = math.floor(fired)
            part = np.float32(fired - a)
            for lead in range(LEADS):
                lost = w[i, lead] * (np.float32(1) - level[i])
                out[s, a % bins, lead] += lost * (np.float32(1) - part)
                out[s, (a + 1) % bins, lead] += lost * part


@dataclass(frozen=True)
class Spectra:
    """F, L, D (and E) of S shapes, for beats that repeat every ``period_s``."""

    period_s: float
    upstroke_s: np.ndarray  # (S,)
    phase3_s: np.ndarray  # (S,)
    parts: np.ndarray  # (S, K, 24) complex64
    moments: np.ndarray  # (S, 3, 8)
    losses: np.ndarray  # (S or 0, K, 8) complex64; without rows where nobody is injured
    early_s: float = 0.0  # how long injured tissue keeps its full plateau


def bins_kept(rate_hz: float, period_s: float) -> int:
    """How many lines of the spectrum lie below half of that rate."""
    return math.ceil(period_s * rate_hz / 2 - 1e-9)


def spectra(shapes: Shapes, period_s: float, lines: int, bin_hz: float = BIN_HZ) -> Spectra:
    """The spectra of S shapes up to that many lines, ``period_s`` apart in time."""
    table, n = heart_table(), round(period_s * bin_hz)
    (weights, _), (shorter, plateau) = _lead_weights(), _injuries()
    tissue = lead_weight_index(shapes.pose, shapes.scar)
    path = map_index(shapes.pose, shapes.kind, shapes.fusion_ms, shapes.slowness)
    density, moments = np.empty((len(shapes), n, 3 * LEADS), np.float32), np.empty((len(shapes), 3, LEADS))
    slots = shapes.pose // len(poses())
    for slot in np.unique(slots):
        rows = np.flatnonzero(slots == slot)
        part = shapes if len(rows) == len(shapes) else shapes[rows]
        bins, sums = (
            (density, moments) if part is shapes else (np.empty_like(density[rows]), np.empty_like(moments[rows]))
        )
        _sort_into_bins(
            weights, tissue[rows], _maps().times_ms, path[rows], part.slowness, part.dispersion, _longer32(int(slot)),
            shorter, plateau, part.injury, bin_hz / 1000, bins, sums,
        )  # fmt: skip
        if part is not shapes:
            density[rows], moments[rows] = bins, sums
    sharp = _sharpened(lines, n)
    parts = rfft(density, axis=1)[:, :lines] * sharp
    losses = np.empty((0, lines, LEADS), np.complex64)
    if shapes.injury.any():
        lost = np.empty((len(shapes), n, LEADS), np.float32)
        _sort_losses(
            weights, tissue, _maps().times_ms, path, shapes.slowness, plateau, shapes.injury, bin_hz / 1000, lost
        )
        losses = rfft(lost, axis=1)[:, :lines] * sharp
    upstroke = np.full(len(shapes), table["action_potential"]["upstroke_ms"] / 1000)
    early_s = table["injury"]["early_fall_ms"] / 1000
    return Spectra(period_s, upstroke, shapes.phase3_ms / 1000, parts, moments, losses, early_s)


@lru_cache(maxsize=16)
def _sharpened(lines: int, bins: int) -> np.ndarray:
    """``(lines, 1)``: what sorting events linearly into two bins has taken from each line, given back."""
    return (1 / np.sinc(np.arange(lines) / bins) ** 2).astype(np.float32)[:, None]


@cache
def _longer32(slot: int) -> np.ndarray:
    return tissue_in(slot).longer_ms().astype(np.float32)


@compiled
def logistic_gain(omega: float, scale_s: float) -> float:
    """Gain of a logistic step of that time constant at an angular frequency."""
    a = math.pi * omega * scale_s
    if a < 1e-6:
        return 1.0
    return a / math.sinh(a) if a < 80 else 0.0


@compiled
def fill_beats(
    parts: np.ndarray, moments: np.ndarray, losses: np.ndarray, up_s: np.ndarray, phase3_s: np.ndarray, early_s: float,
    ramp: float, period_s: float, gain: np.ndarray, shape: np.ndarray, shift_s: np.ndarray, mean_s: np.ndarray,
    out: np.ndarray,
) -> None:  # fmt: skip
    """Spectra ``out (Q, lines or more, 8)`` of Q beats of shapes ``shape (Q,)``, each ``shift_s`` later.

    They are multiplied by ``gain (lines,)``, which holds the rate, so that an inverse transform gives samples [mV]. A
    beat of mean duration ``mean_s`` fires its first cell ``BEFORE_S`` after the beginning of its period.
    """
    lines, base = parts.shape[1], 2 * math.pi / period_s
    smooth = np.empty(parts.shape, np.complex64)
    for s in range(parts.shape[0]):
        for k in range(lines):
            up = np.float32(logistic_gain(base * k, up_s[s]) * gain[k])
            down = np.float32(logistic_gain(base * k, phase3_s[s]) * gain[k])
            for lead in range(LEADS):
                smooth[s, k, lead] = parts[s, k, lead] * up
            for lead in range(LEADS, 3 * LEADS):
                smooth[s, k, lead] = parts[s, k, lead] * down
    for q in range(len(shape)):
        s, m = shape[q], mean_s[q]
        r = ramp / m
        for k in range(lines, out.shape[1]):
            out[q, k] = 0
        for lead in range(LEADS):  # the mean over the period
            area = moments[s, 0, lead] * m * (1 - ramp / 2) + (1 - ramp) * moments[s, 1, lead]
            area -= r / 2 * moments[s, 2, lead]
            if len(losses):
                area += losses[s, 0, lead].real * early_s
            out[q, 0, lead] = np.float32(area * gain[0])
        turn = complex(math.cos(base * shift_s[q]), -math.sin(base * shift_s[q]))
        wait = complex(math.cos(base * (m - BEFORE_S)), -math.sin(base * (m - BEFORE_S)))
        fall = complex(math.cos(base * early_s), -math.sin(base * early_s))
        here, later, decay = complex(1, 0), complex(1, 0), complex(1, 0)
        for k in range(1, lines):
            here, later, decay = here * turn, later * wait, decay * fall
            once, twice = complex(0, -1 / (base * k)), -1 / (base * k) ** 2
            u = np.complex64(here * (once - r * twice))
            v = np.complex64(here * later * (r * twice - (1 - ramp) * once))
            w = np.complex64(here * later * (r * once))
            for lead in range(LEADS):
                out[q, k, lead] = (
                    u * smooth[s, k, lead] + v * smooth[s, k, LEADS + lead] + w * smooth[s, k, 2 * LEADS + lead]
                )
            if len(losses):
                x = np.complex64(here * once * (1 - decay) * logistic_gain(base * k, up_s[s]) * gain[k])
                for lead in range(LEADS):
                    out[q, k, lead] += x * losses[s, k, lead]


def beats(
    of: Spectra, shape: np.ndarray, shift_s: np.ndarray, mean_s: np.ndarray, gain: np.ndarray, samples: int
) -> np.ndarray:
    """Q beats in time, ``(Q, samples, 8)`` float32 [mV] over one period; ``gain (lines,)`` without the rate."""
    lines = of.parts.shape[1]
    ramp = heart_table()["action_potential"]["plateau_fall"]
    rate = samples / of.period_s
    spectrum = np.empty((len(shape), lines + 1, LEADS), np.complex64)
    fill_beats(
        of.parts, of.moments, of.losses, of.upstroke_s, of.phase3_s, of.early_s, ramp, of.period_s, gain * rate, shape,
        shift_s, mean_s, spectrum,
    )  # fmt: skip
    return irfft(spectrum, samples, axis=1)
