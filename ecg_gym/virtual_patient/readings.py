"""``read_vitals``: what a measurement of each strip would say, told without drawing the strip.

A reading is what the heart shows plus the error of the measurement: a bias and a scatter of the rhythm and the path,
part of it the person's own (the same in every strip), the rest of the strip's. A wide QRS that fills the cycle is not
read, by the rule of the delineation. Findings are a small linear head on what is shown. All figures were measured on
drawn strips by ``ecg-gym study fidelity --fit`` (``readings.npz``). A reading belongs to the key of its strip, so the
same strip reads the same again.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ecg_gym.compiled import compiled_exact
from ecg_gym.core import LEADS
from ecg_gym.virtual_patient import columns
from ecg_gym.virtual_patient.beat_spectra import KINDS
from ecg_gym.virtual_patient.columns import CUFF, FIRST_OFFSET, FIRST_SHOWN, FIRST_USUAL, MAP, NOISE, R_GAIN, RHYTHM
from ecg_gym.virtual_patient.draws import normal, stream, uniform
from ecg_gym.virtual_patient.rhythm_table import rhythms
from ecg_gym.waveform.intervals import JTPEAK_EXPONENT
from ecg_gym.waveform.rules import RULES

TABLE = Path(__file__).with_name("readings.npz")
VIEWS = (
    "clean",
    "noisy",
    "six leads",
    "four leads",
    "three leads",
    "two leads",
    "silent",
)  # how strips are seen, by tier
_SILENT = VIEWS.index("silent")
QUANTITIES = ("hr", "pr", "qrs", "tpeak", "qt", "r", "t")  # errors: hr, r and t relative, the others [ms]
CHANCES = ("no_t", "p_if_shown", "p_if_not", "regular", "few_beats")
N_CLASSES = 3  # of paths: the normal one, bundle branch blocks, others
N_FEATURES = 24 + len(KINDS) + 10
POOR_NOISE = 3.0  # recordings above this level are read as those of the noisy view: population.yaml, recording
_PURPOSE = 64  # of a reading among the streams of a strip's key; one for each view
_CUFF = 96  # and of a pressure
_WIDE_MS, _WIDEST_SHARE = RULES.wide_ms, RULES.widest_share  # a QRS beyond both has no end that can be told
_IRREGULAR = tuple(i for i, row in enumerate(rhythms().values()) if row.get("waves") == "fibrillation")
(_HR, _PR, _QRS, _QT, _JT, _TT, _QTCF, _T) = range(FIRST_SHOWN, FIRST_SHOWN + 8)
_KIND, _ECTOPIC, _COMPLETE = range(FIRST_USUAL, FIRST_USUAL + 3)


class Errors(NamedTuple):
    """How measurements err."""

    bias: np.ndarray  # (views, groups, 7)
    person: np.ndarray  # (views, groups, 7) SD between people
    strip: np.ndarray  # (views, groups, 7) SD between strips of a person
    chance: np.ndarray  # (views, groups, 5) probabilities
    head: np.ndarray  # (views, features, 17) logits of the findings
    scatter: np.ndarray  # (views, 17) SD of the logits


@cache
def errors() -> Errors:
    """The measured table."""
    with np.load(TABLE, allow_pickle=False) as file:
        return Errors(**{name: np.ascontiguousarray(file[name], dtype=float) for name in Errors._fields})


def views_of(tier: Any, missing: Sequence[tuple[str, ...]]) -> np.ndarray:
    """The view ``(B,)`` of strips seen in a tier with these leads off."""
    if tier.clear:
        return np.zeros(len(missing), np.int64)
    place = {tuple(lead for lead in LEADS if lead not in there): 2 + i for i, there in enumerate(tier.lead_sets)}
    return np.array([place.get(off, 1) for off in missing], np.int64)


@compiled_exact
def group_of(heart, now):
    """The group of a strip among the errors: rhythm and class of path."""
    kind = now[_KIND]
    which = 0 if kind == 0 or math.isnan(kind) else 1 if kind < 4 else 2
    return int(heart[RHYTHM]) * N_CLASSES + which


@compiled_exact
def features_of(heart, now, x):
    """What the head of the findings looks at ``x (N_FEATURES,)``."""
    x[:] = 0.0
    x[int(heart[RHYTHM])] = 1.0
    if not math.isnan(now[_KIND]):
        x[24 + int(now[_KIND])] = 1.0
    rest = x[24 + 9 :]
    hr = 70.0 if math.isnan(now[_HR]) else now[_HR]
    pr = 160.0 if math.isnan(now[_PR]) else now[_PR]
    qrs = 95.0 if math.isnan(now[_QRS]) else now[_QRS]
    rest[0] = 1.0 if heart[columns.SCAR] > 0 else 0.0
    rest[1] = 1.0 if heart[columns.INJURY] > 0 else 0.0
    rest[2] = 1.0 if heart[NOISE] > POOR_NOISE else 0.0
    rest[3], rest[4] = max(hr - 100, 0.0) / 30, max(60 - hr, 0.0) / 15
    rest[5], rest[6] = max(pr - 200, 0.0) / 30, max(qrs - 120, 0.0) / 30
    rest[7], rest[8] = now[_ECTOPIC] if not math.isnan(now[_ECTOPIC]) else 0.0, now[_COMPLETE]
    rest[9] = math.log(max(heart[NOISE], 0.1))


@compiled_exact
def cuff_reading(cuff, heart, now, strip):
    """What a cuff says of the mean arterial pressure [mmHg] at the time of a strip."""
    sd = cuff.reading * (cuff.irregular if heart[RHYTHM] in _IRREGULAR else 1.0)
    reading = now[MAP] + cuff.person * heart[CUFF] + sd * normal(stream(strip, _CUFF))
    return max(reading, 5.0)


@compiled_exact
def read_cuff(cuff, hearts, now, strip, out):
    """``cuff_reading`` of every row ``out (B,)``."""
    for b in range(len(hearts)):
        out[b] = cuff_reading(cuff, hearts[b], now[b], strip[b])


@compiled_exact
def read_vitals(table, cuff, hearts, now, strip, alive, view, with_findings, intervals, probabilities):
    """Fill ``intervals (13, B)`` as ``look.READ`` and, ``with_findings``, ``probabilities (17, B)``; ``view (B,)``."""
    x, q, logits = np.empty(N_FEATURES), np.empty(7), np.empty(17)
    bias, person, scatter, chance = table.bias, table.person, table.strip, table.chance
    head, spread = table.head, table.scatter
    for b in range(len(hearts)):
        for i in range(12):
            intervals[i, b] = math.nan
        intervals[12, b] = cuff_reading(cuff, hearts[b], now[b], strip[b])
        intervals[9, b] = intervals[10, b] = intervals[11, b] = 0.0
        v = view[b]
        if v == 0 and hearts[b, NOISE] > POOR_NOISE:
            v = 1
        if v == 0 and hearts[b, NOISE] == 0:
            v = _SILENT
        s = stream(strip[b], _PURPOSE + view[b])
        if with_findings:
            features_of(hearts[b], now[b], x)
            for f in range(17):
                logits[f] = spread[v, f] * normal(s)
            for i in range(N_FEATURES):
                if x[i] != 0:
                    for f in range(17):
                        logits[f] += x[i] * head[v, i, f]
            for f in range(17):
                probabilities[f, b] = 1 / (1 + math.exp(-logits[f]))
        g = group_of(hearts[b], now[b])
        for i in range(7):
            q[i] = bias[v, g, i] + person[v, g, i] * hearts[b, FIRST_OFFSET + i] + scatter[v, g, i] * normal(s)
        lacks_t, has_p, even, few = uniform(s), uniform(s), uniform(s), uniform(s)
        if math.isnan(now[b, _HR]) or few < chance[v, g, 4]:
            continue
        hr = max(now[b, _HR] * (1 + q[0]), 12.0)
        rr_s = 60 / hr
        intervals[0, b], intervals[11, b] = hr, max(np.rint(hr / 6), 2.0)
        intervals[10, b] = 1.0 if even < chance[v, g, 3] else 0.0
        if math.isnan(now[b, _QRS]):
            continue
        if now[b, _QRS] >= _WIDE_MS and now[b, _QRS] >= _WIDEST_SHARE * 1000 * rr_s:  # nobody sees where it ends
            continue
        qrs = max(now[b, _QRS] + q[2], 30.0)
        intervals[2, b], intervals[7, b] = qrs, hearts[b, R_GAIN] * math.exp(q[5])
        has_pr = not math.isnan(now[b, _PR])
        if has_p < (chance[v, g, 1] if has_pr else chance[v, g, 2]):
            intervals[9, b] = 1.0
            intervals[1, b] = max((now[b, _PR] if has_pr else 160.0) + q[1], 60.0)
        if math.isnan(now[b, _QT]) or lacks_t < chance[v, g, 0]:
            continue
        peak = now[b, _QRS] + now[b, _JT] + q[3]
        qt = max(now[b, _QT] + q[4], peak + 20.0)
        intervals[3, b], intervals[4, b] = qt, qt / rr_s ** (1 / 3)
        intervals[5, b] = (peak - qrs) / rr_s**JTPEAK_EXPONENT
        intervals[6, b], intervals[8, b] = qt - peak, now[b, _T] * math.exp(q[6])
