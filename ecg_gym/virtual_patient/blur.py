"""``blur``: clean readings of any world as strips seen in a harder view would read."""

from __future__ import annotations

import numpy as np

from ecg_gym.look import READ, Look, log_odds
from ecg_gym.philox import fill_uniform
from ecg_gym.virtual_patient.columns import words
from ecg_gym.virtual_patient.readings import CHANCES, N_CLASSES, QUANTITIES, errors
from ecg_gym.virtual_patient.truth import FINDINGS
from ecg_gym.waveform.intervals import JTPEAK_EXPONENT

SIDES = ("Right", "Left")
SIGNS = ("p_present", "regular", "n_beats")
TIMES = tuple(name for name in READ if name not in (*SIGNS, "map_mmhg"))  # a cuff does not look at the strip
PURPOSE = 64  # of the noise, beside the key of the strip


def blur(look: Look, view: np.ndarray, key: np.ndarray) -> Look:
    """Clean readings of any world as strips seen in ``view (B,)`` would read: what the view adds to bias and scatter.

    For worlds that know no heart: the errors are those of sinus rhythm where there are P waves, of fibrillation where
    there are none, and of bundle branch blocks where one is likely. ``key (B,)`` uint64 names each strip's noise.
    """
    table, rhythm, names = errors(), words()["rhythm"], FINDINGS
    rows = np.empty((len(view), 4 + 2 * len(QUANTITIES) + 2 * len(names)))
    counter = np.zeros((len(view), 3), np.uint64)
    counter[:, 2] = view
    fill_uniform(np.stack([key, np.full(len(view), PURPOSE, np.uint64)], axis=1), counter, rows)
    chance, u = rows[:, :4], rows[:, 4:].reshape(len(view), 2, -1)
    normal = np.sqrt(-2 * np.log1p(-u[:, 0])) * np.cos(2 * np.pi * u[:, 1])
    with np.errstate(invalid="ignore"):
        block = (
            look.probabilities[[names.index(f"{side} bundle branch block") for side in ("Right", "Left")]] > 0.5
        ).any(0)
        p = look["p_present"] > 0.5
    group = np.where(p, rhythm.index("sinus"), rhythm.index("af")) * N_CLASSES + block
    square = table.person**2 + table.strip**2
    sd = np.sqrt(np.maximum(square[view, group] - square[0, group], 0.0))
    q = (table.bias[view, group] - table.bias[0, group] + sd * normal[:, : len(QUANTITIES)]).T
    odds = (
        log_odds(look.probabilities)
        + (np.sqrt(np.maximum(table.scatter[view] ** 2 - table.scatter[0] ** 2, 0.0)) * normal[:, len(QUANTITIES) :]).T
    )
    more = np.maximum(table.chance[view, group] - table.chance[0, group], 0.0)
    few, no_t = chance[:, 0] < more[:, CHANCES.index("few_beats")], chance[:, 1] < more[:, CHANCES.index("no_t")]
    fewer = 1 - table.chance[view, group, 1] / np.maximum(table.chance[0, group, 1], 1e-9)
    p = np.where(p, chance[:, 2] >= fewer, chance[:, 2] < more[:, CHANCES.index("p_if_not")])
    out = dict(look)
    jt = look["jtpeakc_ms"] * (60 / look["hr_bpm"]) ** JTPEAK_EXPONENT
    hr = np.maximum(look["hr_bpm"] * (1 + q[0]), 12.0)
    qrs = np.maximum(look["qrs_ms"] + q[2], 30.0)
    peak = look["qrs_ms"] + jt + q[3]
    qt = np.maximum(look["qt_ms"] + q[4], peak + 20.0)
    rr_s = 60 / hr
    pr = np.maximum(np.where(np.isfinite(look["pr_ms"]), look["pr_ms"], 160.0) + q[1], 60.0)
    out |= {
        "hr_bpm": hr, "pr_ms": np.where(p, pr, np.nan), "qrs_ms": qrs, "qt_ms": qt, "qtcf_ms": qt / rr_s ** (1 / 3),
        "jtpeakc_ms": (peak - qrs) / rr_s**JTPEAK_EXPONENT, "tpeak_tend_ms": qt - peak,
        "r_amplitude_mv": look["r_amplitude_mv"] * np.exp(q[5]),
        "t_amplitude_mv": look["t_amplitude_mv"] * np.exp(q[6]), "p_present": p.astype(float),
    }  # fmt: skip
    for name in ("qt_ms", "qtcf_ms", "jtpeakc_ms", "tpeak_tend_ms", "t_amplitude_mv"):
        out[name] = np.where(no_t, np.nan, out[name])
    for name in (*TIMES, *SIGNS):
        absent = 0.0 if name in SIGNS else np.nan
        out[name] = np.where(few | ~np.isfinite(look["hr_bpm"]), absent, out[name])
    return Look(np.stack([out[name] for name in READ]), 1 / (1 + np.exp(-odds)))
