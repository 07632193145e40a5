"""Leads that contradict each other: exchanged, equal, upside down, or recorded with two electrodes reversed.

Of the six limb leads two are independent (Einthoven 1908, Goldberger 1942). Where the recorded ones do not obey, every
exchange of two and every inversion of one is tried; the one that restores the laws is the explanation. What the laws
cannot see (reversed arm electrodes, chest leads) is told by simple signs, and only suspected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from ecg_gym.core import ECG, INDEPENDENT_LEADS, LEADS
from ecg_gym.waveform.beats import median_beat
from ecg_gym.waveform.filters import remove_baseline

LIMB, CHEST = LEADS[:6], LEADS[6:]
OBEYS = 0.15  # rms residual over rms of the limb leads up to which they obey; recorders filter leads one by one
RESTORES = 0.5  # an explanation must leave less than this share of the residual
EQUAL = 0.02  # rms difference over rms of two leads that are the same signal
LEAST_MV = 0.02  # rms below which a lead says nothing
# The signs below are looked for on the median beat. On 416 records of PTB-XL, LUDB and the Challenge 2020 they raised
# 1, 0 and 2 alarms as recorded, and found 82 % of reversed arms, 65 % of inverted V2 to V5, and 66 % (neighbours 23 %)
# of exchanged chest leads.
REVERSED = -0.5  # correlation of I with V6 below which the arm electrodes are suspected to be reversed
UPSIDE_DOWN = -0.4  # correlation of a chest lead with both neighbours below which it is suspected to be inverted
ALIKE = 0.4  # correlation of those neighbours from which they are alike
SHORTER = 0.75  # of the way from V1 to V6: an exchange that shortens it to less than this is suspected


@dataclass(frozen=True)
class LeadError:
    """One contradiction, what explains it, and how to undo it."""

    kind: str  # "exchanged", "inverted", "arms", "equal", "contradiction"
    leads: tuple[str, ...]
    sentence: str
    fixable: bool  # the laws of the limb leads leave one explanation

    def repaired(self, ecg: ECG) -> ECG:
        """The strip with this undone; raises ValueError where it is not known how."""
        signal = ecg.signal.copy()
        rows = [LEADS.index(lead) for lead in self.leads]
        if self.kind == "exchanged":
            signal[..., rows, :] = ecg.signal[..., rows[::-1], :]
        elif self.kind == "inverted":
            signal[..., rows, :] = -ecg.signal[..., rows, :]
        else:
            raise ValueError(f"{self.sentence}; expected leads exchanged or inverted; correct the record by hand")
        return ECG(signal, ecg.rate_hz, ecg.missing)


def lead_errors(ecg: ECG) -> tuple[LeadError, ...]:
    """What contradicts in one strip ``(12, T)``; empty where nothing does. Missing leads are left out."""
    calm = remove_baseline(ecg.signal[None], ecg.rate_hz)[0].astype(float)
    present = [lead for lead in LEADS if lead not in ecg.missing and _rms(calm[LEADS.index(lead)]) >= LEAST_MV]
    errors = [*_equal(calm, present)]
    lawful = True
    if {"I", "II"} <= set(present):
        limb = [lead for lead in LIMB if lead not in ecg.missing]
        lawful = residual(calm, limb) <= OBEYS
        errors += [] if lawful else [_explanation(calm, limb)]
    beat = median_beat(ECG(ecg.signal[None], ecg.rate_hz))[0]
    if beat is not None:
        beats = dict(zip(INDEPENDENT_LEADS, beat.signal))
        errors += _arms(beats) if lawful and {"I", "II", "V6"} <= set(present) else []
        errors += _chest(beats) if set(CHEST) <= set(present) else []
    return tuple(errors)


def residual(signal: np.ndarray, limb: Sequence[str] = LIMB) -> float:
    """How far the limb leads of ``(12, T)`` [mV] are from Einthoven's and Goldberger's laws: rms over rms, 0 is exact.

    The dependent ones in ``limb`` are compared with what I and II say: III = II - I, aVR = -(I + II)/2,
    aVL = I - II/2, aVF = II - I/2.
    """
    one, two = signal[0], signal[1]
    laws = {"III": two - one, "aVR": -(one + two) / 2, "aVL": one - two / 2, "aVF": two - one / 2}
    dependent = [lead for lead in limb if lead in laws]
    if not dependent:
        return 0.0
    off = np.stack([signal[LEADS.index(lead)] - laws[lead] for lead in dependent])
    scale = np.stack([signal[LEADS.index(lead)] for lead in limb])
    return float(np.sqrt((off**2).mean()) / max(float(np.sqrt((scale**2).mean())), LEAST_MV))


def _explanation(signal: np.ndarray, limb: Sequence[str]) -> LeadError:
    """The one exchange or inversion that restores the laws, or the statement that none does."""
    now = residual(signal, limb)
    trials: list[tuple[float, str, tuple[str, ...]]] = []
    for pair in combinations(limb, 2):
        trials.append((residual(_exchanged(signal, pair), limb), "exchanged", pair))
    for lead in limb:
        trials.append((residual(_inverted(signal, lead), limb), "inverted", (lead,)))
    trials.sort()
    (best, kind, leads), second = trials[0], trials[1][0]
    if best <= OBEYS and best < RESTORES * now and second > max(OBEYS, 2 * best):
        done = f"{leads[0]} and {leads[1]} are exchanged" if kind == "exchanged" else f"{leads[0]} is upside down"
        return LeadError(kind, leads, f"limb leads contradict each other: {done} (Einthoven, Goldberger)", True)
    reason = f"limb leads contradict each other by {100 * now:.0f} % of their size, and no single exchange explains it"
    return LeadError("contradiction", tuple(limb), reason, False)


def _arms(beats: Mapping[str, np.ndarray]) -> list[LeadError]:
    """Reversed arm electrodes: lead I upside down against V6, while aVR points with it."""
    if _alike(beats["I"], beats["V6"]) < REVERSED and _alike(-(beats["I"] + beats["II"]), beats["V6"]) > 0:
        reason = (
            "lead I is upside down against V6 and aVR is not: are the arm electrodes reversed (or is it dextrocardia)?"
        )
        return [LeadError("arms", ("I", "II", "III", "aVR", "aVL"), reason, False)]
    return []


def _equal(signal: np.ndarray, present: Sequence[str]) -> list[LeadError]:
    """Pairs of leads that hold the same signal."""
    equal = []
    for a, b in combinations(present, 2):
        one, two = signal[LEADS.index(a)], signal[LEADS.index(b)]
        if _rms(one - two) < EQUAL * max(_rms(one), _rms(two)):
            equal.append(LeadError("equal", (a, b), f"{a} and {b} hold the same signal: one was not recorded", False))
    return equal


def _chest(beats: Mapping[str, np.ndarray]) -> list[LeadError]:
    """A chest lead inverted against both neighbours, or an exchange that makes the way from V1 to V6 shorter."""
    for before, lead, after in zip(CHEST, CHEST[1:], CHEST[2:]):
        low = max(_alike(beats[lead], beats[before]), _alike(beats[lead], beats[after]))
        if low < UPSIDE_DOWN and _alike(beats[before], beats[after]) > ALIKE:
            return [LeadError("inverted", (lead,), f"{lead} is upside down against {before} and {after}", False)]
    usual = _way([beats[lead] for lead in CHEST])
    trials = []
    for i, j in combinations(range(6), 2):
        order = list(CHEST)
        order[i], order[j] = order[j], order[i]
        trials.append((_way([beats[lead] for lead in order]), (CHEST[i], CHEST[j])))
    shortest, pair = min(trials)
    if shortest < SHORTER * usual:
        reason = f"the chest leads change from V1 to V6 in leaps; are {pair[0]} and {pair[1]} exchanged?"
        return [LeadError("exchanged", pair, reason, False)]
    return []


def _way(beats: Sequence[np.ndarray]) -> float:
    """How far it is from one beat to the next, summed [mV]."""
    return float(sum(_rms(b - a) for a, b in pairwise(beats)))


def _exchanged(signal: np.ndarray, pair: tuple[str, str]) -> np.ndarray:
    rows = [LEADS.index(lead) for lead in pair]
    changed = signal.copy()
    changed[rows] = signal[rows[::-1]]
    return changed


def _inverted(signal: np.ndarray, lead: str) -> np.ndarray:
    changed = signal.copy()
    changed[LEADS.index(lead)] *= -1
    return changed


def _alike(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation."""
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / max(np.sqrt((a @ a) * (b @ b)), 1e-12))


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt((x**2).mean()))
